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
-- Removes those of the series $1 that still have no sample and no open alert; returns how many. Those with
-- a mark wait, as their rollups are still to be deleted: a run of rollups looks at series that are there.
WITH removed AS (
    DELETE FROM series AS s
    WHERE s.id = ANY($1::bigint[])
        AND NOT EXISTS (SELECT FROM sample AS p WHERE p.series_id = s.id)
        AND NOT EXISTS (
            SELECT FROM rollup_mark AS m
            WHERE m.tenant_id = s.tenant_id AND s.id BETWEEN m.first_series AND m.last_series
        )
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
        AND NOT has_no_number(r.value)
    UNION ALL
    -- As soon as there are pages, this reads the rows too.
    SELECT d.series_id, from_unix_ms(d.unix_ms), d.value
    FROM tenant AS t
    CROSS JOIN LATERAL stored_samples(t.id, NULL, $1::bigint, $2::bigint - 1) AS d
    WHERE (SELECT EXISTS (SELECT FROM arrival) OR EXISTS (SELECT FROM drained_extent))
        AND ($3::integer IS NULL OR t.id = $3)
        AND d.nan_bits IS DISTINCT FROM 9218868437227405314
        AND d.histogram IS NULL
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

-- create_staging --
-- The table for samples of which some are stored already.
CREATE TEMPORARY TABLE IF NOT EXISTS sample_staging (
    series_id bigint NOT NULL,
    ts timestamptz NOT NULL,
    value float8 NOT NULL,
    histogram bytea,
    nan_bits bigint
) ON COMMIT DELETE ROWS

-- clear_staging --
-- Forgets the staged samples.
DELETE FROM sample_staging

-- insert_staged --
-- Stores the staged samples that are not stored yet; returns how many of the others have other bits than
-- the stored one. float8send distinguishes -0 from 0, and NaNs. OFFSET 0 keeps one index probe a row.
WITH stored AS MATERIALIZED (
    SELECT g.series_id, g.ts,
        float8send(s.value) <> float8send(g.value) OR s.histogram IS DISTINCT FROM g.histogram AS differs
    FROM sample_staging AS g
    CROSS JOIN LATERAL (
        SELECT p.value, p.histogram
        FROM sample AS p
        WHERE p.series_id = g.series_id
            AND p.ts = g.ts
            AND p.ts >= from_unix_ms($1)
            AND p.ts <= from_unix_ms($2)
        OFFSET 0
    ) AS s
),
inserted AS (
    INSERT INTO sample (series_id, ts, value, histogram, nan_bits)
    SELECT g.series_id, g.ts, g.value, g.histogram, g.nan_bits
    FROM sample_staging AS g
    ORDER BY g.series_id, g.ts
    ON CONFLICT (series_id, ts) DO NOTHING
)
SELECT count(*) FROM stored AS s WHERE s.differs

-- replace_staged --
-- Stores the staged samples, also in place of others.
INSERT INTO sample (series_id, ts, value, histogram, nan_bits)
SELECT g.series_id, g.ts, g.value, g.histogram, g.nan_bits
FROM sample_staging AS g
ORDER BY g.series_id, g.ts
ON CONFLICT (series_id, ts) DO UPDATE
SET value = excluded.value, histogram = excluded.histogram, nan_bits = excluded.nan_bits

-- widen_row_extents --
-- Widens the bounds of tenants to what is being drained.
INSERT INTO row_extent AS e (tenant_id, first_ms, last_ms)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bigint[])
ON CONFLICT (tenant_id) DO UPDATE SET
    first_ms = least(e.first_ms, excluded.first_ms),
    last_ms = greatest(e.last_ms, excluded.last_ms)
WHERE e.first_ms > excluded.first_ms OR e.last_ms < excluded.last_ms

-- row_bounds --
-- The bounds of the rows of a tenant; no row without any.
SELECT first_ms, last_ms FROM row_extent WHERE tenant_id = $1

-- note_hours --
-- Notes hours whose samples changed after `metrics_hourly` may have computed them: those that it has (after a step
-- of the clock, of any time), and those that may be computed before this transaction ends ($3).
INSERT INTO hourly_change (tenant_id, hour)
SELECT n.tenant_id, n.hour
FROM unnest($1::integer[], $2::bigint[], $3::boolean[]) AS n (tenant_id, hour, is_old)
CROSS JOIN hourly_progress AS p
WHERE n.is_old OR from_unix_ms(n.hour * 3600000) < p.computed_before

-- row_chunks --
-- The chunks or partitions with rows from $1 to $2 ms, as their first and last ms.
SELECT
    greatest(floor(extract(epoch FROM c.range_start) * 1000)::bigint, $1) AS first_ms,
    least(ceil(extract(epoch FROM c.range_end) * 1000)::bigint - 1, $2) AS last_ms
FROM sample_chunks() AS c
WHERE c.range_end > from_unix_ms($1) AND c.range_start <= from_unix_ms($2)
ORDER BY c.range_start

-- series_of_tenant --
-- Every series of a tenant.
SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM series WHERE tenant_id = $1

-- delete_rows --
-- Deletes the rows of the series $1 of tenant $2 from $3 to $4 ms; with $5 their hours in `metrics_hourly`
-- go too. Returns how many.
WITH deleted AS (
    DELETE FROM sample
    WHERE series_id = ANY($1::bigint[]) AND ts >= from_unix_ms($3) AND ts < from_unix_ms($4::bigint + 1)
    RETURNING ts
),
noted AS (
    INSERT INTO hourly_change (tenant_id, hour)
    SELECT DISTINCT $2::integer, floor(extract(epoch FROM ts) / 3600)::bigint
    FROM deleted
    WHERE $5::boolean
)
SELECT count(*) FROM deleted

-- keep_deletion_aside --
-- Appends deletion $1 again, set aside, if arrivals are set aside that came before it.
INSERT INTO arrival (
    id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, is_aside, payload
)
SELECT
    $1::bigint, $2::integer, 3, 0, $3::bigint, $4::bigint, $5::bigint, $6::bigint, true, $7::bytea
WHERE EXISTS (
    SELECT FROM arrival AS o WHERE o.is_aside AND o.kind < 3 AND o.tenant_id = $2 AND o.id < $1
)

-- rows_exist --
-- Which of the series $1 have a row.
SELECT coalesce(array_agg(w.id ORDER BY w.id), '{}')
FROM unnest($1::bigint[]) AS w (id)
WHERE EXISTS (SELECT FROM sample AS p WHERE p.series_id = w.id OFFSET 0)

-- lock_drains --
-- Waits for a drain that is running, and blocks others until the end of the transaction.
LOCK TABLE drain_order IN SHARE UPDATE EXCLUSIVE MODE

-- forget_row_extents --
-- Forgets the bounds of rows, which nobody reads any more.
DELETE FROM row_extent

-- has_older_aside --
-- Whether samples of tenant $1 that arrived before arrival $2 are set aside.
SELECT EXISTS (
    SELECT FROM arrival WHERE is_aside AND kind < 3 AND tenant_id = $1::integer AND id < $2::bigint
)

-- can_move_aside --
-- Whether arrival $2 of tenant $1 is set aside, and no older one that may have samples of series from $3
-- to $4 from $5 to $6 ms.
SELECT
    EXISTS (SELECT FROM arrival WHERE is_aside AND tenant_id = $1::integer AND id = $2::bigint)
    AND NOT EXISTS (
        SELECT FROM arrival
        WHERE is_aside AND kind < 3 AND tenant_id = $1 AND id < $2
            AND first_series <= $4::bigint AND last_series >= $3::bigint
            AND first_ms <= $6::bigint AND last_ms >= $5::bigint
    )

-- deletions_after --
-- The deletions of tenant $1 after arrival $2 that are still arrivals.
SELECT id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, payload
FROM arrival
WHERE kind = 3 AND tenant_id = $1 AND id > $2
ORDER BY id

-- count_expired_rows --
-- How many rows the series $1 have from $2 to $3 ms.
SELECT count(*) FROM sample
WHERE series_id = ANY($1::bigint[]) AND ts >= from_unix_ms($2) AND ts < from_unix_ms($3::bigint + 1)
