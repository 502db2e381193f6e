-- Drains, compaction, and the partitions of blocks: a chunk of a hypertable, or a partition, for a day.

-- Takes the lock of drains and compaction until the end of the transaction; false if somebody has it.
CREATE OR REPLACE FUNCTION try_drain_lock() RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE drain_order IN SHARE UPDATE EXCLUSIVE MODE NOWAIT;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$$;
REVOKE EXECUTE ON FUNCTION try_drain_lock() FROM PUBLIC;

-- The name of the partition that holds the blocks of a UTC day, on plain PostgreSQL.
CREATE OR REPLACE FUNCTION block_partition_name(unix_day integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'sample_block_' || to_char(date '1970-01-01' + unix_day, 'YYYYMMDD');

-- Makes the partition of a day on plain PostgreSQL if it is missing; TimescaleDB makes its chunks itself.
-- As in create_sample_partitions, the table is made first and attached then: CREATE TABLE … PARTITION OF
-- would lock out every reader, ATTACH PARTITION locks out only another ATTACH.
CREATE OR REPLACE FUNCTION create_block_partition(unix_day integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    partition_name text := block_partition_name(unix_day);
BEGIN
    IF (SELECT relkind <> 'p' FROM pg_class WHERE oid = 'promcompat.sample_block'::regclass)
        OR to_regclass('promcompat.' || quote_ident(partition_name)) IS NOT NULL
    THEN
        RETURN;
    END IF;
    LOCK TABLE ONLY promcompat.sample_block IN SHARE UPDATE EXCLUSIVE MODE;
    EXECUTE format(
        'CREATE TABLE promcompat.%I (LIKE promcompat.sample_block INCLUDING ALL)', partition_name
    );
    EXECUTE format(
        'ALTER TABLE promcompat.sample_block ATTACH PARTITION promcompat.%I FOR VALUES FROM (%L) TO (%L)',
        partition_name, unix_day, unix_day + 1
    );
END
$$;
REVOKE EXECUTE ON FUNCTION create_block_partition(integer) FROM PUBLIC;

-- Drops the partition of a day, and with it the blocks of every tenant; does nothing without one.
-- The table is locked first, in the order of readers, as in drop_sample_chunk.
CREATE OR REPLACE FUNCTION drop_block_partition(unix_day integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE ONLY sample_block IN ACCESS EXCLUSIVE MODE;
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample_block'::regclass) THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', block_partition_name(unix_day));
    ELSE
        PERFORM drop_chunks('sample_block', older_than => unix_day + 1, newer_than => unix_day);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION drop_block_partition(integer) FROM PUBLIC;
