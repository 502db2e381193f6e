-- Time: Unix milliseconds to timestamptz, and time_bucket where TimescaleDB does not bring it.

-- Exact over the whole range of timestamptz, unlike to_timestamp(float8). Immutable all the way
-- down, so that the planner folds it into a constant and excludes chunks.
CREATE OR REPLACE FUNCTION from_unix_ms(unix_ms bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    timestamp '1970-01-01 00:00:00'
    + (unix_ms / 86400000) * interval '1 day'
    + (unix_ms % 86400000) * interval '1 millisecond'
) AT TIME ZONE 'UTC';

-- The same for Unix microseconds, which samples written through SQL may have.
CREATE OR REPLACE FUNCTION from_unix_us(unix_us bigint) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    timestamp '1970-01-01 00:00:00'
    + (unix_us / 86400000000) * interval '1 day'
    + (unix_us % 86400000000) * interval '1 microsecond'
) AT TIME ZONE 'UTC';

-- TimescaleDB's buckets start on Monday 2000-01-03; so do ours. Not STRICT: it must be inlined.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE OR REPLACE FUNCTION time_bucket(bucket_width interval, ts timestamptz)
        RETURNS timestamptz
        LANGUAGE sql IMMUTABLE PARALLEL SAFE
        RETURN date_bin(bucket_width, ts, timestamptz '2000-01-03 00:00:00+00');
    END IF;
END
$$;
-- Partitions of the sample table on plain PostgreSQL; TimescaleDB makes its chunks itself.

-- The name of the partition that holds a UTC day; unique over all of timestamptz.
CREATE OR REPLACE FUNCTION sample_partition_name(unix_day bigint) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN 'sample_'
    || to_char(from_unix_ms(unix_day * 86400000) AT TIME ZONE 'UTC', 'YYYYMMDD')
    || CASE WHEN unix_day < -719162 THEN '_bc' ELSE '' END;

-- Makes the partitions of the given days (days since 1970-01-01) that are missing.
-- The table is made first and attached then: CREATE TABLE … PARTITION OF would lock out every
-- reader and writer of sample, ATTACH PARTITION locks out only another ATTACH.
-- LIKE copies the index, which ATTACH then takes for sample's own, but no storage parameters: they
-- are those of hypertables, in migration 0006.
CREATE OR REPLACE FUNCTION create_sample_partitions(unix_days bigint[]) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    unix_day bigint;
    partition_name text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('promcompat.sample_partition', 0));
    FOREACH unix_day IN ARRAY unix_days LOOP
        partition_name := sample_partition_name(unix_day);
        CONTINUE WHEN to_regclass(quote_ident(partition_name)) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE %I (LIKE sample INCLUDING ALL) WITH ('
            'autovacuum_vacuum_insert_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0, '
            'autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, '
            'autovacuum_freeze_min_age = 0)',
            partition_name
        );
        EXECUTE format(
            'ALTER TABLE sample ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            partition_name,
            from_unix_ms(unix_day * 86400000),
            from_unix_ms((unix_day + 1) * 86400000)
        );
    END LOOP;
END
$$;
-- What SQL users read: the view `metrics`, bound to the tenants their role was granted.
--
-- A role sees the tenants that `grant_tenant_reader` bound it to; whoever has the rights of the
-- owner of the tables sees all. No setting a session can change widens that. Nobody but the owner
-- is granted `sample`: row-level security and TimescaleDB's columnstore exclude each other.
-- The rollup `metrics_hourly` comes with the rollups themselves.

-- SECURITY DEFINER, so that a reader needs no grant on tenant_reader; the role is an argument
-- because current_user inside would be the owner.
CREATE OR REPLACE FUNCTION visible_tenants(reader name) RETURNS SETOF integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT tenant_id FROM tenant_reader WHERE role_name = reader
$$;

CREATE OR REPLACE FUNCTION sees_all_tenants(reader name) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT
AS $$
    SELECT pg_has_role(reader, relowner, 'USAGE') FROM pg_class WHERE oid = 'series'::regclass
$$;

CREATE OR REPLACE FUNCTION is_stale_marker(value float8) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value = 'NaN'::float8 AND float8send(value) = '\x7ff0000000000002'::bytea;

-- Only once: both statements lock out every reader and writer of series.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'series'::regclass) THEN
        ALTER TABLE series ENABLE ROW LEVEL SECURITY;
        CREATE POLICY series_of_visible_tenants ON series FOR SELECT
        USING (
            (SELECT sees_all_tenants(current_user))
            OR tenant_id IN (SELECT visible_tenants(current_user))
        );
    END IF;
END
$$;

-- Stale markers say that a series ended; they are no measurements and would turn averages to NaN.
CREATE OR REPLACE VIEW metrics WITH (security_barrier) AS
SELECT
    p.ts AS "timestamp",
    s.tenant_id,
    s.metric_name AS name,
    p.value,
    s.labels,
    s.labels ->> 'source' AS source
FROM sample AS p
JOIN series AS s ON s.id = p.series_id
WHERE NOT is_stale_marker(p.value)
    AND (
        (SELECT sees_all_tenants(current_user))
        OR s.tenant_id IN (SELECT visible_tenants(current_user))
    );

-- Lets a role read one tenant through `metrics` and `series`; called by the owner of the tables.
CREATE OR REPLACE FUNCTION grant_tenant_reader(reader name, tenant_name text) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO tenant_reader (role_name, tenant_id)
    SELECT reader, id FROM tenant WHERE name = tenant_name
    ON CONFLICT DO NOTHING;
    IF NOT EXISTS (SELECT FROM tenant WHERE name = tenant_name) THEN
        RAISE EXCEPTION 'there is no tenant %', quote_literal(tenant_name);
    END IF;
    EXECUTE format('GRANT SELECT ON metrics, series TO %I', reader);
END
$$;
REVOKE EXECUTE ON FUNCTION grant_tenant_reader(name, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION create_sample_partitions(bigint[]) FROM PUBLIC;
-- The metric names of a tenant, '' for series without one, by a loose index scan: one probe for
-- each name and not for each series. The planner puts it into the statement that calls it.
CREATE OR REPLACE FUNCTION metric_names_of(tenant integer) RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
    WITH RECURSIVE names AS (
        (
            SELECT metric_name FROM series WHERE tenant_id = tenant ORDER BY metric_name LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT s.metric_name
            FROM series AS s
            WHERE s.tenant_id = tenant AND s.metric_name > n.metric_name
            ORDER BY s.metric_name
            LIMIT 1
        )
        FROM names AS n
        WHERE n.metric_name IS NOT NULL
    )
    SELECT metric_name FROM names WHERE metric_name IS NOT NULL
$$;
-- Calls a function of one jsonb by its name, with the rights of the caller. Which names may be
-- called is decided by the service; the name is looked up here, never executed as text.
CREATE OR REPLACE FUNCTION call_remediation_function(function_name text, argument jsonb)
RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    wanted regprocedure := to_regprocedure(function_name || '(jsonb)');
    answer text;
BEGIN
    IF wanted IS NULL THEN
        RAISE undefined_function USING MESSAGE = format('no function %s(jsonb)', function_name);
    END IF;
    EXECUTE format('SELECT (%s($1))::text', wanted::oid::regproc) INTO answer USING argument;
    RETURN answer;
END
$$;
