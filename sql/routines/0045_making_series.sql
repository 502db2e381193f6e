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
CREATE OR REPLACE FUNCTION find_or_make_series(
    tenant integer, fingerprints bytea[], names text[], documents text[], places integer[]
) RETURNS bytea
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, promcompat, pg_temp
-- A plan from when the table was small may stay for long.
SET enable_seqscan = off
AS $$
DECLARE
    ids bigint[];
    new_ids bigint[];
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
            -- Last: a transaction that waits for this row then holds no key that its owner still needs.
            INSERT INTO promcompat.series_generation AS g (tenant_id, slot, generation)
            VALUES (tenant, pg_backend_pid() % 8, promcompat.change_stamp())
            ON CONFLICT (tenant_id, slot)
            DO UPDATE SET generation = greatest(g.generation + 1, excluded.generation);
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
REVOKE EXECUTE ON FUNCTION find_or_make_series(integer, bytea[], text[], text[], integer[]) FROM PUBLIC;
