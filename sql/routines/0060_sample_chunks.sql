-- The chunks of a hypertable, or partitions, of the sample table, which are dropped as a whole.

-- Every chunk with its time range. PL/pgSQL resolves static SQL when it runs, so the view of
-- TimescaleDB need not exist elsewhere.
CREATE OR REPLACE FUNCTION sample_chunks()
RETURNS TABLE (chunk regclass, range_start timestamptz, range_end timestamptz)
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample'::regclass) THEN
        RETURN QUERY
        SELECT
            b.oid::regclass,
            substring(b.bounds FROM 'FROM \(''([^'']+)''\)')::timestamptz,
            substring(b.bounds FROM 'TO \(''([^'']+)''\)')::timestamptz
        FROM (
            SELECT c.oid, pg_get_expr(c.relpartbound, c.oid) AS bounds
            FROM pg_inherits AS i
            JOIN pg_class AS c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'sample'::regclass
        ) AS b;
    ELSE
        RETURN QUERY
        SELECT
            format('%I.%I', c.chunk_schema, c.chunk_name)::regclass, c.range_start, c.range_end
        FROM pg_class AS t
        JOIN pg_namespace AS n ON n.oid = t.relnamespace
        JOIN timescaledb_information.chunks AS c
            ON c.hypertable_schema = n.nspname AND c.hypertable_name = t.relname
        WHERE t.oid = 'sample'::regclass;
    END IF;
END
$$;

-- The chunks that end before a time and have no sample.
CREATE OR REPLACE FUNCTION empty_sample_chunks(ends_before timestamptz)
RETURNS SETOF regclass
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    candidate regclass;
    is_used boolean;
BEGIN
    FOR candidate IN
        SELECT c.chunk FROM sample_chunks() AS c WHERE c.range_end <= ends_before
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', candidate) INTO is_used;
        IF NOT is_used THEN
            RETURN NEXT candidate;
        END IF;
    END LOOP;
END
$$;

-- Drops one chunk; with `only_empty` only if it has no sample by now. Returns whether it was dropped.
-- It logs the change for every tenant with rows. The table is locked first, in the order
-- of readers and writers: the opposite order would deadlock with those of a partition, and a query of a
-- hypertable could be planned to read a chunk that is gone when it starts.
CREATE OR REPLACE FUNCTION drop_sample_chunk(wanted regclass, only_empty boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    piece record;
    is_used boolean;
BEGIN
    PERFORM promcompat.use_owner_path();
    -- In the order of drains, which log changes too.
    LOCK TABLE drain_order IN SHARE UPDATE EXCLUSIVE MODE;
    LOCK TABLE ONLY sample IN ACCESS EXCLUSIVE MODE;
    SELECT c.* INTO piece FROM sample_chunks() AS c WHERE c.chunk = wanted;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF only_empty THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', wanted) INTO is_used;
        IF is_used THEN
            RETURN false;
        END IF;
    END IF;
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample'::regclass) THEN
        EXECUTE format('DROP TABLE %s', wanted);
    ELSE
        PERFORM drop_chunks(
            'sample', older_than => piece.range_end, newer_than => piece.range_start
        );
    END IF;
    INSERT INTO sample_change (tenant_id, first_series, last_series, first_ms, last_ms)
    SELECT e.tenant_id, -9223372036854775808, 9223372036854775807, p.first_ms, p.last_ms
    FROM row_extent AS e
    CROSS JOIN (
        SELECT
            floor(extract(epoch FROM piece.range_start) * 1000)::bigint AS first_ms,
            ceil(extract(epoch FROM piece.range_end) * 1000)::bigint - 1 AS last_ms
    ) AS p
    WHERE NOT only_empty AND e.first_ms <= p.last_ms AND e.last_ms >= p.first_ms;
    RETURN true;
END
$$;
REVOKE EXECUTE ON FUNCTION drop_sample_chunk(regclass, boolean) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION empty_sample_chunks(timestamptz) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION sample_chunks() FROM PUBLIC;
