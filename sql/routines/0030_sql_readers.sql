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
