-- classes --
-- The classes of tenants $1: of all their metrics (series NULL), and of series $2 to $3 of metrics that
-- have one of their own.
SELECT c.tenant_id, NULL::bigint AS series_id, c.class
FROM retention_class AS c
WHERE c.tenant_id = ANY($1::integer[]) AND c.metric_name = ''
UNION ALL
SELECT c.tenant_id, s.id, c.class
FROM retention_class AS c
JOIN series AS s ON s.tenant_id = c.tenant_id AND s.metric_name = c.metric_name
WHERE c.tenant_id = ANY($1::integer[]) AND c.metric_name <> '' AND s.id BETWEEN $2 AND $3

-- retentions --
-- How many days the samples of tenants (metric '') and of metrics are kept, where somebody said so.
SELECT t.id AS tenant_id, '' AS metric_name, t.retention_days
FROM tenant AS t
WHERE t.retention_days IS NOT NULL
UNION ALL
SELECT d.tenant_id, d.name, d.retention_days
FROM metric_definition AS d
WHERE d.retention_days IS NOT NULL
ORDER BY tenant_id, metric_name

-- assigned_classes --
-- The classes that tenants (metric '') and metrics have, and whether samples are still being moved.
SELECT tenant_id, metric_name, class, moved_through IS NOT NULL AS is_moving
FROM retention_class
ORDER BY tenant_id, metric_name

-- assign_class --
-- Gives metric $2 of tenant $1 class $3; its samples of other classes are moved after slot $4 (NULL: it
-- has none).
INSERT INTO retention_class (tenant_id, metric_name, class, moved_through)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, metric_name) DO UPDATE SET
    class = excluded.class, moved_through = excluded.moved_through

-- forget_class --
-- Metric $2 of tenant $1 has the class of its tenant.
DELETE FROM retention_class WHERE tenant_id = $1 AND metric_name = $2

-- moving_classes --
-- The metrics whose samples are still being moved into another class.
SELECT tenant_id, metric_name, class, moved_through
FROM retention_class
WHERE moved_through IS NOT NULL
ORDER BY tenant_id, metric_name

-- slot_to_move --
-- The first slot after $2 in which tenant $1 has samples of another class than $3.
SELECT min(slot) FROM drained_extent
WHERE tenant_id = $1 AND slot > $2 AND slot > -1073741824 AND (slot & 7) <> $3

-- series_to_move --
-- At most $4 series of metric $2 of tenant $1 ('': of all metrics without a class of their own), from id $3
-- on.
SELECT coalesce(array_agg(f.id ORDER BY f.id), '{}')
FROM (
    SELECT s.id
    FROM series AS s
    WHERE s.tenant_id = $1 AND s.id >= $3 AND CASE
        WHEN $2 <> '' THEN s.metric_name = $2
        ELSE NOT EXISTS (
            SELECT FROM retention_class AS c
            WHERE c.tenant_id = s.tenant_id AND c.metric_name = s.metric_name AND c.metric_name <> ''
        )
    END
    ORDER BY s.id
    LIMIT $4
) AS f

-- runs_to_move --
-- The runs of tenant $1 and slot $2 that may have samples of the series $3, ascending.
SELECT
    id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_run
WHERE tenant_id = $1 AND slot = $2
    AND width_bucket(last_series, $3::bigint[]) > width_bucket(first_series - 1, $3::bigint[])
ORDER BY first_series, id

-- blocks_to_move --
-- The blocks of tenant $1 and slot $2 that may have samples of the series $3.
SELECT
    ctid::text AS id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, series_id AS first_series, series_id | 15 AS last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_block
WHERE tenant_id = $1 AND slot = $2 AND series_id = ANY(block_keys($3))
ORDER BY series_id, first_ms, last_arrival, replaces

-- receive_samples --
-- Widens the bounds of slot $2 of tenant $1 to those of slot $3, from which samples are being moved.
INSERT INTO drained_extent AS e (tenant_id, slot, first_ms, last_ms, final_level)
SELECT o.tenant_id, $2, o.first_ms, o.last_ms, o.final_level
FROM drained_extent AS o
WHERE o.tenant_id = $1 AND o.slot = $3
ON CONFLICT (tenant_id, slot) DO UPDATE SET
    first_ms = least(e.first_ms, excluded.first_ms),
    last_ms = greatest(e.last_ms, excluded.last_ms),
    final_level = greatest(e.final_level, excluded.final_level)

-- least_level --
-- The level that runs need which are moved to slot $2 of tenant $1: of two runs that are merged with what
-- came between them, none may be left out, so it is at least that of the later ones.
SELECT greatest(
    (SELECT max(r.level) FROM sample_run AS r WHERE r.tenant_id = $1 AND r.slot = $2),
    CASE WHEN e.final_level >= 100 THEN e.final_level ELSE 0 END
)
FROM drained_extent AS e
WHERE e.tenant_id = $1 AND e.slot = $2

-- end_merges --
-- Ends the merge that a process may be in the middle of: it begins again with what there is now.
UPDATE drain_state SET compactor = '', compacted_at = '-infinity'

-- moved_through --
-- The samples of metric $2 of tenant $1 have been moved in all slots up to $3 (NULL: everywhere).
UPDATE retention_class SET moved_through = $3 WHERE tenant_id = $1 AND metric_name = $2

-- expired_slots --
-- The slots that ended before their class keeps samples, the oldest first: $1 are classes, and $2 the
-- first days that they keep. Not those with samples that still have to be moved into another class.
SELECT b.slot
FROM block_slot AS b
JOIN unnest($1::integer[], $2::integer[]) AS k (class, first_day) ON k.class = (b.slot & 7)
WHERE (b.slot >> 3) < k.first_day
    AND NOT EXISTS (
        SELECT
        FROM retention_class AS c
        JOIN drained_extent AS e ON e.tenant_id = c.tenant_id AND e.slot = b.slot
        WHERE c.moved_through < b.slot AND c.class <> (b.slot & 7)
    )
ORDER BY b.slot

-- slots_of_classes --
-- The slots with samples of the tenants $1 that are in the classes $2.
SELECT DISTINCT e.slot
FROM unnest($1::integer[], $2::integer[]) AS k (tenant_id, class)
JOIN drained_extent AS e ON e.tenant_id = k.tenant_id AND (e.slot & 7) = k.class

-- slots_without_rollups --
-- Those of the slots $1 that have days of tenants which are not rolled up.
SELECT coalesce(array_agg(s.slot), '{}')
FROM unnest($1::integer[]) AS s (slot)
WHERE EXISTS (
    SELECT
    FROM drained_extent AS e
    JOIN rollup_day AS d ON d.tenant_id = e.tenant_id AND d.day = e.slot >> 3
    WHERE e.slot = s.slot AND d.rolled_through < 9223372036854775807
)

-- far_limits --
-- For each tenant with far samples, the longest of its retentions in days (0: forever), where $1 is that of
-- the service.
SELECT e.tenant_id, CASE WHEN bool_or(r.days = 0) THEN 0 ELSE max(r.days) END AS days
FROM drained_extent AS e
LEFT JOIN tenant AS t ON t.id = e.tenant_id
CROSS JOIN LATERAL (
    SELECT coalesce(t.retention_days, $1::integer) AS days
    UNION ALL
    SELECT d.retention_days
    FROM metric_definition AS d
    WHERE d.tenant_id = t.id AND d.retention_days IS NOT NULL
) AS r
WHERE e.slot = -1073741824
GROUP BY e.tenant_id

-- delete_far_runs --
-- Deletes at most $3 far runs of tenant $1 that end before $2; returns how many, and their bounds.
WITH deleted AS (
    DELETE FROM sample_run
    WHERE id IN (
        SELECT id
        FROM sample_run
        WHERE tenant_id = $1 AND slot = -1073741824 AND last_ms < $2
        ORDER BY id
        LIMIT $3
    )
    RETURNING first_series, last_series, first_ms, last_ms
)
SELECT
    count(*) AS n, min(first_series) AS first_series, max(last_series) AS last_series,
    min(first_ms) AS first_ms, max(last_ms) AS last_ms
FROM deleted

-- far_runs_around --
-- At most $3 far runs of tenant $1 that begin before $2 and end after it.
SELECT
    id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms
FROM sample_run
WHERE tenant_id = $1 AND slot = -1073741824 AND first_ms < $2 AND last_ms >= $2
ORDER BY id
LIMIT $3

-- delete_far_blocks --
-- Deletes far blocks of tenant $1 that ended before their metric keeps samples: $2 are metrics with a
-- retention of their own, $3 the times in ms from which they are kept, $4 is that of the others. At most $5,
-- of series from $6 on; returns how many, their bounds, and what `count_blocks` counts of them.
WITH expired AS (
    SELECT b.ctid, b.series_id
    FROM sample_block AS b
    LEFT JOIN series AS s ON s.id = b.series_id
    LEFT JOIN unnest($2::text[], $3::bigint[]) AS k (name, from_ms) ON k.name = s.metric_name
    WHERE b.slot = -1073741824 AND b.tenant_id = $1 AND b.series_id >= $6
        AND b.last_ms < coalesce(k.from_ms, $4)
    ORDER BY b.series_id
    LIMIT $5
),
deleted AS (
    DELETE FROM sample_block AS b
    WHERE b.slot = -1073741824 AND b.ctid IN (SELECT ctid FROM expired)
    RETURNING b.series_id, b.first_ms, b.last_ms, b.n_samples, b.level
)
SELECT
    count(*) AS n, min(series_id) AS first_series, max(series_id) AS last_series,
    min(first_ms) AS first_ms, max(last_ms) AS last_ms,
    coalesce(sum(n_samples) FILTER (WHERE level < 100), 0)::bigint AS unmerged_samples,
    count(*) FILTER (WHERE level < 100) AS unmerged_blocks,
    coalesce(sum(n_samples) FILTER (WHERE level >= 100), 0)::bigint AS merged_samples
FROM deleted

-- count_far_pages --
-- How many far pages of tenant $1 are deleted or clipped: blocks as of `delete_far_blocks` with $2, $3 and
-- $4, and runs that begin before $5.
SELECT
    (
        SELECT count(*)
        FROM sample_block AS b
        LEFT JOIN series AS s ON s.id = b.series_id
        LEFT JOIN unnest($2::text[], $3::bigint[]) AS k (name, from_ms) ON k.name = s.metric_name
        WHERE b.slot = -1073741824 AND b.tenant_id = $1 AND b.last_ms < coalesce(k.from_ms, $4)
    )
    + (
        SELECT count(*)
        FROM sample_run AS r
        WHERE r.tenant_id = $1 AND r.slot = -1073741824 AND r.first_ms < $5
    )

-- ask_for_orphans --
-- Notes that series may have lost their last sample.
UPDATE orphan_search SET n_asked = n_asked + 1

-- begin_orphan_search --
-- The last series that the search for orphans has looked at; no row if none is due.
UPDATE orphan_search
SET n_seen = CASE WHEN looked_through = 0 THEN n_asked ELSE n_seen END
WHERE n_asked > n_answered
RETURNING looked_through

-- continue_orphan_search --
-- The search for orphans has looked at all series up to $1.
UPDATE orphan_search SET looked_through = $1

-- end_orphan_search --
-- The search has looked at all series.
UPDATE orphan_search SET looked_through = 0, n_answered = n_seen

-- is_orphan_search_due --
-- The last series that the search for orphans has looked at; NULL if none is due.
SELECT looked_through FROM orphan_search WHERE n_asked > n_answered

-- retentions_of_tenant --
-- How many days the samples of tenant $1 (metric '') and of its metrics are kept, where somebody said so.
SELECT '' AS metric_name, t.retention_days
FROM tenant AS t
WHERE t.id = $1 AND t.retention_days IS NOT NULL
UNION ALL
SELECT d.name, d.retention_days
FROM metric_definition AS d
WHERE d.tenant_id = $1 AND d.retention_days IS NOT NULL

-- names_of_series --
-- Those of the series $1 whose metrics are among $2, with their metrics.
SELECT id, metric_name FROM series WHERE id = ANY($1::bigint[]) AND metric_name = ANY($2::text[])

-- set_service_retention --
-- Tells SQL readers how many days the service keeps samples, and rollups.
UPDATE service_retention SET days = $1, rollup_days = $2
WHERE days <> $1 OR rollup_days IS DISTINCT FROM $2

-- set_tenant_retention --
-- Sets the retention of tenant $1 in days (0: forever; NULL: that of the service); no row if there is none.
UPDATE tenant SET retention_days = $2 WHERE name = $1 RETURNING id

-- tenant_retention --
-- The retention of tenant $1 in days.
SELECT retention_days FROM tenant WHERE id = $1

-- tenant_retentions --
-- All tenants with their retention, by name.
SELECT name, retention_days FROM tenant ORDER BY name

-- row_retentions --
-- How many days the rows of tenants (metric '') and of metrics are kept, whether they or only the service
-- ($1 days) say so, and before when they are deleted, Unix ms.
SELECT
    r.tenant_id, r.metric_name, coalesce(r.days, $1::integer) AS days, r.days IS NOT NULL AS is_own,
    coalesce(m.deleted_before_ms, -62135596800000) AS deleted_before_ms
FROM (
    SELECT t.id AS tenant_id, '' AS metric_name, t.retention_days AS days
    FROM tenant AS t
    UNION ALL
    SELECT d.tenant_id, d.name, d.retention_days
    FROM metric_definition AS d
    WHERE d.retention_days IS NOT NULL
) AS r
LEFT JOIN row_retention AS m ON m.tenant_id = r.tenant_id AND m.metric_name = r.metric_name
ORDER BY r.tenant_id, r.metric_name

-- begin_row_deletion --
-- The rows of metric $2 of tenant $1 before $3 ms are being deleted.
INSERT INTO row_retention (tenant_id, metric_name, deleted_before_ms, deleting_before_ms)
VALUES ($1, $2, -62135596800000, $3)
ON CONFLICT (tenant_id, metric_name) DO UPDATE SET deleting_before_ms = excluded.deleting_before_ms

-- end_row_deletion --
-- They are deleted, but for those that a drain has added meanwhile.
UPDATE row_retention SET deleted_before_ms = deleting_before_ms
WHERE tenant_id = $1 AND metric_name = $2

-- note_old_rows --
-- Rows of tenants $1 from $2 ms on are being added, where rows may have been deleted already.
UPDATE row_retention AS r
SET deleted_before_ms = least(r.deleted_before_ms, a.first_ms),
    deleting_before_ms = least(r.deleting_before_ms, a.first_ms)
FROM unnest($1::integer[], $2::bigint[]) AS a (tenant_id, first_ms)
WHERE r.tenant_id = a.tenant_id AND r.deleting_before_ms > a.first_ms

-- series_kept_alike --
-- The series of metric $2 of tenant $1 ('': of all metrics without a retention of their own).
SELECT coalesce(array_agg(s.id ORDER BY s.id), '{}')
FROM series AS s
WHERE s.tenant_id = $1 AND CASE
    WHEN $2 <> '' THEN s.metric_name = $2
    ELSE NOT EXISTS (
        SELECT FROM metric_definition AS d
        WHERE d.tenant_id = s.tenant_id AND d.name = s.metric_name AND d.retention_days IS NOT NULL
    )
END
