-- The ids of series where those that do not exist (NULL) and for which there is no room are 0 or -1; see
-- find_or_make_series. The first ones by `places` get the room.
--
-- Near the limit, writers of one tenant wait for each other, so that together they do not exceed it.
-- Elsewhere they do not: ten of them with 2,000 series each cannot exceed it.
CREATE OR REPLACE FUNCTION refuse_series(
    tenant integer,
    names text[],
    places integer[],
    ids bigint[],
    max_series bigint,
    max_of_metric bigint
) RETURNS bigint[]
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, promcompat, pg_temp
SET enable_seqscan = off
AS $$
DECLARE
    near CONSTANT bigint := 20000;
    room bigint;
BEGIN
    IF max_of_metric > 0 OR (
        SELECT coalesce(sum(g.n_series), 0) > max_series - near
        FROM promcompat.series_generation AS g
        WHERE g.tenant_id = tenant
    ) THEN
        PERFORM FROM promcompat.tenant AS t WHERE t.id = tenant FOR NO KEY UPDATE;
    END IF;
    IF max_of_metric > 0 THEN
        ids := ARRAY(
            SELECT CASE WHEN w.id IS NULL AND w.rank > max_of_metric - m.n_known THEN -1 ELSE w.id END
            FROM (
                SELECT
                    u.id, u.name, u.ordinal,
                    row_number() OVER (PARTITION BY u.name, u.id IS NULL ORDER BY u.place) AS rank
                FROM unnest(ids, names, places) WITH ORDINALITY AS u (id, name, place, ordinal)
            ) AS w
            LEFT JOIN (
                SELECT d.name, k.n_known
                FROM (
                    SELECT DISTINCT u.name FROM unnest(ids, names) AS u (id, name) WHERE u.id IS NULL
                ) AS d
                CROSS JOIN LATERAL (
                    SELECT count(*) AS n_known
                    FROM (
                        SELECT
                        FROM promcompat.series AS s
                        WHERE s.tenant_id = tenant AND s.metric_name = d.name
                        LIMIT max_of_metric
                    ) AS known
                ) AS k
            ) AS m ON m.name = w.name
            ORDER BY w.ordinal
        );
    END IF;
    IF max_series > 0 THEN
        SELECT max_series - coalesce(sum(g.n_series), 0) INTO room
        FROM promcompat.series_generation AS g
        WHERE g.tenant_id = tenant;
        ids := ARRAY(
            SELECT CASE WHEN w.id IS NULL AND w.rank > room THEN 0 ELSE w.id END
            FROM (
                SELECT
                    u.id, u.ordinal, row_number() OVER (PARTITION BY u.id IS NULL ORDER BY u.place) AS rank
                FROM unnest(ids, places) WITH ORDINALITY AS u (id, place, ordinal)
            ) AS w
            ORDER BY w.ordinal
        );
    END IF;
    RETURN ids;
END
$$;
REVOKE EXECUTE ON FUNCTION refuse_series(integer, text[], integer[], bigint[], bigint, bigint) FROM PUBLIC;

-- Ids of many series, of which those that do not exist yet are made: packed int8 in the order given. One
-- call for each series gave Promscale 320-490/s.
--
-- Rows are inserted in the order given, which is the same for every writer, so that no two writers
-- deadlock. Ids ascend by `places`, a permutation of 1 to the number of series; as many are drawn as the last
-- new series needs.
--
-- The rows have no ON CONFLICT, which takes a sixth of the time: another writer seldom makes the same
-- series at the same moment. If it does, all rows of this call are made again but those that exist by then.
-- One of the two has committed when that happens, so that they cannot keep each other from it.
--
-- The commit does not wait for the disk. Samples of these series are appended by a later commit, which does,
-- and the log is written in order. A crash that loses the series changes the epoch of the database, so that
-- no service goes on with their ids, and ids contain the time, so that none repeats.
--
-- Where a limit (0: none) leaves no room for a new series, its id is 0 (`max_series` of the tenant) or
-- -1 (`max_of_metric` of its metric).
CREATE OR REPLACE FUNCTION find_or_make_series(
    tenant integer,
    fingerprints bytea[],
    names text[],
    documents text[],
    places integer[],
    max_series bigint,
    max_of_metric bigint
) RETURNS bytea
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, promcompat, pg_temp
-- A plan from when the table was small may stay for long.
SET enable_seqscan = off
AS $$
DECLARE
    ids bigint[];
    admitted bigint[];
    new_ids bigint[];
    n_made bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    FOR round IN 1..10 LOOP
        ids := ARRAY(
            SELECT s.id
            FROM unnest(fingerprints) WITH ORDINALITY AS w (fingerprint, ordinal)
            LEFT JOIN LATERAL (
                SELECT e.id
                FROM promcompat.series AS e
                WHERE e.tenant_id = tenant AND e.fingerprint = w.fingerprint
                LIMIT 1
            ) AS s ON true
            ORDER BY w.ordinal
        );
        EXIT WHEN array_position(ids, NULL) IS NULL;
        IF max_series > 0 OR max_of_metric > 0 THEN
            admitted := promcompat.refuse_series(tenant, names, places, ids, max_series, max_of_metric);
            -- While this one waited for another writer, that may have made some of them.
            IF coalesce(array_position(admitted, 0), array_position(admitted, -1)) IS NOT NULL THEN
                PERFORM FROM unnest(fingerprints, ids) AS w (fingerprint, id)
                CROSS JOIN LATERAL (
                    SELECT
                    FROM promcompat.series AS e
                    WHERE e.tenant_id = tenant AND e.fingerprint = w.fingerprint
                    LIMIT 1
                ) AS s
                WHERE w.id IS NULL
                LIMIT 1;
                IF FOUND THEN
                    ids := NULL;
                    CONTINUE;
                END IF;
            END IF;
            ids := admitted;
            EXIT WHEN array_position(ids, NULL) IS NULL;
        END IF;
        new_ids := ARRAY(
            SELECT promcompat.take_series_id(c.stamp)
            FROM (SELECT promcompat.change_stamp() AS stamp OFFSET 0) AS c
            CROSS JOIN generate_series(1, (
                SELECT max(w.place)
                FROM unnest(places) WITH ORDINALITY AS w (place, ordinal)
                WHERE ids[w.ordinal] IS NULL
            ))
        );
        BEGIN
            INSERT INTO promcompat.series (id, tenant_id, metric_name, labels, fingerprint)
            SELECT new_ids[w.place], tenant, w.metric_name, w.document::jsonb, w.fingerprint
            FROM unnest(fingerprints, names, documents, places) WITH ORDINALITY
                AS w (fingerprint, metric_name, document, place, ordinal)
            WHERE ids[w.ordinal] IS NULL;
            GET DIAGNOSTICS n_made = ROW_COUNT;
            -- Last: a transaction that waits for this row then holds no key that its owner still needs.
            INSERT INTO promcompat.series_generation AS g (tenant_id, slot, generation, n_series)
            VALUES (tenant, pg_backend_pid() % 8, promcompat.change_stamp(), n_made)
            ON CONFLICT (tenant_id, slot)
            DO UPDATE SET
                generation = greatest(g.generation + 1, excluded.generation),
                n_series = g.n_series + excluded.n_series;
            ids := ARRAY(
                SELECT coalesce(ids[w.ordinal], new_ids[w.place])
                FROM unnest(places) WITH ORDINALITY AS w (place, ordinal)
            );
            EXIT;
        EXCEPTION
            WHEN unique_violation THEN ids := NULL;
        END;
    END LOOP;
    IF ids IS NULL THEN
        RAISE EXCEPTION 'other writers keep making the same series'
            USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN (SELECT string_agg(int8send(i.id), '') FROM unnest(ids) AS i (id));
END
$$;
REVOKE EXECUTE ON FUNCTION
    find_or_make_series(integer, bytea[], text[], text[], integer[], bigint, bigint) FROM PUBLIC;

-- The same without limits, as services of before 0043 call it.
CREATE OR REPLACE FUNCTION find_or_make_series(
    tenant integer, fingerprints bytea[], names text[], documents text[], places integer[]
) RETURNS bytea
LANGUAGE sql VOLATILE
RETURN promcompat.find_or_make_series(tenant, fingerprints, names, documents, places, 0, 0);
REVOKE EXECUTE ON FUNCTION find_or_make_series(integer, bytea[], text[], text[], integer[]) FROM PUBLIC;
