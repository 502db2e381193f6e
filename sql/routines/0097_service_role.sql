-- The role of services that do not own the schema. They read and write rows; what makes and drops tables
-- and views runs with the rights of the owner, in functions that take no names from their caller but those of
-- partitions that there are.

-- Whether a role has everything of the function below, so that a start changes nothing.
CREATE OR REPLACE FUNCTION has_service_rights(service name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT NOT EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.relnamespace = 'promcompat'::regnamespace
            AND CASE
                WHEN c.relname IN ('schema_migration', 'schema_routine')
                    THEN NOT has_table_privilege(service, c.oid, 'SELECT')
                WHEN c.relkind IN ('r', 'p', 'v', 'f')
                    THEN NOT has_table_privilege(service, c.oid, 'DELETE')
                WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(service, c.oid, 'UPDATE')
                ELSE false
            END
    )
    AND NOT EXISTS (
        SELECT FROM pg_proc AS p
        WHERE p.pronamespace = 'promcompat'::regnamespace
            AND NOT has_function_privilege(service, p.oid, 'EXECUTE')
    )
    AND EXISTS (
        SELECT FROM pg_policy AS p
        JOIN pg_roles AS r ON r.oid = ANY (p.polroles)
        WHERE p.polname = 'series_of_service' AND p.polrelid = 'series'::regclass
            AND r.rolname = service
    )
$$;
REVOKE EXECUTE ON FUNCTION has_service_rights(name) FROM PUBLIC;

-- Grants a role what a service needs, also of tables that the owner makes later. Called by the owner after
-- each migration; a role has everything after the first call, unless a migration made something new.
CREATE OR REPLACE FUNCTION grant_service_role(service name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF promcompat.has_service_rights(service) THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA promcompat TO %I', service);
    EXECUTE format(
        'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA promcompat TO %I', service
    );
    EXECUTE format('GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA promcompat TO %I', service);
    EXECUTE format('GRANT EXECUTE ON ALL ROUTINES IN SCHEMA promcompat TO %I', service);
    -- A service cannot undo what was done to the schema, or say that it was done.
    EXECUTE format(
        'REVOKE INSERT, UPDATE, DELETE ON schema_migration, schema_routine FROM %I', service
    );
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES IN SCHEMA promcompat '
        'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I', service
    );
    EXECUTE format(
        'ALTER DEFAULT PRIVILEGES IN SCHEMA promcompat GRANT EXECUTE ON FUNCTIONS TO %I', service
    );
    DROP POLICY IF EXISTS series_of_service ON series;
    EXECUTE format(
        'CREATE POLICY series_of_service ON series TO %I USING (true) WITH CHECK (true)', service
    );
END
$$;
REVOKE EXECUTE ON FUNCTION grant_service_role(name) FROM PUBLIC;
