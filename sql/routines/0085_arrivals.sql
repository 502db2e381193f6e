-- Appending arrivals, and what a process asks to learn of them (docs/adr/0013-storage-engine.md).
--
-- An append is one statement that commits by itself. It holds `arrival_order` from before it draws its ids
-- until its rows are visible, as locks are released after the commit is visible. So ids become visible in
-- their order: whoever has read the arrivals up to an id has missed none below it. A client that
-- vanishes holds no lock, because the server ends the statement by itself.

-- Appends pages of samples, or deletions, and the changes of breach levels that their samples cause.
-- Returns the ids of the pages, ascending. Each array has an element for each page, but those of breaches
-- and of definitions.
-- * `known_epoch`: as in check_writer; refused with PC001 when it is not that of the database, or series
--   were removed since.
-- * `known_tenants` and `known_definitions`: the versions of their metric definitions that decided which
--   pages replace samples (0: the tenant has none); refused with PC002 when one changed.
-- * `read_through`: NULL, or the last arrival that was read before the times of these samples were
--   chosen. Refused with PC003 when a later arrival may hold a sample of the same series and time.
-- No pinned search path, as in database_epoch.
CREATE OR REPLACE FUNCTION append_arrivals(
    known_epoch text,
    known_tenants integer[],
    known_definitions bigint[],
    read_through bigint,
    tenant_ids integer[],
    kinds smallint[],
    n_samples integer[],
    first_series bigint[],
    last_series bigint[],
    first_ms bigint[],
    last_ms bigint[],
    payloads bytea[],
    breach_series bigint[],
    breach_levels smallint[],
    breach_values float8[],
    breach_ms bigint[]
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    last_id bigint;
    new_ids bigint[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'arrivals can only be appended in a READ COMMITTED transaction'
            USING HINT = 'An older snapshot does not show which ids are taken.';
    END IF;
    IF current_setting('synchronous_commit') = 'off' THEN
        SET LOCAL synchronous_commit = on;
    END IF;
    -- This lock comes before the check, as in check_writer.
    LOCK TABLE promcompat.series_removal IN ROW EXCLUSIVE MODE;
    IF known_epoch <> concat(promcompat.database_epoch(), '/', promcompat.removal_position()) THEN
        RAISE EXCEPTION 'the series that the writer knows are out of date'
            USING ERRCODE = 'PC001';
    END IF;
    IF EXISTS (
        SELECT FROM unnest(known_tenants, known_definitions) AS k (tenant_id, version)
        LEFT JOIN promcompat.definition_change AS c ON c.tenant_id = k.tenant_id
        WHERE k.version <> coalesce(c.version, 0)
    ) THEN
        RAISE EXCEPTION 'the metric definitions that the writer knows are out of date'
            USING ERRCODE = 'PC002';
    END IF;
    IF cardinality(breach_series) > 0 THEN
        INSERT INTO promcompat.breach_outbox (series_id, level, value, ts)
        SELECT b.series_id, b.level, b.value, promcompat.from_unix_ms(b.ts_ms)
        FROM unnest(breach_series, breach_levels, breach_values, breach_ms)
            WITH ORDINALITY AS b (series_id, level, value, ts_ms, ordinal)
        ORDER BY b.ordinal;
    END IF;
    LOCK TABLE promcompat.arrival_order IN SHARE UPDATE EXCLUSIVE MODE;
    IF read_through IS NOT NULL AND promcompat.has_arrival_since(
        read_through, tenant_ids, first_series, last_series, first_ms, last_ms
    ) THEN
        RAISE EXCEPTION 'other samples of these series and times arrived meanwhile'
            USING ERRCODE = 'PC003';
    END IF;
    -- Above every id so far, also those of a later state that this database was restored from.
    last_id := greatest(promcompat.last_arrival(), promcompat.change_stamp());
    WITH appended AS (
        INSERT INTO promcompat.arrival (
            id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, payload
        )
        SELECT
            last_id + p.ordinal, p.tenant_id, p.kind, p.n_samples, p.first_series, p.last_series,
            p.first_ms, p.last_ms, p.payload
        FROM unnest(
            tenant_ids, kinds, n_samples, first_series, last_series, first_ms, last_ms, payloads
        ) WITH ORDINALITY AS p (
            tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, payload, ordinal
        )
        RETURNING id
    )
    SELECT coalesce(array_agg(a.id ORDER BY a.id), '{}') INTO new_ids FROM appended AS a;
    RETURN new_ids;
END
$$;

-- The same, called outside of a transaction. It returns when the arrivals are on disk, as a commit does
-- with synchronous_commit, but does not hold `arrival_order` while it waits: they commit without waiting,
-- and then a second commit waits for the log up to its own record, which is behind theirs. So one write to
-- the disk serves all appends that wait, which otherwise took a write each, one after the other. Between
-- the two, others read arrivals that a crash of the server may still lose; everything that depends on
-- them is behind them in the log, or is discarded, as the crash changes database_epoch.
CREATE OR REPLACE PROCEDURE commit_arrivals(
    known_epoch text,
    known_tenants integer[],
    known_definitions bigint[],
    read_through bigint,
    tenant_ids integer[],
    kinds smallint[],
    n_samples integer[],
    first_series bigint[],
    last_series bigint[],
    first_ms bigint[],
    last_ms bigint[],
    payloads bytea[],
    breach_series bigint[],
    breach_levels smallint[],
    breach_values float8[],
    breach_ms bigint[],
    INOUT new_ids bigint[] DEFAULT NULL
)
LANGUAGE plpgsql
AS $$
BEGIN
    new_ids := promcompat.append_arrivals(
        known_epoch, known_tenants, known_definitions, read_through, tenant_ids, kinds, n_samples,
        first_series, last_series, first_ms, last_ms, payloads, breach_series, breach_levels,
        breach_values, breach_ms
    );
    SET LOCAL synchronous_commit = off;
    COMMIT;
    IF current_setting('synchronous_commit') = 'off' THEN
        SET LOCAL synchronous_commit = on;
    END IF;
    PERFORM pg_logical_emit_message(true, 'promcompat', '');
END
$$;

-- The size of a payload; of a page with histograms (version 3), about what they take in memory.
CREATE OR REPLACE FUNCTION unpacked_bytes(payload bytea) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN octet_length(payload)::bigint * CASE WHEN substr(payload, 1, 1) = '\x03' THEN 8 ELSE 1 END;

-- The last id of an arrival, drained ones included.
CREATE OR REPLACE FUNCTION last_arrival() RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT greatest(s.drained_through, (SELECT max(a.id) FROM promcompat.arrival AS a))
        FROM promcompat.drain_state AS s
    );
END
$$;

-- Whether an arrival after `read_through` may hold a sample of one of these pages' series and times. If
-- drains have moved such arrivals it may.
CREATE OR REPLACE FUNCTION has_arrival_since(
    read_through bigint,
    tenant_ids integer[],
    first_series bigint[],
    last_series bigint[],
    first_ms bigint[],
    last_ms bigint[]
) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM promcompat.drain_state AS s WHERE s.drained_through > read_through)
        OR EXISTS (
            SELECT FROM unnest(tenant_ids, first_series, last_series, first_ms, last_ms)
                AS p (tenant_id, first_series, last_series, first_ms, last_ms)
            JOIN promcompat.arrival AS a
                ON a.tenant_id = p.tenant_id
                AND p.first_series <= a.last_series AND p.last_series >= a.first_series
                AND p.first_ms <= a.last_ms AND p.last_ms >= a.first_ms
            WHERE a.id > read_through AND a.kind < 3
        );
END
$$;

-- What came after an arrival and after a change, a row each (source 1 and 2). The arrivals are the oldest
-- ones, at most `n_arrivals`, with at most `n_bytes`, but at least one; all that were set aside are among
-- them. The changes are the oldest ones, at most `n_changes`. In plpgsql, so that a statement that seldom
-- calls it does not prepare for it each time.
CREATE OR REPLACE FUNCTION news_since(
    after_id bigint, after_change bigint, n_arrivals bigint, n_bytes bigint, n_changes bigint
) RETURNS TABLE (
    source integer,
    id bigint,
    tenant_id integer,
    kind smallint,
    n_samples integer,
    first_series bigint,
    last_series bigint,
    first_ms bigint,
    last_ms bigint,
    is_aside boolean,
    payload bytea,
    of_drain bigint
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT
        1, a.id, a.tenant_id, a.kind, a.n_samples, a.first_series, a.last_series,
        a.first_ms, a.last_ms, a.is_aside, a.payload, NULL::bigint
    FROM promcompat.arrival AS a
    WHERE a.is_aside AND a.id <= after_id
    UNION ALL
    SELECT
        1, n.id, n.tenant_id, n.kind, n.n_samples, n.first_series, n.last_series,
        n.first_ms, n.last_ms, n.is_aside, n.payload, NULL
    FROM (
        SELECT a.*, row_number() OVER w AS ordinal, sum(octet_length(a.payload)) OVER w AS bytes_so_far
        FROM (
            SELECT * FROM promcompat.arrival AS o WHERE o.id > after_id ORDER BY o.id LIMIT n_arrivals
        ) AS a
        WINDOW w AS (ORDER BY a.id ROWS UNBOUNDED PRECEDING)
    ) AS n
    WHERE n.ordinal = 1 OR n.bytes_so_far <= n_bytes
    UNION ALL
    SELECT
        2, c.id, c.tenant_id, NULL, NULL, c.first_series, c.last_series,
        c.first_ms, c.last_ms, NULL, NULL, c.drained_through
    FROM (
        SELECT * FROM promcompat.sample_change AS o WHERE o.id > after_change ORDER BY o.id LIMIT n_changes
    ) AS c;
END
$$;

REVOKE EXECUTE ON FUNCTION append_arrivals(
    text, integer[], bigint[], bigint, integer[], smallint[], integer[], bigint[], bigint[], bigint[],
    bigint[], bytea[], bigint[], smallint[], float8[], bigint[]
) FROM PUBLIC;
REVOKE EXECUTE ON PROCEDURE commit_arrivals(
    text, integer[], bigint[], bigint, integer[], smallint[], integer[], bigint[], bigint[], bigint[],
    bigint[], bytea[], bigint[], smallint[], float8[], bigint[], bigint[]
) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION unpacked_bytes(bytea) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION last_arrival() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION has_arrival_since(
    bigint, integer[], bigint[], bigint[], bigint[], bigint[]
) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION news_since(bigint, bigint, bigint, bigint, bigint) FROM PUBLIC;
