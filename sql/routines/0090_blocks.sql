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
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
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
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    PERFORM promcompat.use_owner_path();
    LOCK TABLE ONLY sample_block IN ACCESS EXCLUSIVE MODE;
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample_block'::regclass) THEN
        EXECUTE format('DROP TABLE IF EXISTS %I', block_partition_name(of_slot));
    ELSE
        PERFORM drop_chunks('sample_block', older_than => of_slot + 1, newer_than => of_slot);
    END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION drop_block_partition(integer) FROM PUBLIC;

-- By what the blocks of series are found: their own ids, and the least ids of their groups of 16, see
-- sql/samples/tables/block_groups.py.
CREATE OR REPLACE FUNCTION block_keys(series_ids bigint[]) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ARRAY(
    SELECT s FROM unnest(series_ids) AS s
    UNION
    SELECT s & -16 FROM unnest(series_ids) AS s
);

-- The statement `stored_pages` (queries/blocks.sql) with one plan that is kept, for any days. The statements
-- of this function have the snapshot of its caller, which is older than their plan. A function collects all
-- of its rows before it returns the first one, so large reads COPY the statement itself. `of_series` are
-- keys, as of `block_keys`.
CREATE OR REPLACE FUNCTION few_stored_pages(
    of_tenant integer,
    of_series bigint[],
    after_ms bigint,
    until_ms bigint,
    first_slot integer,
    last_slot integer,
    n_most bigint
) RETURNS TABLE (
    source smallint,
    slot integer,
    replaces boolean,
    last_arrival bigint,
    first_arrival bigint,
    first_series bigint,
    last_series bigint,
    first_ms bigint,
    n_samples integer,
    payload bytea
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH wanted AS MATERIALIZED (SELECT of_series::bigint[] AS keys)
    SELECT
        4::smallint AS source, 0 AS slot, false AS replaces, s.drained_through AS last_arrival,
        greatest(s.changes_pruned_through, (SELECT max(c.id) FROM sample_change AS c)) AS first_arrival,
        0::bigint AS first_series, 0::bigint AS last_series, 0::bigint AS first_ms, 0 AS n_samples,
        convert_to(database_epoch(), 'UTF8') AS payload
    FROM drain_state AS s
    UNION ALL
    SELECT
        0::smallint AS source, r.slot, r.replaces, r.last_arrival, r.first_arrival,
        r.first_series, r.last_series, r.first_ms, r.n_samples, r.payload
    FROM sample_run AS r
    WHERE r.tenant_id = of_tenant
        AND r.last_ms > after_ms AND r.first_ms <= until_ms
        AND width_bucket(r.last_series, (SELECT keys FROM wanted))
            > width_bucket(r.first_series - 1, (SELECT keys FROM wanted))
    UNION ALL
    SELECT
        1::smallint, 0, b.replaces, b.last_arrival, b.first_arrival,
        b.series_id, b.series_id, b.first_ms, b.n_samples, b.payload
    FROM sample_block AS b
    WHERE b.series_id = ANY((SELECT keys FROM wanted)::bigint[])
        AND b.last_ms > after_ms AND b.first_ms <= until_ms
        AND b.slot BETWEEN first_slot AND last_slot
    UNION ALL
    SELECT
        2::smallint, 0, f.replaces, f.last_arrival, f.first_arrival,
        f.series_id, f.series_id, f.first_ms, f.n_samples, f.payload
    FROM sample_block AS f
    WHERE f.series_id = ANY((SELECT keys FROM wanted)::bigint[])
        AND f.last_ms > after_ms AND f.first_ms <= until_ms
        AND f.slot = -1073741824
    UNION ALL
    SELECT
        3::smallint, 0, false, d.arrival_id, 0::bigint,
        d.first_ms, d.last_ms, 0::bigint, 0, array_send(d.series_ids)
    FROM sample_deletion AS d
    WHERE d.tenant_id = of_tenant AND d.last_ms > after_ms AND d.first_ms <= until_ms
    LIMIT n_most::bigint;
END
$$;
REVOKE EXECUTE ON FUNCTION few_stored_pages(
    integer, bigint[], bigint, bigint, integer, integer, bigint
) FROM PUBLIC;

-- The first and the last time of what is drained of each tenant, or has rollups; NULL and NULL if nothing is and
-- has. In plpgsql, so that a statement that calls it seldom does not prepare for it each time.
CREATE OR REPLACE FUNCTION drained_bounds(of_tenants integer[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN ARRAY(
        SELECT b.ms
        FROM unnest(of_tenants) WITH ORDINALITY AS t (id, n)
        CROSS JOIN LATERAL (
            SELECT min(x.first_ms) AS first_ms, max(x.last_ms) AS last_ms
            FROM drained_extent AS x
            WHERE x.tenant_id = t.id
        ) AS e
        CROSS JOIN LATERAL (
            SELECT min(d.day) * 86400000::bigint AS first_ms, max(d.day) * 86400000::bigint + 86399999 AS last_ms
            FROM rollup_day AS d
            WHERE d.tenant_id = t.id AND d.rolled_through = 9223372036854775807
        ) AS r
        CROSS JOIN LATERAL (
            VALUES (1, least(e.first_ms, r.first_ms)), (2, greatest(e.last_ms, r.last_ms))
        ) AS b (k, ms)
        ORDER BY t.n, b.k
    );
END
$$;
REVOKE EXECUTE ON FUNCTION drained_bounds(integer[]) FROM PUBLIC;

SELECT create_block_partition(-1073741824);
