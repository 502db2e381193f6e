-- What SQL users read: the view `metrics`, bound to the tenants their role was granted.
--
-- A role sees the tenants that `grant_tenant_reader` bound it to; a role with the rights of the
-- tables' owner sees all. No setting that a session can change widens that. Only the owner may read
-- `sample` itself: row-level security and TimescaleDB's columnstore exclude each other.
--
-- `metrics_hourly`, which shows the same by the hour, is made in 0070_metrics_hourly.sql.
--
-- Readers are not trusted. They may create temporary tables, views, functions, operators and types,
-- and whatever they have a schema for. Therefore:
-- * a function with the owner's rights (SECURITY DEFINER) pins its search path, pg_temp last and
--   written out (else a temporary table is found first), and qualifies the names of our tables;
-- * views and policies are security barriers: a reader's function sees only rows that the reader may
--   see. A view holds what its names meant when it was made, so the names in it cannot be replaced;
-- * only who was granted it has USAGE on the schema, and what changes something is no PUBLIC function.

-- SECURITY DEFINER, so that a reader needs no grant on tenant_reader; the role is an argument
-- because current_user inside would be the owner.
CREATE OR REPLACE FUNCTION visible_tenants(reader name) RETURNS SETOF integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT tenant_id FROM promcompat.tenant_reader WHERE role_name = reader
$$;

CREATE OR REPLACE FUNCTION sees_all_tenants(reader name) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT pg_has_role(reader, relowner, 'USAGE')
    FROM pg_catalog.pg_class
    WHERE oid = 'promcompat.series'::pg_catalog.regclass
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

-- The search path of a role's sessions in this database with our schema in front. Settings for the
-- role here win over those for the role, and these over those for the database.
CREATE OR REPLACE FUNCTION reader_search_path(reader name) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT CASE WHEN p.path ~ '(^|[ ,"])promcompat($|[ ,"])' THEN p.path
        ELSE concat_ws(', ', 'promcompat', nullif(p.path, '')) END
    FROM (
        SELECT coalesce(
            (
                SELECT substr(c.setting, length('search_path=') + 1)
                FROM pg_db_role_setting AS s
                CROSS JOIN LATERAL unnest(s.setconfig) AS c (setting)
                WHERE c.setting LIKE 'search\_path=%'
                    AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = reader))
                    AND s.setdatabase IN (
                        0, (SELECT oid FROM pg_database WHERE datname = current_database())
                    )
                ORDER BY s.setrole = 0, s.setdatabase = 0
                LIMIT 1
            ),
            '"$user", public'
        ) AS path
    ) AS p
$$;

-- Lets a role read one tenant through `metrics`, `metrics_hourly` and `series`, and find them without
-- a prefix from its next session on. Called by the owner of the tables.
CREATE OR REPLACE FUNCTION grant_tenant_reader(reader name, tenant_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    INSERT INTO promcompat.tenant_reader (role_name, tenant_id)
    SELECT reader, id FROM promcompat.tenant WHERE name = tenant_name
    ON CONFLICT DO NOTHING;
    IF NOT EXISTS (SELECT FROM promcompat.tenant WHERE name = tenant_name) THEN
        RAISE EXCEPTION 'there is no tenant %', quote_literal(tenant_name);
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA promcompat TO %I', reader);
    EXECUTE format('GRANT SELECT ON promcompat.metrics, promcompat.series TO %I', reader);
    -- Not yet there when this is called below; ensure_metrics_hourly then lets every reader read it.
    IF to_regclass('promcompat.metrics_hourly') IS NOT NULL THEN
        EXECUTE format('GRANT SELECT ON promcompat.metrics_hourly TO %I', reader);
    END IF;
    BEGIN
        PERFORM set_config('search_path', promcompat.reader_search_path(reader), true);
        EXECUTE format(
            'ALTER ROLE %I IN DATABASE %I SET search_path FROM CURRENT', reader, current_database()
        );
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'the search path of % cannot be set: it must write promcompat.metrics', reader;
    END;
END
$$;
REVOKE EXECUTE ON FUNCTION grant_tenant_reader(name, text) FROM PUBLIC;

-- Readers whose tables were moved here from another schema.
DO $$
BEGIN
    PERFORM promcompat.grant_tenant_reader(r.role_name, t.name)
    FROM promcompat.tenant_reader AS r
    JOIN promcompat.tenant AS t ON t.id = r.tenant_id
    JOIN pg_catalog.pg_roles AS a ON a.rolname = r.role_name
    WHERE NOT has_schema_privilege(a.oid, 'promcompat', 'USAGE');
END
$$;
