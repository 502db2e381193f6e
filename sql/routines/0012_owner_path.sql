-- The search path inside functions with the rights of the owner that call functions of the extension.

-- For the rest of the calling function, which pins its own search path, as every function with the owner's rights
-- does: our schema, where objects are made, and that of the extension, as in migrations.
CREATE OR REPLACE FUNCTION use_owner_path() RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_catalog.set_config(
        'search_path',
        pg_catalog.concat_ws(', ', 'promcompat', (
            SELECT pg_catalog.quote_ident(n.nspname)
            FROM pg_catalog.pg_extension AS e
            JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
            WHERE e.extname = 'timescaledb' AND n.nspname <> 'promcompat'
        ), 'pg_temp'),
        true
    );
END
$$;
REVOKE EXECUTE ON FUNCTION use_owner_path() FROM PUBLIC;
