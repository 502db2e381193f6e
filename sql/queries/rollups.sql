-- note_touched --
-- Marks what is rolled up of these tenants, series and times, which have changed; all bounds are
-- inclusive. A range within one day also registers that day, as one that has samples.
WITH touched AS (
    SELECT
        t.*,
        floor(t.first_ms / 86400000.0)::integer AS first_day,
        floor(t.last_ms / 86400000.0)::integer AS last_day
    FROM unnest(
        $1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[],
        $7::bigint[]
    ) AS t (tenant_id, first_series, last_series, first_ms, last_ms, is_deletion, deletion_id)
),
registered AS (
    INSERT INTO rollup_day (tenant_id, day)
    SELECT DISTINCT tenant_id, first_day FROM touched WHERE first_day = last_day LIMIT 10000
    ON CONFLICT DO NOTHING
)
INSERT INTO rollup_mark (
    tenant_id, day, first_series, last_series, first_ms, last_ms, is_deletion, deletion_id
)
SELECT
    t.tenant_id, d.day, t.first_series, t.last_series,
    greatest(t.first_ms, d.day * 86400000::bigint),
    least(t.last_ms, d.day * 86400000::bigint + 86399999),
    t.is_deletion, t.deletion_id
FROM touched AS t
JOIN rollup_day AS d
    ON d.tenant_id = t.tenant_id AND d.day BETWEEN t.first_day AND t.last_day
WHERE d.rolled_through >= t.first_series AND d.rolled_through > -9223372036854775808

-- note_deleted_series --
-- Notes the series $2 of the deletions with the arrivals $1.
INSERT INTO rollup_deletion (arrival_id, series_ids)
SELECT * FROM unnest($1::bigint[], $2::bytea[])
ON CONFLICT (arrival_id) DO UPDATE SET series_ids = excluded.series_ids

-- delete_left_deletions --
-- Deletes the series of deletions without marks.
DELETE FROM rollup_deletion
WHERE NOT EXISTS (SELECT FROM rollup_mark AS m WHERE m.deletion_id = arrival_id)

-- forget_rolled_days --
-- Forgets the days before $1 of tenant $2 (NULL: of all), whose samples are gone.
WITH marks AS (
    DELETE FROM rollup_mark WHERE day < $1 AND ($2::integer IS NULL OR tenant_id = $2)
)
DELETE FROM rollup_day WHERE day < $1 AND ($2::integer IS NULL OR tenant_id = $2)

-- note_dropped_slot --
-- Marks what is rolled up of the samples in near slot $1: of the series whose metrics have its class, as
-- at most $2 ranges of each tenant. Of a tenant without other samples of the day, the day is forgotten.
WITH gone AS MATERIALIZED (
    SELECT e.tenant_id, $1::integer >> 3 AS day, e.first_ms, e.last_ms, EXISTS (
        SELECT FROM drained_extent AS o
        WHERE o.tenant_id = e.tenant_id AND o.slot <> e.slot AND o.slot >> 3 = e.slot >> 3
    ) AS has_others
    FROM drained_extent AS e
    WHERE e.slot = $1
),
forgotten_marks AS (
    DELETE FROM rollup_mark AS m
    USING gone AS g
    WHERE m.tenant_id = g.tenant_id AND m.day = g.day AND NOT g.has_others
),
forgotten_days AS (
    DELETE FROM rollup_day AS d
    USING gone AS g
    WHERE d.tenant_id = g.tenant_id AND d.day = g.day AND NOT g.has_others
),
member AS (
    SELECT
        s.tenant_id, s.id,
        coalesce(m.class, t.class, 0) = ($1::integer & 7) AS is_gone,
        row_number() OVER (PARTITION BY s.tenant_id ORDER BY s.id) AS n
    FROM gone AS g
    JOIN rollup_day AS d ON d.tenant_id = g.tenant_id AND d.day = g.day
    JOIN series AS s ON s.tenant_id = g.tenant_id AND s.id <= d.rolled_through
    LEFT JOIN retention_class AS m
        ON m.tenant_id = s.tenant_id AND m.metric_name = s.metric_name AND m.metric_name <> ''
    LEFT JOIN retention_class AS t ON t.tenant_id = s.tenant_id AND t.metric_name = ''
    WHERE g.has_others
),
numbered AS (
    SELECT
        tenant_id, id,
        n - row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS island
    FROM member
    WHERE is_gone
),
island AS (
    SELECT
        tenant_id, min(id) AS first_series, max(id) AS last_series,
        row_number() OVER (PARTITION BY tenant_id ORDER BY min(id)) - 1 AS n,
        count(*) OVER (PARTITION BY tenant_id) AS n_islands
    FROM numbered
    GROUP BY tenant_id, island
)
INSERT INTO rollup_mark (tenant_id, day, first_series, last_series, first_ms, last_ms)
SELECT g.tenant_id, g.day, min(i.first_series), max(i.last_series), g.first_ms, g.last_ms
FROM island AS i
JOIN gone AS g ON g.tenant_id = i.tenant_id
GROUP BY
    g.tenant_id, g.day, g.first_ms, g.last_ms, i.n * $2::integer / greatest(i.n_islands, $2::integer)

-- due_days --
-- How many days of tenants are to be rolled up, of those before $1, or have marks.
SELECT
    (SELECT count(*) FROM rollup_day WHERE rolled_through < 9223372036854775807 AND day < $1)
    + (SELECT count(*) FROM (SELECT DISTINCT tenant_id, day FROM rollup_mark) AS m)

-- open_day --
-- The first day before $1 that is not rolled up, without those of the tenants and days $2, $3.
SELECT d.tenant_id, d.day
FROM rollup_day AS d
WHERE d.rolled_through < 9223372036854775807 AND d.day < $1
    AND NOT EXISTS (
        SELECT FROM unnest($2::integer[], $3::integer[]) AS g (tenant_id, day)
        WHERE g.tenant_id = d.tenant_id AND g.day = d.day
    )
ORDER BY d.tenant_id, d.day
LIMIT 1

-- days_as_open_as --
-- The days $2 to $3 of tenant $1 that are rolled up as far as day $2, and how far that is.
SELECT array_agg(d.day ORDER BY d.day) AS days, max(d.rolled_through) AS rolled_through
FROM rollup_day AS d
WHERE d.tenant_id = $1 AND d.day BETWEEN $2 AND $3 AND d.rolled_through = (
    SELECT o.rolled_through FROM rollup_day AS o WHERE o.tenant_id = $1 AND o.day = $2
)

-- series_to_roll_up --
-- At most $3 series of tenant $1 after series $2.
SELECT coalesce(array_agg(o.id ORDER BY o.id), '{}')
FROM (SELECT id FROM series WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3) AS o

-- advance_days --
-- Notes how far the days $2 of tenant $1 are rolled up.
UPDATE rollup_day SET rolled_through = $3 WHERE tenant_id = $1 AND day = ANY($2::integer[])

-- marked_day --
-- The tenant and day with the oldest mark, without those of the tenants and days $1, $2.
SELECT m.tenant_id, m.day
FROM rollup_mark AS m
WHERE NOT EXISTS (
    SELECT FROM unnest($1::integer[], $2::integer[]) AS g (tenant_id, day)
    WHERE g.tenant_id = m.tenant_id AND g.day = m.day
)
ORDER BY m.id
LIMIT 1

-- marked_series --
-- At most $3 of the first series of tenant $1 that have a mark on day $2.
SELECT coalesce(array_agg(o.id ORDER BY o.id), '{}')
FROM (
    SELECT s.id
    FROM series AS s
    WHERE s.tenant_id = $1 AND EXISTS (
        SELECT FROM rollup_mark AS m
        WHERE m.tenant_id = $1 AND m.day = $2 AND s.id BETWEEN m.first_series AND m.last_series
    )
    ORDER BY s.id
    LIMIT $3
) AS o

-- erase_marks --
-- Erases what tenant $1 has marked of day $2, up to series $3.
WITH erased AS (
    DELETE FROM rollup_mark WHERE tenant_id = $1 AND day = $2 AND last_series <= $3
)
UPDATE rollup_mark SET first_series = least($3::bigint, 9223372036854775806) + 1
WHERE tenant_id = $1 AND day = $2 AND first_series <= $3 AND last_series > $3

-- renew_version --
-- Says that rollups of tenant $1 have changed.
INSERT INTO rollup_version (tenant_id) VALUES ($1)
ON CONFLICT (tenant_id) DO UPDATE SET version = DEFAULT

-- deletion_marks --
-- The deletions that are marked of the days $2 of tenant $1; which series, or NULL for all of the range.
SELECT m.first_series, m.last_series, m.first_ms, m.last_ms, d.series_ids
FROM rollup_mark AS m
LEFT JOIN rollup_deletion AS d ON d.arrival_id = m.deletion_id
WHERE m.tenant_id = $1 AND m.day = ANY($2::integer[]) AND m.is_deletion

-- rollups_of --
-- The rows of buckets $1 of the series $2 (ascending ids) and periods $3 to $4.
SELECT r.series_id, r.period, r.ends, r.extremes, r.sums
FROM sample_rollup AS r
WHERE r.bucket_seconds = $1 AND r.series_id = ANY($2::bigint[]) AND r.period BETWEEN $3 AND $4
ORDER BY r.series_id, r.period

-- delete_rollups --
-- Deletes the same rows.
DELETE FROM sample_rollup AS r
WHERE r.bucket_seconds = $1 AND r.series_id = ANY($2::bigint[]) AND r.period BETWEEN $3 AND $4

-- insert_rollups --
-- Inserts rows of buckets $1 of tenant $2.
INSERT INTO sample_rollup (
    bucket_seconds, tenant_id, series_id, period, ends, extremes, sums
)
SELECT $1, $2, r.*
FROM unnest($3::bigint[], $4::integer[], $5::bytea[], $6::bytea[], $7::bytea[]) AS r

-- delete_hours --
-- Deletes the hours of the series $1 from hour $2 (since 1970-01-01) on and before hour $3.
DELETE FROM sample_hour
WHERE series_id = ANY($1::bigint[])
    AND bucket >= from_unix_ms($2::bigint * 3600000) AND bucket < from_unix_ms($3::bigint * 3600000)

-- delete_hours_of_series --
-- Deletes the hours $2 (since 1970-01-01) of the series $1, one of each.
DELETE FROM sample_hour AS h
USING unnest($1::bigint[], $2::bigint[]) AS d (series_id, hour)
WHERE h.series_id = d.series_id AND h.bucket = from_unix_ms(d.hour * 3600000)

-- insert_hours --
-- Inserts hours of tenant $1.
INSERT INTO sample_hour (
    tenant_id, bucket, series_id, count, min, max, sum, first, last, increase
)
SELECT
    $1, from_unix_ms(h.hour * 3600000), h.series_id, h.count, h.low, h.high, h.total, h.first, h.last,
    h.increase
FROM unnest(
    $2::bigint[], $3::bigint[], $4::integer[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
    $9::float8[], $10::float8[]
) AS h (hour, series_id, count, low, high, total, first, last, increase)

-- delete_left_rollups --
-- Deletes at most $2 rows of buckets $1 whose days are forgotten, with the hours of the series and days of
-- rows of 5 minutes; $3 days are in a period. Returns how many rows. The periods of tenants are found by a
-- loose index scan, one probe each.
WITH RECURSIVE held AS (
    (
        SELECT tenant_id, period
        FROM sample_rollup
        WHERE bucket_seconds = $1
        ORDER BY tenant_id, period
        LIMIT 1
    )
    UNION ALL
    SELECT n.tenant_id, n.period
    FROM held AS h
    CROSS JOIN LATERAL (
        SELECT r.tenant_id, r.period
        FROM sample_rollup AS r
        WHERE r.bucket_seconds = $1 AND (r.tenant_id, r.period) > (h.tenant_id, h.period)
        ORDER BY r.tenant_id, r.period
        LIMIT 1
    ) AS n
),
deleted AS (
    DELETE FROM sample_rollup
    WHERE ctid IN (
        SELECT r.ctid
        FROM held AS p
        JOIN sample_rollup AS r
            ON r.bucket_seconds = $1 AND r.tenant_id = p.tenant_id AND r.period = p.period
        WHERE NOT EXISTS (
            SELECT FROM rollup_day AS d
            WHERE d.tenant_id = p.tenant_id
                AND d.day BETWEEN p.period * $3::integer AND p.period * $3::integer + $3::integer - 1
        )
        LIMIT $2
    )
    RETURNING series_id, period
),
hours AS (
    DELETE FROM sample_hour AS h
    USING deleted AS d
    WHERE $1 = 300 AND h.series_id = d.series_id
        AND h.bucket >= from_unix_ms(d.period * 86400000::bigint)
        AND h.bucket < from_unix_ms((d.period + 1) * 86400000::bigint)
)
SELECT count(*) FROM deleted

-- delete_left_hours --
-- Deletes at most $1 hours before every day that is known, which earlier versions left; returns how many.
WITH deleted AS (
    DELETE FROM sample_hour
    WHERE ctid IN (
        SELECT h.ctid
        FROM sample_hour AS h
        WHERE h.bucket < coalesce(
            (SELECT from_unix_ms(min(day) * 86400000::bigint) FROM rollup_day), 'infinity'
        )
        LIMIT $1
    )
    RETURNING 1
)
SELECT count(*) FROM deleted

-- rolled_pages --
-- The days $2 to $3 of tenant $1 that are rolled up, and the state that their samples belong to; what is
-- marked on them for series $6 (ascending ids), as arrays of day, first and last series, and 1 for a
-- deletion; and unless the rollups of the tenant have version $9, the payloads of number $4 (0: ends,
-- 1: extremes, 2: sums) of buckets $5, these series and periods $7 to $8, in the order of series and period.
SELECT
    database_epoch() AS epoch, s.drained_through,
    greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS last_change,
    ARRAY(
        SELECT d.day
        FROM rollup_day AS d
        WHERE d.tenant_id = $1 AND d.day BETWEEN $2 AND $3 AND d.rolled_through = 9223372036854775807
        ORDER BY d.day
    ) AS days,
    ARRAY(
        SELECT DISTINCT ARRAY[m.day, m.first_series, m.last_series, m.is_deletion::integer]
        FROM rollup_mark AS m
        WHERE m.tenant_id = $1 AND m.day BETWEEN $2 AND $3
            AND m.last_series >= ($6::bigint[])[1]
            AND m.first_series <= ($6::bigint[])[cardinality($6::bigint[])]
    ) AS marks,
    v.version,
    CASE
        WHEN v.version IS DISTINCT FROM $9 THEN ARRAY(
            SELECT CASE $4::integer WHEN 0 THEN r.ends WHEN 1 THEN r.extremes ELSE r.sums END
            FROM sample_rollup AS r
            WHERE r.bucket_seconds = $5 AND r.series_id = ANY($6::bigint[])
                AND r.period BETWEEN $7 AND $8
            ORDER BY r.series_id, r.period
        )
    END AS payloads
FROM drain_state AS s
CROSS JOIN (
    SELECT coalesce(max(o.version), 0) AS version FROM rollup_version AS o WHERE o.tenant_id = $1
) AS v

-- rollup_keys --
-- The rows that these payloads are of, number $1 of buckets $2, series $3 and periods $4 to $5, without empty
-- ones and in their order: buckets, series and period; and the state that they belong to.
SELECT
    database_epoch() AS epoch, s.drained_through,
    greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS last_change,
    ARRAY(
        SELECT ARRAY[r.bucket_seconds, r.series_id, r.period]
        FROM sample_rollup AS r
        WHERE r.bucket_seconds = $2 AND r.series_id = ANY($3::bigint[]) AND r.period BETWEEN $4 AND $5
            AND CASE $1::integer WHEN 0 THEN r.ends WHEN 1 THEN r.extremes ELSE r.sums END <> ''
        ORDER BY r.series_id, r.period
    ) AS keys
FROM drain_state AS s

-- tenants_with_rollups --
-- The tenants that have rollups.
SELECT coalesce(array_agg(t.id ORDER BY t.id), '{}')
FROM tenant AS t
WHERE EXISTS (SELECT FROM rollup_day AS d WHERE d.tenant_id = t.id)
    OR EXISTS (SELECT FROM sample_hour AS h WHERE h.tenant_id = t.id)

-- count_expired_hours --
-- How many hours of tenant $1 are past their retention: $2 are metrics with a first day of their own, $3
-- these days, $4 is that of the others. The latest of these days bounds what is looked at.
SELECT count(*)
FROM sample_hour AS h
JOIN series AS s ON s.id = h.series_id
LEFT JOIN unnest($2::text[], $3::integer[]) AS k (name, first_day) ON k.name = s.metric_name
WHERE h.tenant_id = $1
    AND h.bucket < '1970-01-01 00:00:00+00'::timestamptz
        + 24 * (SELECT max(d) FROM unnest($3::integer[] || $4::integer) AS d) * interval '1 hour'
    AND h.bucket < '1970-01-01 00:00:00+00'::timestamptz
        + 24 * coalesce(k.first_day, $4::integer) * interval '1 hour'

-- delete_expired_hours --
-- Deletes at most $5 of these hours; returns how many.
WITH deleted AS (
    DELETE FROM sample_hour
    WHERE ctid IN (
        SELECT h.ctid
        FROM sample_hour AS h
        JOIN series AS s ON s.id = h.series_id
        LEFT JOIN unnest($2::text[], $3::integer[]) AS k (name, first_day) ON k.name = s.metric_name
        WHERE h.tenant_id = $1
            AND h.bucket < '1970-01-01 00:00:00+00'::timestamptz
                + 24 * (SELECT max(d) FROM unnest($3::integer[] || $4::integer) AS d)
                    * interval '1 hour'
            AND h.bucket < '1970-01-01 00:00:00+00'::timestamptz
                + 24 * coalesce(k.first_day, $4::integer) * interval '1 hour'
        LIMIT $5
    )
    RETURNING 1
)
SELECT count(*) FROM deleted

-- count_expired_rollups --
-- How many rows of buckets $5 of tenant $1 end before their first day; $6 days are in a period.
SELECT count(*)
FROM sample_rollup AS r
JOIN series AS s ON s.id = r.series_id
LEFT JOIN unnest($2::text[], $3::integer[]) AS k (name, first_day) ON k.name = s.metric_name
WHERE r.bucket_seconds = $5 AND r.tenant_id = $1
    AND r.period < (SELECT max(d) FROM unnest($3::integer[] || $4::integer) AS d) / $6::integer
    AND (r.period + 1)::bigint * $6::integer <= coalesce(k.first_day, $4::integer)

-- delete_expired_rollups --
-- Deletes at most $7 of these rows; returns how many.
WITH deleted AS (
    DELETE FROM sample_rollup
    WHERE ctid IN (
        SELECT r.ctid
        FROM sample_rollup AS r
        JOIN series AS s ON s.id = r.series_id
        LEFT JOIN unnest($2::text[], $3::integer[]) AS k (name, first_day) ON k.name = s.metric_name
        WHERE r.bucket_seconds = $5 AND r.tenant_id = $1
            AND r.period
                < (SELECT max(d) FROM unnest($3::integer[] || $4::integer) AS d) / $6::integer
            AND (r.period + 1)::bigint * $6::integer <= coalesce(k.first_day, $4::integer)
        LIMIT $7
    )
    RETURNING 1
)
SELECT count(*) FROM deleted

-- series_with_rollups --
-- Which of the series $1 have rollups.
SELECT coalesce(array_agg(w.id ORDER BY w.id), '{}')
FROM unnest($1::bigint[]) AS w (id)
WHERE EXISTS (
    SELECT FROM sample_rollup AS r WHERE r.bucket_seconds = 300 AND r.series_id = w.id
)

-- newest_hours --
-- The newest hour of each of the series $1 that begins from $2 ms to $3 ms, in Unix ms, among those that
-- begin at or after the time in ms that $4 has for the series, and before that of $5.
SELECT w.id, floor(extract(epoch FROM h.bucket) * 1000)::bigint AS bucket_ms
FROM unnest($1::bigint[], $4::bigint[], $5::bigint[]) AS w (id, from_ms, before_ms)
CROSS JOIN LATERAL (
    SELECT max(o.bucket) AS bucket
    FROM sample_hour AS o
    WHERE o.series_id = w.id
        AND o.bucket >= from_unix_ms(greatest($2::bigint, w.from_ms))
        AND o.bucket <= from_unix_ms(least($3::bigint, w.before_ms - 1))
) AS h
WHERE h.bucket IS NOT NULL
ORDER BY w.id
