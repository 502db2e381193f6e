-- try_maintenance_lock --
-- Takes the maintenance lock; whether this session has it.
SELECT pg_try_advisory_lock(hashtextextended('promcompat.maintenance', 0))

-- release_maintenance_lock --
-- Releases the maintenance lock.
SELECT pg_advisory_unlock(hashtextextended('promcompat.maintenance', 0))

-- limit_step --
-- How long a step of maintenance may run and wait for locks, in ms: for this transaction, or ($3
-- false) for the session.
SELECT
    set_config('statement_timeout', $1, $3), set_config('lock_timeout', $2, $3),
    set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', $3)

-- ensure_metrics_hourly --
-- Adapts `metrics_hourly` and the policies to the edition that the database has now.
SELECT ensure_metrics_hourly()

-- ensure_refresh_policy --
-- Adds the refresh policy of TimescaleDB Community once all earlier hours are computed.
SELECT ensure_refresh_policy()

-- uses_hourly_aggregate --
-- Whether hours are kept by a continuous aggregate and not in a table.
SELECT has_columnstore()

-- sample_chunks --
-- Chunks or partitions of samples, oldest first, with their ranges of Unix ms.
SELECT
    c.chunk::oid AS id,
    c.chunk::text AS name,
    floor(extract(epoch FROM c.range_start) * 1000)::bigint AS start_ms,
    ceil(extract(epoch FROM c.range_end) * 1000)::bigint AS end_ms
FROM sample_chunks() AS c
ORDER BY c.range_start

-- empty_sample_chunks --
-- The chunks or partitions that end before $1 ms and hold no sample.
SELECT c::oid AS id FROM empty_sample_chunks(from_unix_ms($1::bigint)) AS c

-- drop_sample_chunk --
-- Drops a chunk or partition ($2: only if it is empty); returns whether it was dropped.
SELECT drop_sample_chunk($1::oid::regclass, $2)

-- lock_series --
-- Waits for running writes, and blocks new ones until the end of the transaction.
SELECT lock_series()

-- hourly_progress --
-- The Unix ms up to which hours are computed; NULL when none was.
SELECT CASE
    WHEN isfinite(p.computed_before) THEN floor(extract(epoch FROM p.computed_before) * 1000)::bigint
END
FROM hourly_progress AS p

-- set_hourly_progress --
-- Records that the hours before $1 ms are computed.
UPDATE hourly_progress SET computed_before = from_unix_ms($1::bigint)

-- collect_stale_hours --
-- Moves noted hours to those that have to be computed again; not hours before $1 ms, some of whose
-- samples are gone, nor hours that were not computed yet.
WITH taken AS (
    DELETE FROM hourly_change RETURNING tenant_id, hour
)
INSERT INTO hourly_stale (tenant_id, hour)
SELECT DISTINCT t.tenant_id, t.hour
FROM taken AS t
CROSS JOIN hourly_progress AS p
WHERE ($1::bigint IS NULL OR t.hour >= $1 / 3600000)
    AND from_unix_ms(t.hour * 3600000) < p.computed_before
ON CONFLICT DO NOTHING

-- stale_hours --
-- The hours to be computed again, by tenant and day.
SELECT s.tenant_id, array_agg(s.hour ORDER BY s.hour) AS hours
FROM hourly_stale AS s
GROUP BY s.tenant_id, floor(s.hour / 24.0)
ORDER BY s.tenant_id, floor(s.hour / 24.0)
LIMIT $1

-- forget_stale_hours --
-- Records that the hours $2 of tenant $1 are computed again.
DELETE FROM hourly_stale WHERE tenant_id = $1 AND hour = ANY($2::bigint[])

-- delete_hours --
-- Removes hours from $1 to before $2 ms; with $3 only those of one tenant, with $4 only these.
DELETE FROM hourly_rollup AS h
WHERE h.bucket >= from_unix_ms($1::bigint)
    AND h.bucket < from_unix_ms($2::bigint)
    AND ($3::integer IS NULL OR h.tenant_id = $3)
    AND (
        $4::bigint[] IS NULL OR floor(extract(epoch FROM h.bucket) / 3600)::bigint = ANY($4)
    )

-- refresh_hourly_aggregate --
-- Brings the continuous aggregate up to date from $1 to $2 ms; commits by itself.
CALL refresh_hourly_aggregate($1, $2)

-- moved_chunks --
-- Chunks or partitions of samples, oldest first, how far each was moved, and about how many rows it has.
-- Times are texts, as Python has no years before 1.
SELECT
    c.chunk::oid AS id, c.chunk::text AS name,
    c.range_start::text AS range_start, c.range_end::text AS range_end,
    coalesce(m.series_id, 0) AS series_id, coalesce(m.ts, '-infinity')::text AS ts,
    coalesce(m.n_rows, 0) AS n_rows,
    greatest(r.reltuples, m.n_rows, 0)::bigint AS expected_rows
FROM sample_chunks() AS c
JOIN pg_class AS r ON r.oid = c.chunk
LEFT JOIN store_move AS m ON m.chunk = c.chunk
ORDER BY c.range_start

-- record_move --
-- Records that $4 more rows of chunk $1 were moved, up to series $2 and the end of millisecond $3; returns
-- that time.
INSERT INTO store_move AS m (chunk, series_id, ts, n_rows)
VALUES ($1::oid, $2, from_unix_ms($3::bigint + 1) - interval '1 microsecond', $4)
ON CONFLICT (chunk) DO UPDATE
SET series_id = excluded.series_id, ts = excluded.ts, n_rows = m.n_rows + excluded.n_rows
RETURNING ts::text

-- forget_move --
-- Forgets how far a chunk was moved.
DELETE FROM store_move WHERE chunk = $1::oid
