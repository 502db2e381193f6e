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

-- The chunks whose rows a dump writes as text, in which all NaNs are alike. Those in the columnstore are written
-- as bytes.
CREATE OR REPLACE FUNCTION textual_sample_chunks() RETURNS SETOF regclass
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF (SELECT relkind = 'p' FROM pg_class WHERE oid = 'sample'::regclass) THEN
        RETURN QUERY SELECT c.chunk FROM sample_chunks() AS c;
    ELSE
        RETURN QUERY
        SELECT s.chunk
        FROM sample_chunks() AS s
        JOIN timescaledb_information.chunks AS c
            ON format('%I.%I', c.chunk_schema, c.chunk_name)::regclass = s.chunk
        WHERE c.is_compressed IS NOT TRUE;
    END IF;
END
$$;

-- Notes the bits of NaNs that versions without the column `nan_bits` stored; returns how many.
CREATE OR REPLACE FUNCTION note_nan_bits() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    chunk regclass;
    n_of_chunk bigint;
    n_noted bigint := 0;
BEGIN
    -- No chunk is dropped meanwhile.
    LOCK TABLE ONLY sample IN ROW EXCLUSIVE MODE;
    FOR chunk IN SELECT * FROM textual_sample_chunks() LOOP
        EXECUTE format(
            'UPDATE %s SET nan_bits = (''x'' || encode(float8send(value), ''hex''))::bit(64)::bigint '
            'WHERE value = ''NaN'' AND nan_bits IS NULL AND histogram IS NULL '
            'AND float8send(value) <> float8send(''NaN'')',
            chunk
        );
        GET DIAGNOSTICS n_of_chunk = ROW_COUNT;
        n_noted := n_noted + n_of_chunk;
    END LOOP;
    RETURN n_noted;
END
$$;

-- Gives NaNs that were restored from text the bits that `nan_bits` has; returns how many had others. SQL cannot
-- make such a value, so they are given: `nans` are the values with these `bits`, and `of_histogram` is the value
-- of all histograms.
CREATE OR REPLACE FUNCTION restore_nan_bits(bits bigint[], nans float8[], of_histogram float8) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    chunk regclass;
    n_of_chunk bigint;
    n_restored bigint := 0;
BEGIN
    FOR chunk IN SELECT * FROM textual_sample_chunks() LOOP
        EXECUTE format(
            'UPDATE %s AS s SET value = given.nan '
            -- 0 stands for histograms; it is not a NaN.
            'FROM (SELECT * FROM unnest($1, $2) UNION ALL SELECT 0, $3) AS given (bits, nan) '
            'WHERE s.value = ''NaN'' AND float8send(s.value) = float8send(''NaN'') '
            'AND given.bits = CASE WHEN s.histogram IS NULL THEN s.nan_bits ELSE 0 END',
            chunk
        ) USING bits, nans, of_histogram;
        GET DIAGNOSTICS n_of_chunk = ROW_COUNT;
        n_restored := n_restored + n_of_chunk;
    END LOOP;
    RETURN n_restored;
END
$$;
REVOKE EXECUTE ON FUNCTION textual_sample_chunks() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION note_nan_bits() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION restore_nan_bits(bigint[], float8[], float8) FROM PUBLIC;

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
