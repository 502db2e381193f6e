-- limit_drain --
-- Bounds this transaction: $1 ms for a statement, $2 ms of idleness, $3 ms of waiting for a lock.
SELECT
    set_config('statement_timeout', $1, true),
    set_config('idle_in_transaction_session_timeout', $2, true),
    set_config('lock_timeout', $3, true),
    set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)

-- try_drain_lock --
-- Whether this transaction has the lock of drains and compaction now.
SELECT try_drain_lock()

-- drained_through --
-- The last arrival that a drain has reached.
SELECT drained_through FROM drain_state

-- drain_position --
-- The last arrival that a drain has reached, and the store of the database (NULL: none was chosen).
SELECT s.drained_through, i.store FROM drain_state AS s CROSS JOIN installation AS i

-- drain_state --
-- What is drained, as `DrainState` has it.
SELECT
    database_epoch() AS epoch,
    s.drained_through,
    greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS last_change
FROM drain_state AS s

-- next_arrivals --
-- The oldest arrivals after $1: at most $2, with at most $3 samples and $4 unpacked bytes, but at least one.
SELECT
    a.id, a.tenant_id, a.kind, a.n_samples, a.first_series, a.last_series, a.first_ms, a.last_ms,
    a.payload
FROM (
    SELECT
        o.*,
        row_number() OVER w AS n,
        sum(o.n_samples) OVER w AS n_samples_until,
        sum(unpacked_bytes(o.payload)) OVER w AS n_bytes_until
    FROM (SELECT * FROM arrival WHERE id > $1 ORDER BY id LIMIT $2) AS o
    WINDOW w AS (ORDER BY o.id ROWS UNBOUNDED PRECEDING)
) AS a
WHERE a.n = 1 OR (a.n_samples_until <= $3 AND a.n_bytes_until <= $4)
ORDER BY a.id

-- delete_arrivals --
-- Deletes exactly these arrivals; returns how many there were.
WITH deleted AS (DELETE FROM arrival WHERE id = ANY($1::bigint[]) RETURNING 1)
SELECT count(*) FROM deleted

-- set_arrival_aside --
-- Leaves an arrival where it is, so that drains pass it; returns how many there were.
WITH passed AS (UPDATE arrival SET is_aside = true WHERE id = $1 RETURNING 1)
SELECT count(*) FROM passed

-- advance_drain --
-- Moves the end of what is drained from $1 to $2; returns how many rows did.
WITH moved AS (
    UPDATE drain_state SET drained_through = $2 WHERE drained_through = $1 RETURNING 1
)
SELECT count(*) FROM moved

-- block_days --
-- The days that have slots.
SELECT coalesce(array_agg(DISTINCT slot >> 3), '{}') FROM block_slot

-- add_block_slots --
-- Notes slots whose blocks will be in partitions; returns those that are new.
WITH added AS (
    INSERT INTO block_slot SELECT * FROM unnest($1::integer[]) ON CONFLICT DO NOTHING RETURNING slot
)
SELECT coalesce(array_agg(slot), '{}') FROM added

-- insert_runs --
-- Inserts pages of many series.
INSERT INTO sample_run (
    slot, tenant_id, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms, payload, n_series
)
SELECT * FROM unnest(
    $1::integer[], $2::integer[], $3::smallint[], $4::boolean[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::bytea[], $14::integer[]
)

-- insert_blocks --
-- Inserts blocks; their slots need partitions.
INSERT INTO sample_block (
    slot, tenant_id, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, series_id, first_ms, last_ms, payload
)
SELECT
    p.slot, p.tenant_id, p.level, p.replaces, p.first_arrival, p.last_arrival, p.deleted_through,
    p.n_samples, p.key, p.first_ms, p.last_ms, p.payload
FROM unnest(
    $1::integer[], $2::integer[], $3::smallint[], $4::boolean[], $5::bigint[], $6::bigint[],
    $7::bigint[], $8::integer[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[],
    $13::bytea[], $14::bigint[]
) AS p (
    slot, tenant_id, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms, payload, key
)

-- note_first_blocks --
-- Logs a change of no samples if slot $1 has no blocks.
INSERT INTO sample_change (tenant_id, first_series, last_series, first_ms, last_ms)
SELECT 0, 0, 0, 0, 0
WHERE NOT EXISTS (SELECT FROM sample_block AS b WHERE b.slot = $1)

-- insert_deletion --
-- Keeps a deletion for what arrived before it.
INSERT INTO sample_deletion (arrival_id, tenant_id, series_ids, first_ms, last_ms)
VALUES ($1, $2, $3, $4, $5)

-- widen_extents --
-- Widens the bounds of tenants and slots to what is being drained.
INSERT INTO drained_extent AS e (tenant_id, slot, first_ms, last_ms)
SELECT * FROM unnest($1::integer[], $2::integer[], $3::bigint[], $4::bigint[])
ON CONFLICT (tenant_id, slot) DO UPDATE SET
    first_ms = least(e.first_ms, excluded.first_ms),
    last_ms = greatest(e.last_ms, excluded.last_ms)

-- insert_changes --
-- Logs what a drain through arrival $6 touched, or retention (NULL): tenants, series and times.
INSERT INTO sample_change (
    tenant_id, first_series, last_series, first_ms, last_ms, drained_through
)
SELECT c.*, $6::bigint
FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS c

-- prune_changes --
-- Forgets changes older than $1 seconds, and notes that. After a step of the clock, later changes may be
-- older.
WITH pruned AS (
    DELETE FROM sample_change
    WHERE changed_at < clock_timestamp() - make_interval(secs => $1)
    RETURNING id
)
UPDATE drain_state
SET changes_pruned_through = greatest(changes_pruned_through, (SELECT max(id) FROM pruned))
WHERE EXISTS (SELECT FROM pruned)

-- stored_pages --
-- The pages of tenant $1 that may have samples of series with the keys $2 (`block_keys`) in ($3, $4], whose
-- slots are $5 to $6 or far, and the deletions to read them with, as rows of source 3. The first row, of
-- source 4, has the state that they belong to: drained_through, the last change, the epoch. There are at
-- most $7 rows in all (NULL: all). The keys are ascending. They come from a subquery: of a constant array
-- the planner would estimate each element, in each partition. For COPY, which takes its snapshot before it
-- plans, and prepared for few pages of few days; the function `few_stored_pages` has the same statement.
WITH wanted AS MATERIALIZED (SELECT $2::bigint[] AS keys)
SELECT
    4::smallint AS source, 0 AS slot, false AS replaces, s.drained_through AS last_arrival,
    greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS first_arrival,
    0::bigint AS first_series, 0::bigint AS last_series, 0::bigint AS first_ms, 0 AS n_samples,
    convert_to(database_epoch(), 'UTF8') AS payload
FROM drain_state AS s
UNION ALL
SELECT
    0::smallint AS source, r.slot, r.replaces, r.last_arrival, r.first_arrival,
    r.first_series, r.last_series, r.first_ms, r.n_samples, r.payload
FROM sample_run AS r
WHERE r.tenant_id = $1
    AND r.last_ms > $3 AND r.first_ms <= $4
    AND width_bucket(r.last_series, (SELECT keys FROM wanted))
        > width_bucket(r.first_series - 1, (SELECT keys FROM wanted))
UNION ALL
SELECT
    1::smallint, 0, b.replaces, b.last_arrival, b.first_arrival,
    b.series_id, b.series_id, b.first_ms, b.n_samples, b.payload
FROM sample_block AS b
WHERE b.series_id = ANY((SELECT keys FROM wanted)::bigint[])
    AND b.last_ms > $3 AND b.first_ms <= $4
    AND b.slot BETWEEN $5 AND $6
UNION ALL
SELECT
    2::smallint, 0, f.replaces, f.last_arrival, f.first_arrival,
    f.series_id, f.series_id, f.first_ms, f.n_samples, f.payload
FROM sample_block AS f
WHERE f.series_id = ANY((SELECT keys FROM wanted)::bigint[])
    AND f.last_ms > $3 AND f.first_ms <= $4
    AND f.slot = -1073741824
UNION ALL
SELECT
    3::smallint, 0, false, d.arrival_id, 0::bigint,
    d.first_ms, d.last_ms, 0::bigint, 0, array_send(d.series_ids)
FROM sample_deletion AS d
WHERE d.tenant_id = $1 AND d.last_ms > $3 AND d.first_ms <= $4
LIMIT $7::bigint

-- few_stored_pages --
-- The same, with one plan that is kept for any days.
SELECT * FROM few_stored_pages($1, $2, $3, $4, $5, $6, $7)

-- drained_bounds --
-- The first and the last time of what is drained of a tenant, or has rollups; NULL if nothing is and has.
SELECT b[1] AS first_ms, b[2] AS last_ms FROM drained_bounds(ARRAY[$1::integer]) AS b

-- compactor --
-- Whether process $1 may compact: nobody else did within $2 seconds. It notes that it does; `is_new`:
-- somebody else was the last one.
UPDATE drain_state AS s
SET compactor = $1, compacted_at = clock_timestamp()
FROM (SELECT compactor FROM drain_state) AS o (compactor)
WHERE s.compactor = $1 OR s.compacted_at < clock_timestamp() - make_interval(secs => $2)
RETURNING o.compactor <> $1 AS is_new

-- run_layers --
-- The layers of runs by tenant and slot, in arrival order.
SELECT tenant_id, slot, last_arrival, level, sum(n_samples)::bigint AS n_samples
FROM sample_run
GROUP BY tenant_id, slot, last_arrival, level
ORDER BY tenant_id, slot, last_arrival, level DESC

-- deletions --
-- The deletions of a tenant that are in force, in their order.
SELECT arrival_id, series_ids, first_ms, last_ms
FROM sample_deletion
WHERE tenant_id = $1
ORDER BY arrival_id

-- extents --
-- How much of each tenant and slot is in blocks, where something is not merged.
SELECT e.tenant_id, e.slot, e.unmerged_samples, e.unmerged_blocks, e.merged_samples
FROM drained_extent AS e
WHERE e.unmerged_samples > 0
    OR EXISTS (
        SELECT FROM sample_run AS r
        WHERE r.tenant_id = e.tenant_id AND r.slot = e.slot AND r.level < 100
    )

-- slots_being_left --
-- The tenants and slots that samples are still to be moved from, into the slots of another class.
SELECT DISTINCT e.tenant_id, e.slot
FROM retention_class AS c
JOIN drained_extent AS e ON e.tenant_id = c.tenant_id
WHERE c.moved_through < e.slot AND c.class <> (e.slot & 7)

-- count_aside --
-- How many arrivals are set aside.
SELECT count(*) FROM arrival WHERE is_aside

-- tenants_with_arrivals_aside --
-- The tenants that have arrivals set aside, with the newest one.
SELECT tenant_id, max(id) AS newest_id FROM arrival WHERE is_aside GROUP BY tenant_id

-- arrival_aside --
-- The first arrival set aside after $1.
SELECT id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, payload
FROM arrival
WHERE is_aside AND id > $1
ORDER BY id
LIMIT 1

-- arrivals_aside --
-- What is known of the arrivals set aside.
SELECT
    a.id, t.name AS tenant, a.kind, a.n_samples, a.first_ms, a.last_ms, octet_length(a.payload) AS n_bytes,
    a.appended_at
FROM arrival AS a
LEFT JOIN tenant AS t ON t.id = a.tenant_id
WHERE a.is_aside
ORDER BY a.id

-- drop_arrival_aside --
-- Deletes an arrival that was set aside; returns its tenant and bounds.
DELETE FROM arrival WHERE is_aside AND id = $1
RETURNING tenant_id, first_series, last_series, first_ms, last_ms

-- has_later_far_samples --
-- Whether samples of tenant $1 from $3 to $4 that arrived after arrival $2 may be stored as far ones.
SELECT
    EXISTS (
        SELECT FROM sample_run
        WHERE tenant_id = $1 AND slot = -1073741824 AND last_arrival > $2
            AND first_ms <= $4 AND last_ms >= $3
    )
    OR EXISTS (
        SELECT FROM sample_block
        WHERE tenant_id = $1 AND slot = -1073741824 AND last_arrival > $2
            AND first_ms <= $4 AND last_ms >= $3
    )

-- settle_levels --
-- Gives the runs of tenant $1 up to arrival $2 at least the level of the later ones of their slot: of two
-- runs that are merged with what came between them, none may be left out.
UPDATE sample_run AS r
SET level = later.level
FROM (
    SELECT slot, max(level) AS level
    FROM sample_run
    WHERE tenant_id = $1 AND last_arrival > $2 AND level < 100
    GROUP BY slot
) AS later
WHERE r.tenant_id = $1 AND r.slot = later.slot AND r.last_arrival <= $2 AND r.level < later.level

-- deletions_applied_through --
-- The last arrival whose deletions are known when one of tenant $1 is worked off.
SELECT least(s.drained_through, (SELECT min(a.id) - 1 FROM arrival AS a WHERE a.is_aside AND a.tenant_id = $1))
FROM drain_state AS s

-- begin_final_merge --
-- The level of a merge that begins.
UPDATE drained_extent SET final_level = greatest(100, (final_level + 1) % 30000)
WHERE tenant_id = $1 AND slot = $2
RETURNING final_level

-- job_runs --
-- The first $5 runs of tenant $1 and slot $2 up to level $3 and arrival $4, after arrival $6, in their order.
SELECT
    id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_run
WHERE tenant_id = $1 AND slot = $2 AND level <= $3 AND last_arrival <= $4 AND last_arrival > $6
ORDER BY first_series, first_ms, id
LIMIT $5

-- job_blocks --
-- The first $5 blocks of tenant $1 and slot $2 up to level $3 and arrival $4, from series $6 on.
SELECT
    ctid::text AS id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, series_id AS first_series, series_id | 15 AS last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_block
WHERE tenant_id = $1 AND slot = $2 AND level <= $3 AND last_arrival <= $4 AND series_id >= $6
ORDER BY series_id, first_ms, last_arrival, replaces
LIMIT $5

-- take_runs --
-- Deletes exactly these runs; returns their payloads.
DELETE FROM sample_run WHERE id = ANY($1::bigint[]) RETURNING id, payload

-- take_blocks --
-- Deletes exactly these blocks of slot $2, by their places; returns them with their payloads.
DELETE FROM sample_block
WHERE slot = $2 AND ctid = ANY($1::text[]::tid[])
RETURNING ctid::text AS id, payload

-- oldest_deletion --
-- The oldest deletion that can be worked off: no older arrival of its tenant is set aside, and its
-- tenant is none of $1.
SELECT d.arrival_id, d.tenant_id, d.series_ids, d.first_ms, d.last_ms
FROM sample_deletion AS d
WHERE NOT EXISTS (
    SELECT FROM arrival AS a
    WHERE a.is_aside AND a.tenant_id = d.tenant_id AND a.id < d.arrival_id
) AND d.tenant_id <> ALL($1::integer[])
ORDER BY d.arrival_id
LIMIT 1

-- deletion_runs --
-- At most $6 runs that a deletion $2 of tenant $1 still has to be applied to.
SELECT
    id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, first_series, last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_run
WHERE tenant_id = $1
    AND greatest(last_arrival, deleted_through) < $2
    AND last_ms >= $4 AND first_ms <= $5
    AND (
        $3::bigint[] IS NULL
        OR width_bucket(last_series, $3) > width_bucket(first_series - 1, $3)
    )
LIMIT $6

-- deletion_blocks --
-- The same for blocks, of slots $7 to $8.
SELECT
    ctid::text AS id, tenant_id, slot, level, replaces, first_arrival, last_arrival, deleted_through,
    n_samples, series_id AS first_series, series_id | 15 AS last_series, first_ms, last_ms,
    octet_length(payload) AS n_bytes
FROM sample_block
WHERE tenant_id = $1
    AND greatest(last_arrival, deleted_through) < $2
    AND last_ms >= $4 AND first_ms <= $5
    AND ($3::bigint[] IS NULL OR series_id = ANY(block_keys($3)))
    AND slot BETWEEN $7 AND $8
LIMIT $6

-- finish_deletion --
-- Forgets a deletion that has been applied to everything; its series may have no sample left.
WITH finished AS (DELETE FROM sample_deletion WHERE arrival_id = $1)
UPDATE orphan_search SET n_asked = n_asked + 1

-- count_blocks --
-- Counts blocks that were written or deleted, unmerged and merged ones.
UPDATE drained_extent SET
    unmerged_samples = unmerged_samples + $3,
    unmerged_blocks = unmerged_blocks + $4,
    merged_samples = merged_samples + $5
WHERE tenant_id = $1 AND slot = $2

-- create_block_partition --
-- Makes the partition of a slot; false if it is there already.
SELECT create_block_partition($1)

-- has_undrained_before --
-- Whether samples before a time wait for a drain.
SELECT EXISTS (
    SELECT FROM arrival
    WHERE first_ms < $1 AND kind <> 3 AND id > (SELECT drained_through FROM drain_state)
)

-- log_dropped_slot --
-- Logs that the samples of a near slot are gone, for every tenant that has any.
INSERT INTO sample_change (tenant_id, first_series, last_series, first_ms, last_ms)
SELECT tenant_id, -9223372036854775808, 9223372036854775807, first_ms, last_ms
FROM drained_extent
WHERE slot = $1

-- drop_block_partition --
-- Drops the partition of a slot.
SELECT drop_block_partition($1)

-- delete_runs_of_slot --
-- Deletes the runs of a near slot.
DELETE FROM sample_run WHERE slot = $1

-- forget_block_slot --
-- Forgets a near slot, and the bounds of its samples.
WITH forgotten AS (DELETE FROM block_slot WHERE slot = $1)
DELETE FROM drained_extent WHERE slot = $1

-- log_clipped_extents --
-- Logs that the samples of tenant $3 and slot $2 before $1 are gone, if it has any.
INSERT INTO sample_change (tenant_id, first_series, last_series, first_ms, last_ms)
SELECT tenant_id, -9223372036854775808, 9223372036854775807, first_ms, least(last_ms, $1::bigint - 1)
FROM drained_extent
WHERE slot = $2 AND tenant_id = $3 AND first_ms < $1

-- clip_extents --
-- Narrows the bounds of tenant $3 and slot $2 to what is left from $1 on.
WITH forgotten AS (DELETE FROM drained_extent WHERE slot = $2 AND tenant_id = $3 AND last_ms < $1)
UPDATE drained_extent SET first_ms = $1::bigint
WHERE slot = $2 AND tenant_id = $3 AND first_ms < $1 AND last_ms >= $1

-- series_with_blocks --
-- Which of the series $1 have a block. One that is found by another key than that of a group has one series.
SELECT coalesce(array_agg(w.id ORDER BY w.id), '{}')
FROM unnest($1::bigint[]) AS w (id)
WHERE EXISTS (
    SELECT FROM sample_block AS b
    WHERE b.series_id IN (w.id, w.id & -16)
        AND (b.series_id & 15 <> 0 OR w.id = ANY(page_series(b.payload)))
)

-- runs_of_series --
-- At most $4 runs of tenant $1 that may have samples of the series $2, after run $3, with the bounds of their series.
SELECT id, first_series, last_series, payload
FROM sample_run
WHERE tenant_id = $1 AND id > $3
    AND width_bucket(last_series, $2::bigint[]) > width_bucket(first_series - 1, $2::bigint[])
ORDER BY id
LIMIT $4

-- slots_between --
-- The slots from $1 on and before $2 that have partitions.
SELECT coalesce(array_agg(slot), '{}') FROM block_slot WHERE slot >= $1 AND slot < $2
