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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    unix_day bigint;
    partition_name text;
BEGIN
    -- What ATTACH takes; it waits for others who do the same, and for no reader or writer.
    LOCK TABLE ONLY promcompat.sample IN SHARE UPDATE EXCLUSIVE MODE;
    FOREACH unix_day IN ARRAY unix_days LOOP
        partition_name := sample_partition_name(unix_day);
        CONTINUE WHEN to_regclass('promcompat.' || quote_ident(partition_name)) IS NOT NULL;
        EXECUTE format(
            'CREATE TABLE promcompat.%I (LIKE promcompat.sample INCLUDING ALL) WITH ('
            'autovacuum_vacuum_insert_threshold = 10000, autovacuum_vacuum_insert_scale_factor = 0, '
            'autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02, '
            'autovacuum_freeze_min_age = 0)',
            partition_name
        );
        EXECUTE format(
            'ALTER TABLE promcompat.sample ATTACH PARTITION promcompat.%I FOR VALUES FROM (%L) TO (%L)',
            partition_name,
            from_unix_ms(unix_day * 86400000),
            from_unix_ms((unix_day + 1) * 86400000)
        );
    END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION create_sample_partitions(bigint[]) FROM PUBLIC;
