-- sample_table --
-- The kind of the table of samples, NULL without one, and whether the extension is installed.
SELECT
    (SELECT relkind FROM pg_class WHERE oid = to_regclass('promcompat.sample')) AS kind,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS has_timescaledb

-- is_hypertable --
-- Whether the table of samples is a hypertable; only run where the extension is installed.
SELECT EXISTS (
    SELECT FROM timescaledb_information.hypertables
    WHERE hypertable_schema = 'promcompat' AND hypertable_name = 'sample'
)

-- late_writes --
-- How often the samples of each day from $2 to $3 were changed late.
SELECT
    database_epoch() AS epoch,
    array_agg(l.day) AS days,
    array_agg(l.generation) AS late_writes
FROM late_write AS l
WHERE l.tenant_id = $1 AND l.day BETWEEN $2 AND $3

-- count_late_writes --
-- Counts days as changed for the tenants of given series, in the same order for all writers, so that
-- none deadlock, and notes the hours $3. The last statement of its transaction, as its row locks make
-- other late writers wait.
WITH tenants AS MATERIALIZED (
    SELECT DISTINCT s.tenant_id FROM series AS s WHERE s.id = ANY($1::bigint[])
),
noted AS (
    INSERT INTO hourly_change (tenant_id, hour)
    SELECT t.tenant_id, h.hour FROM tenants AS t CROSS JOIN unnest($3::bigint[]) AS h (hour)
)
INSERT INTO late_write AS l (tenant_id, day, generation)
SELECT t.tenant_id, d.day, change_stamp()
FROM tenants AS t
CROSS JOIN unnest($2::integer[]) AS d (day)
ORDER BY t.tenant_id, d.day
ON CONFLICT (tenant_id, day)
DO UPDATE SET generation = greatest(l.generation + 1, excluded.generation)

-- live_catalogue_items --
-- Which of the items $4 of the list `catalogue_items` have a series with a sample from $5 to $6, Unix ms
-- (NULL: from the first, to the last one). With each, packed, that series and its newest Unix ms.
SELECT
    string_agg(convert_to(g.value, 'UTF8'), '\x00'::bytea) AS items,
    string_agg(int8send(f.series_id) || int8send(f.unix_ms), ''::bytea) AS seen
FROM (
    SELECT v.value, array_agg(v.id) AS ids
    FROM items_of_series($1, $2, $3) AS v
    WHERE v.value = ANY($4::text[]) AND ($3 <> '__name__' OR v.metric_name = ANY($4::text[]))
    GROUP BY 1
) AS g
CROSS JOIN LATERAL (
    SELECT i.series_id, floor(extract(epoch FROM n.ts) * 1000)::bigint AS unix_ms
    FROM unnest(g.ids) AS i (series_id)
    CROSS JOIN LATERAL (
        SELECT p.ts
        FROM sample AS p
        WHERE p.series_id = i.series_id
            AND ($5::bigint IS NULL OR p.ts >= from_unix_ms($5))
            AND ($6::bigint IS NULL OR p.ts < from_unix_ms($6 + 1))
        ORDER BY p.ts DESC
        LIMIT 1
    ) AS n
    LIMIT 1
) AS f

-- sample_bounds --
-- Unix ms of the first and the last sample of a tenant. Two index probes for each series.
SELECT
    floor(extract(epoch FROM min(o.ts)) * 1000)::bigint AS first_ms,
    floor(extract(epoch FROM max(n.ts)) * 1000)::bigint AS last_ms
FROM series AS s
CROSS JOIN LATERAL (
    SELECT p.ts FROM sample AS p WHERE p.series_id = s.id ORDER BY p.ts LIMIT 1
) AS o
CROSS JOIN LATERAL (
    SELECT p.ts FROM sample AS p WHERE p.series_id = s.id ORDER BY p.ts DESC LIMIT 1
) AS n
WHERE s.tenant_id = $1

-- newest_samples --
-- The Unix ms of the newest sample of each of the series $1 that has any from $2 to $3 (NULL as
-- above). Packed: the number of the series in the list, from 1 on, and the time.
SELECT string_agg(
    int8send(u.ordinal) || int8send(floor(extract(epoch FROM n.ts) * 1000)::bigint), ''::bytea
)
FROM unnest($1::bigint[]) WITH ORDINALITY AS u (series_id, ordinal)
CROSS JOIN LATERAL (
    SELECT p.ts
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND ($2::bigint IS NULL OR p.ts >= from_unix_ms($2))
        AND ($3::bigint IS NULL OR p.ts < from_unix_ms($3 + 1))
    ORDER BY p.ts DESC
    LIMIT 1
) AS n

-- stored_samples --
-- The stored samples of given keys; float8send returns the exact bits. One index probe for each key:
-- OFFSET 0 prevents hashing a whole day of samples instead.
SELECT u.ordinal, s.bits
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (series_id, unix_ms, ordinal)
CROSS JOIN LATERAL (
    SELECT float8send(p.value) AS bits
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND p.ts = from_unix_ms(u.unix_ms)
        AND p.ts >= from_unix_ms($3)
        AND p.ts <= from_unix_ms($4)
    OFFSET 0
) AS s

-- next_free_times --
-- For each of the series $1 the first millisecond after $2 at which it has no sample. $3 is the
-- earliest of the times $2: it excludes older chunks.
SELECT u.ordinal, floor(extract(epoch FROM f.ts) * 1000)::bigint + 1 AS unix_ms
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS u (series_id, unix_ms, ordinal)
CROSS JOIN LATERAL (
    SELECT p.ts
    FROM sample AS p
    WHERE p.series_id = u.series_id
        AND p.ts >= from_unix_ms(u.unix_ms)
        AND p.ts >= from_unix_ms($3)
        AND NOT EXISTS (
            SELECT
            FROM sample AS q
            WHERE q.series_id = p.series_id
                AND q.ts = p.ts + interval '1 millisecond'
                AND q.ts >= from_unix_ms($3)
        )
    ORDER BY p.ts
    LIMIT 1
) AS f

-- create_staging --
-- The table for rows of which others store the same keys at the same time.
CREATE TEMPORARY TABLE IF NOT EXISTS sample_staging (
    row_number integer NOT NULL,
    series_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    value float8 NOT NULL
) ON COMMIT DELETE ROWS

-- insert_staged_samples --
-- Stores staged rows; of rows with the same key the stored or else the first one stays.
INSERT INTO sample (series_id, ts, value)
SELECT series_id, ts, value FROM sample_staging ORDER BY series_id, ts, row_number
ON CONFLICT (series_id, ts) DO NOTHING

-- staged_conflicts --
-- Staged rows whose stored sample has other bits; float8send distinguishes -0 from 0, and NaNs.
-- OFFSET 0 keeps one index probe for each row, as above.
SELECT g.row_number, s.value AS existing
FROM sample_staging AS g
CROSS JOIN LATERAL (
    SELECT p.value
    FROM sample AS p
    WHERE p.series_id = g.series_id
        AND p.ts = g.ts
        AND p.ts >= from_unix_ms($1)
        AND p.ts <= from_unix_ms($2)
    OFFSET 0
) AS s
WHERE float8send(s.value) <> float8send(g.value)
ORDER BY g.row_number

-- create_sample_partitions --
-- Creates the partitions of the given days on plain PostgreSQL.
SELECT create_sample_partitions($1::bigint[])

-- override_samples --
-- Replaces the values of stored samples; rows are in the order of keys, so that deadlocks are rare.
WITH wanted AS MATERIALIZED (
    SELECT u.series_id, from_unix_ms(u.unix_ms) AS ts, u.value
    FROM unnest($1::bigint[], $2::bigint[], $3::float8[]) AS u (series_id, unix_ms, value)
)
UPDATE sample AS p
SET value = w.value
FROM wanted AS w
WHERE p.series_id = w.series_id
    AND p.ts = w.ts
    AND p.ts >= from_unix_ms($4)
    AND p.ts <= from_unix_ms($5)

-- sample_page_ascending --
-- Samples of series $1 after the position ($2 us, series $3), before $4 ms, oldest first.
-- One probe for each series, limited to the size of the page; otherwise a series of years would be
-- read and sorted for a page of a hundred samples.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id
        AND p.ts >= from_unix_us($2::bigint)
        AND p.ts < from_unix_ms($4::bigint)
        AND (p.ts > from_unix_us($2::bigint) OR p.series_id > $3::bigint)
        AND NOT is_stale_marker(p.value)
    ORDER BY p.ts
    LIMIT $5
) AS l
ORDER BY l.ts, l.series_id
LIMIT $5

-- sample_page_descending --
-- Samples of series $1 before the position ($2 us, series $3), from $4 ms on, newest first.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id
        AND p.ts <= from_unix_us($2::bigint)
        AND p.ts >= from_unix_ms($4::bigint)
        AND (p.ts < from_unix_us($2::bigint) OR p.series_id < $3::bigint)
        AND NOT is_stale_marker(p.value)
    ORDER BY p.ts DESC
    LIMIT $5
) AS l
ORDER BY l.ts DESC, l.series_id DESC
LIMIT $5

-- latest_samples --
-- The newest sample, not a stale marker, of each of the series $1: one backward probe each.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id AND NOT is_stale_marker(p.value)
    ORDER BY p.ts DESC
    LIMIT 1
) AS l

-- delete_samples --
-- Deletes samples of the series $1 of tenant $2 from $3 to $4, Unix ms (NULL: from the first, to the
-- last one), counts their days as changed for caches and notes their hours; returns how many were
-- deleted.
WITH deleted AS (
    DELETE FROM sample
    WHERE series_id = ANY($1::bigint[])
        AND ($3::bigint IS NULL OR ts >= from_unix_ms($3))
        AND ($4::bigint IS NULL OR ts < from_unix_ms($4 + 1))
    RETURNING ts
),
hours AS MATERIALIZED (
    SELECT DISTINCT floor(extract(epoch FROM ts) / 3600)::bigint AS hour FROM deleted
),
noted AS (
    INSERT INTO hourly_change (tenant_id, hour) SELECT $2, h.hour FROM hours AS h
),
counted AS (
    INSERT INTO late_write AS l (tenant_id, day, generation)
    SELECT $2, d.day, change_stamp()
    FROM (SELECT DISTINCT floor(h.hour / 24.0)::integer AS day FROM hours AS h) AS d
    ORDER BY d.day
    ON CONFLICT (tenant_id, day)
    DO UPDATE SET generation = greatest(l.generation + 1, excluded.generation)
)
SELECT count(*) FROM deleted

-- orphan_series --
-- Of the first $2 series after id $1: the last id, and those without a sample. No row without series.
-- OFFSET 0 keeps one index probe for each series and chunk, up to the first that has a sample.
SELECT
    max(s.id) AS last_id,
    coalesce(
        array_agg(s.id ORDER BY s.id) FILTER (
            WHERE NOT EXISTS (SELECT FROM sample AS p WHERE p.series_id = s.id OFFSET 0)
        ),
        '{}'
    ) AS ids
FROM (SELECT o.id FROM series AS o WHERE o.id > $1 ORDER BY o.id LIMIT $2) AS s
HAVING count(*) > 0

-- remove_series --
-- Removes those of the series $1 that still have no sample and no open alert; returns how many.
WITH removed AS (
    DELETE FROM series AS s
    WHERE s.id = ANY($1::bigint[])
        AND NOT EXISTS (SELECT FROM sample AS p WHERE p.series_id = s.id)
        AND NOT EXISTS (
            SELECT FROM alert AS a WHERE a.series_id = s.id AND a.state IN ('pending', 'firing')
        )
    RETURNING s.id
),
forgotten AS (
    DELETE FROM threshold_state AS t USING removed AS r WHERE t.series_id = r.id
)
SELECT count(*) FROM removed

-- insert_hours --
-- Computes the same hours from the samples.
INSERT INTO hourly_rollup (tenant_id, name, bucket, count, min, max, sum)
SELECT
    s.tenant_id,
    s.metric_name,
    time_bucket('1 hour', p.ts),
    count(*),
    min(p.value),
    max(p.value),
    sum(summable(p.value))
FROM (
    SELECT r.series_id, r.ts, r.value
    FROM sample AS r
    WHERE NOT (SELECT EXISTS (SELECT FROM arrival) OR EXISTS (SELECT FROM drained_extent))
        AND r.ts >= from_unix_ms($1::bigint)
        AND r.ts < from_unix_ms($2::bigint)
        AND NOT is_stale_marker(r.value)
    UNION ALL
    -- As soon as there are pages, this reads the rows too.
    SELECT d.series_id, from_unix_ms(d.unix_ms), d.value
    FROM tenant AS t
    CROSS JOIN LATERAL stored_samples(t.id, NULL, $1::bigint, $2::bigint - 1) AS d
    WHERE (SELECT EXISTS (SELECT FROM arrival) OR EXISTS (SELECT FROM drained_extent))
        AND ($3::integer IS NULL OR t.id = $3)
        AND d.nan_bits IS DISTINCT FROM 9218868437227405314
) AS p
JOIN series AS s ON s.id = p.series_id
WHERE ($3::integer IS NULL OR s.tenant_id = $3)
    AND ($4::bigint[] IS NULL OR floor(extract(epoch FROM p.ts) / 3600)::bigint = ANY($4))
GROUP BY 1, 2, 3

-- has_rows --
-- Whether there is any sample.
SELECT EXISTS (SELECT FROM sample)

-- rows_to_move --
-- For COPY: the first $5 rows after series $1 and time $2, from $3 on and before $4.
SELECT series_id, ts, value
FROM sample
WHERE (series_id, ts) > ($1::bigint, $2::timestamptz)
    AND ts >= $3::timestamptz
    AND ts < $4::timestamptz
ORDER BY series_id, ts
LIMIT $5

-- count_rows --
-- How many rows there are from $1 on and before $2.
SELECT count(*) FROM sample WHERE ts >= $1::text::timestamptz AND ts < $2::text::timestamptz

-- lock_rows --
-- Nobody else writes rows until the end of the transaction.
LOCK TABLE sample IN SHARE ROW EXCLUSIVE MODE
