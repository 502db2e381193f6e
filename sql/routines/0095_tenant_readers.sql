-- Which roles read which tenants: granting, revoking, and what a grant consists of. It comes after
-- everything that readers are granted.

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

-- What every reader may select from: each of them shows the tenants of the caller only.
CREATE OR REPLACE FUNCTION reader_views() RETURNS SETOF regclass
LANGUAGE sql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT to_regclass('promcompat.' || v)
    FROM unnest(ARRAY[
        'tenants', 'series', 'metrics', 'metrics_start', 'metrics_hourly', 'metrics_hourly_by_series', 'definitions',
        'corrections', 'usage', 'usage_by_day', 'visible_row', 'visible_arrival', 'visible_run',
        'visible_block', 'visible_deletion', 'visible_retention', 'visible_rolled_hour',
        'visible_unrolled_metric'
    ]) AS v
    -- ensure_metrics_hourly makes the hours later than the first migration, and grants them itself.
    WHERE to_regclass('promcompat.' || v) IS NOT NULL
    UNION ALL
    -- Views of single metrics show what `metrics` shows.
    SELECT to_regclass(format('promcompat.%I', m.view_name)) FROM promcompat.metric_view AS m
$$;

-- Lets a role find our objects without a prefix from its next session on.
CREATE OR REPLACE FUNCTION extend_reader_path(reader name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    PERFORM set_config('search_path', promcompat.reader_search_path(reader), true);
    EXECUTE format(
        'ALTER ROLE %I IN DATABASE %I SET search_path FROM CURRENT', reader, current_database()
    );
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'the search path of % cannot be set: it must write promcompat.metrics', reader;
END
$$;
REVOKE EXECUTE ON FUNCTION extend_reader_path(name) FROM PUBLIC;

-- Grants, or takes back, what a reader needs besides the row of `tenant_reader`.
CREATE OR REPLACE FUNCTION set_reader_rights(reader name, is_reader boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    views text := (SELECT string_agg(v::text, ', ') FROM promcompat.reader_views() AS v);
BEGIN
    IF is_reader THEN
        EXECUTE format('GRANT USAGE ON SCHEMA promcompat TO %I', reader);
        EXECUTE format('GRANT SELECT ON %s TO %I', views, reader);
        PERFORM promcompat.extend_reader_path(reader);
    ELSE
        EXECUTE format('REVOKE SELECT ON %s FROM %I', views, reader);
        EXECUTE format('REVOKE USAGE ON SCHEMA promcompat FROM %I', reader);
    END IF;
END
$$;

-- Lets a role read one tenant through the views above and `samples`. Called by the owner of the tables.
CREATE OR REPLACE FUNCTION grant_tenant_reader(reader name, tenant_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    of_tenant integer := (SELECT t.id FROM promcompat.tenant AS t WHERE t.name = tenant_name);
BEGIN
    IF of_tenant IS NULL THEN
        RAISE EXCEPTION 'there is no tenant %', quote_literal(tenant_name);
    END IF;
    -- With these rights, it reads the tables whatever is granted to it.
    IF (
        SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, 'pg_read_all_data', 'USAGE')
            OR promcompat.sees_all_tenants(r.rolname)
        FROM pg_catalog.pg_roles AS r
        WHERE r.rolname = reader
    ) THEN
        RAISE EXCEPTION 'the role % reads every tenant: it has the rights of the owner of the tables, of a '
            'superuser or of pg_read_all_data, or BYPASSRLS', quote_ident(reader)
            USING HINT = 'Grant the tenant to a role without these rights.';
    END IF;
    -- A role that reads nothing has the tenants of no earlier role of its name.
    DELETE FROM promcompat.tenant_reader AS t
    USING pg_catalog.pg_roles AS r
    WHERE t.role_name = reader AND r.rolname = reader
        AND NOT has_schema_privilege(r.oid, 'promcompat', 'USAGE');
    PERFORM promcompat.set_reader_rights(reader, true);
    INSERT INTO promcompat.tenant_reader (role_name, tenant_id) VALUES (reader, of_tenant)
    ON CONFLICT DO NOTHING;
END
$$;

-- Takes a tenant back from a role, and everything else with its last tenant, but for its search path. Whether
-- it had been granted. The role may be gone.
CREATE OR REPLACE FUNCTION revoke_tenant_reader(reader name, tenant_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    of_tenant integer := (SELECT t.id FROM promcompat.tenant AS t WHERE t.name = tenant_name);
    was_granted boolean;
BEGIN
    IF of_tenant IS NULL THEN
        RAISE EXCEPTION 'there is no tenant %', quote_literal(tenant_name);
    END IF;
    DELETE FROM promcompat.tenant_reader AS r WHERE r.role_name = reader AND r.tenant_id = of_tenant;
    was_granted := FOUND;
    IF was_granted AND EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = reader)
        AND NOT EXISTS (SELECT FROM promcompat.tenant_reader AS r WHERE r.role_name = reader)
    THEN
        PERFORM promcompat.set_reader_rights(reader, false);
    END IF;
    RETURN was_granted;
END
$$;

-- Makes a role that may connect. `verifier` is what PostgreSQL stores of a password: the password itself
-- would be in the text of a statement, and so in logs.
CREATE OR REPLACE FUNCTION create_reader_role(reader name, verifier text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD %L', reader, verifier
    );
END
$$;

REVOKE EXECUTE ON FUNCTION create_reader_role(name, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION set_reader_rights(name, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION grant_tenant_reader(name, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION revoke_tenant_reader(name, text) FROM PUBLIC;

-- Readers whose tables were moved here from another schema, who were restored, or who came before what they
-- read now.
DO $$
BEGIN
    PERFORM promcompat.set_reader_rights(r.rolname, true)
    FROM pg_catalog.pg_roles AS r
    WHERE r.rolname IN (SELECT t.role_name FROM promcompat.tenant_reader AS t)
        AND EXISTS (
            SELECT FROM promcompat.reader_views() AS v
            WHERE NOT has_schema_privilege(r.oid, 'promcompat', 'USAGE')
                OR NOT has_table_privilege(r.oid, v, 'SELECT')
        );
END
$$;
