-- The view `metrics_hourly`, what it reads on each edition, and the policies of TimescaleDB Community.

-- The value that goes into sums. PostgreSQL raises an error when a sum of float8 overflows, and one
-- such hour would stop all others: values from 1e290 on count as infinite instead.
CREATE OR REPLACE FUNCTION summable(value float8) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(value) < 1e290 THEN value ELSE value * 'Infinity'::float8 END;

-- The mean of summed values; a quotient that would underflow, which is an error in PostgreSQL, is 0.
CREATE OR REPLACE FUNCTION mean_of(sum float8, count bigint) RETURNS float8
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(sum) < 1e-300 THEN 0 ELSE sum / count END;

-- Whether the features of the Timescale licence are available.
CREATE OR REPLACE FUNCTION has_columnstore() RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
        AND current_setting('timescaledb.license', true) = 'timescale'
        AND (SELECT relkind = 'r' FROM pg_class WHERE oid = 'sample'::regclass)
$$;

-- Compresses samples after seven days. Existing settings and policies stay unchanged, as somebody may
-- have chosen them.
CREATE OR REPLACE FUNCTION ensure_columnstore() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (
        SELECT
        FROM timescaledb_information.hypertables AS h
        WHERE format('%I.%I', h.hypertable_schema, h.hypertable_name)::regclass = 'sample'::regclass
            AND h.compression_enabled
    ) THEN
        ALTER TABLE sample SET (
            timescaledb.compress,
            timescaledb.compress_segmentby = 'series_id',
            timescaledb.compress_orderby = 'ts'
        );
    END IF;
    IF NOT EXISTS (
        SELECT
        FROM timescaledb_information.jobs AS j
        WHERE j.proc_name = 'policy_compression'
            AND format('%I.%I', j.hypertable_schema, j.hypertable_name)::regclass
                = 'sample'::regclass
    ) THEN
        PERFORM add_compression_policy('sample', interval '7 days');
    END IF;
END
$$;

-- Makes the continuous aggregate. It reads samples that are not yet in it, too.
CREATE OR REPLACE FUNCTION ensure_hourly_aggregate() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF to_regclass('sample_hourly') IS NULL THEN
        CREATE MATERIALIZED VIEW sample_hourly
        WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
        SELECT
            time_bucket('1 hour', p.ts) AS bucket,
            s.tenant_id,
            s.metric_name AS name,
            count(*) AS count,
            min(p.value) AS min,
            max(p.value) AS max,
            sum(summable(p.value)) AS sum
        FROM sample AS p
        JOIN series AS s ON s.id = p.series_id
        WHERE NOT has_no_number(p.value)
        GROUP BY 1, 2, 3
        WITH NO DATA;
    END IF;
END
$$;

-- Adds the refresh policy once what is older than its window is in the aggregate: a refresh of the
-- last hours makes readers believe that everything before them is there.
CREATE OR REPLACE FUNCTION ensure_refresh_policy() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT has_columnstore() OR (
        (SELECT computed_before <= now() - interval '3 hours' FROM hourly_progress)
        AND EXISTS (SELECT FROM sample_chunks())
    ) THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT
        FROM timescaledb_information.jobs AS j
        JOIN timescaledb_information.continuous_aggregates AS a
            ON (j.hypertable_schema, j.hypertable_name) IN (
                (a.view_schema, a.view_name),
                (a.materialization_hypertable_schema, a.materialization_hypertable_name)
            )
        WHERE j.proc_name = 'policy_refresh_continuous_aggregate'
            AND format('%I.%I', a.view_schema, a.view_name)::regclass
                = 'sample_hourly'::regclass
    ) THEN
        PERFORM add_continuous_aggregate_policy(
            'sample_hourly',
            start_offset => interval '3 hours',
            end_offset => interval '1 hour',
            schedule_interval => interval '1 hour'
        );
    END IF;
END
$$;

-- Makes `metrics_hourly` read what this edition and store have. Called by every migration and maintenance,
-- as the edition of a database may change: then all hours are computed again. The hours of blocks are
-- those of `metrics_hourly_by_series` (0075_series_hours.sql). Of the store `rows`, undrained samples are
-- added to the hours that are kept.
CREATE OR REPLACE FUNCTION ensure_metrics_hourly() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    wanted text := CASE
        WHEN (SELECT i.store FROM installation AS i) = 'blocks' THEN 'blocks 2'
        WHEN has_columnstore() THEN 'aggregate 3'
        ELSE 'table 3'
    END;
    present text;
    reader name;
BEGIN
    PERFORM promcompat.use_owner_path();
    SELECT source INTO present FROM hourly_progress FOR UPDATE;
    IF wanted = 'aggregate 3' THEN
        PERFORM ensure_columnstore();
        PERFORM ensure_hourly_aggregate();
    END IF;
    IF present <> wanted OR to_regclass('metrics_hourly') IS NULL THEN
        IF wanted = 'blocks 2' THEN
            CREATE OR REPLACE VIEW metrics_hourly WITH (security_barrier) AS
            SELECT h.bucket, h.tenant_id, h.name, h.count, mean_of(h.sum, h.count) AS avg, h.min,
                h.max, h.sum
            FROM (
                SELECT
                    r.bucket,
                    r.tenant_id,
                    r.name,
                    sum(r.count)::bigint AS count,
                    min(r.min) AS min,
                    max(r.max) AS max,
                    sum(summable(r.sum)) AS sum
                FROM metrics_hourly_by_series AS r
                GROUP BY 1, 2, 3
            ) AS h;
        ELSE
            IF wanted = 'aggregate 3' THEN
                CREATE OR REPLACE VIEW kept_hour AS
                SELECT h.bucket, h.tenant_id, h.name, h.count, h.min, h.max, h.sum
                FROM sample_hourly AS h;
            ELSE
                CREATE OR REPLACE VIEW kept_hour AS
                SELECT r.bucket, r.tenant_id, r.name, r.count, r.min, r.max, r.sum
                FROM hourly_rollup AS r
                WHERE r.bucket < (SELECT computed_before FROM hourly_progress)
                UNION ALL
                SELECT
                    time_bucket('1 hour', p.ts),
                    s.tenant_id,
                    s.metric_name,
                    count(*),
                    min(p.value),
                    max(p.value),
                    sum(summable(p.value))
                FROM sample AS p
                JOIN series AS s ON s.id = p.series_id
                WHERE p.ts >= (SELECT computed_before FROM hourly_progress)
                    AND NOT has_no_number(p.value)
                GROUP BY 1, 2, 3;
            END IF;
            -- Samples of the same hour may be in rows and undrained.
            CREATE OR REPLACE VIEW metrics_hourly WITH (security_barrier) AS
            SELECT h.bucket, h.tenant_id, h.name, sum(h.count)::bigint AS count,
                mean_of(sum(h.sum), sum(h.count)::bigint) AS avg, min(h.min) AS min,
                max(h.max) AS max, sum(h.sum) AS sum
            FROM (
                SELECT k.bucket, k.tenant_id, k.name, k.count, k.min, k.max, k.sum
                FROM kept_hour AS k
                WHERE k.tenant_id NOT IN (SELECT t.tenant_id FROM folded_tenant AS t)
                UNION ALL
                SELECT
                    time_bucket('1 hour', m."timestamp"),
                    m.tenant_id,
                    m.name,
                    count(*),
                    min(m.value),
                    max(m.value),
                    sum(summable(m.value))
                FROM (
                    SELECT u."timestamp", u.tenant_id, u.name, u.value FROM undrained_metric AS u
                    UNION ALL
                    SELECT f."timestamp", f.tenant_id, f.name, f.value FROM folded_metric AS f
                ) AS m
                WHERE m.value IS NOT NULL
                GROUP BY 1, 2, 3
            ) AS h
            WHERE h.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
            GROUP BY 1, 2, 3;
        END IF;
        UPDATE hourly_progress
        SET source = wanted, computed_before = CASE
            WHEN split_part(present, ' ', 1) = split_part(wanted, ' ', 1) THEN computed_before
            ELSE '-infinity'
        END;
        FOR reader IN
            SELECT DISTINCT t.role_name
            FROM tenant_reader AS t
            JOIN pg_roles AS r ON r.rolname = t.role_name
        LOOP
            EXECUTE format(
                'GRANT SELECT ON metrics_hourly, metrics_hourly_by_series TO %I', reader
            );
        END LOOP;
    END IF;
    IF obj_description('metrics_hourly'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON VIEW metrics_hourly IS
            'count, avg, min, max and sum of the samples of a metric by hour, over all its series';
    END IF;
    IF wanted <> 'blocks 2' THEN
        PERFORM ensure_refresh_policy();
    END IF;
END
$$;

-- Brings hours up to date in the continuous aggregate. A procedure, as it commits in between.
CREATE OR REPLACE PROCEDURE refresh_hourly_aggregate(from_ms bigint, to_ms bigint)
LANGUAGE plpgsql
AS $$
BEGIN
    CALL refresh_continuous_aggregate(
        'sample_hourly', from_unix_ms(from_ms), from_unix_ms(to_ms)
    );
END
$$;

-- For the owner who changed samples by SQL: the next maintenance computes the hours of this time
-- again. What the service writes and deletes is known without it.
CREATE OR REPLACE FUNCTION refresh_metrics_hourly(
    window_start timestamptz, window_end timestamptz
) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO hourly_change (tenant_id, hour)
    SELECT t.id, h.hour
    FROM tenant AS t
    CROSS JOIN generate_series(
        floor(extract(epoch FROM window_start) / 3600)::bigint,
        ceil(extract(epoch FROM window_end) / 3600)::bigint - 1
    ) AS h (hour);
END
$$;

REVOKE EXECUTE ON FUNCTION ensure_columnstore() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION ensure_hourly_aggregate() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION ensure_refresh_policy() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION ensure_metrics_hourly() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION refresh_metrics_hourly(timestamptz, timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE refresh_hourly_aggregate(bigint, bigint) FROM PUBLIC;
