-- Drains, compaction, and the partitions of blocks: a chunk of a hypertable, or a partition, for a slot.

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

-- The name of the partition that holds the blocks of a slot (see migration 0023), on plain PostgreSQL.
CREATE OR REPLACE FUNCTION block_partition_name(slot integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'sample_block_' || CASE slot
    WHEN -1073741824 THEN 'far'
    ELSE to_char(date '1970-01-01' + (slot >> 3), 'YYYYMMDD') || '_' || (slot & 7)
END;

-- Makes the chunk of a slot with TimescaleDB, which makes chunks for rows only; false if it is there.
CREATE OR REPLACE FUNCTION create_block_chunk(of_slot integer) RETURNS boolean
LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (
        SELECT FROM timescaledb_information.chunks
        WHERE hypertable_schema = 'promcompat' AND hypertable_name = 'sample_block'
            AND range_start_integer = of_slot
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO promcompat.sample_block (
        series_id, first_ms, last_ms, first_arrival, last_arrival, deleted_through, tenant_id, slot,
        n_samples, level, replaces, payload
    )
    VALUES (0, 0, 0, 0, 0, 0, 0, of_slot, 0, 0, false, '');
    DELETE FROM promcompat.sample_block WHERE slot = of_slot AND series_id = 0 AND n_samples = 0;
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION create_block_chunk(integer) FROM PUBLIC;

-- Makes the partition of a slot; false if it is there already. It must be there in an earlier
-- transaction than the first blocks: a statement that was planned without it would not read them.
-- As in create_sample_partitions, the table is made first and attached then: CREATE TABLE … PARTITION OF
-- would lock out every reader, ATTACH PARTITION locks out only another ATTACH.
CREATE OR REPLACE FUNCTION create_block_partition(of_slot integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    partition_name text := block_partition_name(of_slot);
BEGIN
    IF (SELECT relkind <> 'p' FROM pg_class WHERE oid = 'promcompat.sample_block'::regclass) THEN
        RETURN promcompat.create_block_chunk(of_slot);
    END IF;
    IF to_regclass('promcompat.' || quote_ident(partition_name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE ONLY promcompat.sample_block IN SHARE UPDATE EXCLUSIVE MODE;
    EXECUTE format(
        'CREATE TABLE promcompat.%I (LIKE promcompat.sample_block INCLUDING ALL)', partition_name
    );
    EXECUTE format(
        'ALTER TABLE promcompat.sample_block ATTACH PARTITION promcompat.%I FOR VALUES FROM (%L) TO (%L)',
        partition_name, of_slot, of_slot + 1
    );
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION create_block_partition(integer) FROM PUBLIC;

-- Drops the partition of a slot, and with it the blocks of every tenant; does nothing without one.
-- The table is locked first, in the order of readers, as in drop_sample_chunk.
CREATE OR REPLACE FUNCTION drop_block_partition(of_slot integer) RETURNS void
LANGUAGE plpgsql
AS $$
BEGIN
    LOCK TABLE ONLY sample_block IN ACCESS EXCLUSIVE MODE;
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample_block'::regclass) THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', block_partition_name(of_slot));
    ELSE
        PERFORM drop_chunks('sample_block', older_than => of_slot + 1, newer_than => of_slot);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION drop_block_partition(integer) FROM PUBLIC;

SELECT create_block_partition(-1073741824);
