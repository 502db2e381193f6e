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

-- create_sample_partitions --
-- Creates the partitions of the given days on plain PostgreSQL.
SELECT create_sample_partitions($1::bigint[])

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
