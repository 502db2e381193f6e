-- The identity of series: ids that never repeat, and the check before samples are stored.
--
-- A running service caches the ids of series. Three rules keep them valid
-- (docs/adr/0012-ids-across-restores.md):
-- 1. No id is handed out twice, whatever state the database is restored to.
-- 2. Statements that store samples or series declare the state of the database that the service knows:
--    as an argument of append_arrivals, and in the setting `promcompat.epoch` for a trigger on `series`.
--    Both compare it and refuse (SQLSTATE PC001) after a restore, a failover or the removal of a series;
--    the service then reads the state and the sender repeats.
-- 3. The removal of series and statements that store samples exclude each other.
--
-- How to remove series (`DELETE FROM series` by hand does all but the first by its triggers):
--   BEGIN;
--   SELECT lock_series();                        -- waits for running writes; new ones wait for us
--   DELETE FROM series WHERE id = ANY (…) AND …; -- those that stored_samples() shows nothing of
--   COMMIT;                                      -- soon: writers wait
-- The lock needs a separate statement. A DELETE that waits for it itself would still see the samples
-- from before it waited, and would remove a series that just got its first one.

-- The microseconds since 2020. Counters that start with it and never fall behind it do not repeat a
-- number when the database is restored to an older state: they continue above every earlier number.
CREATE OR REPLACE FUNCTION change_stamp() RETURNS bigint
LANGUAGE sql VOLATILE
RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - 1577836800000000;

-- A new id of a series: the milliseconds since 2020 (41 bits last until 2089) before the last 22 bits
-- of a counter. The counter distinguishes ids within a millisecond, and a restored database is in a
-- later one. It takes no lock, so that writers that create series do not wait for each other's commit.
CREATE OR REPLACE FUNCTION take_series_id() RETURNS bigint
LANGUAGE sql VOLATILE
RETURN ((promcompat.change_stamp() / 1000) << 22)
    | (nextval('promcompat.series_id_seq') & 4194303);

-- The same for a statement that takes many, and its change_stamp(): reading the clock for each one
-- takes ten times as long as the rest.
CREATE OR REPLACE FUNCTION take_series_id(stamp bigint) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN ((stamp / 1000) << 22) | (nextval('promcompat.series_id_seq') & 4194303);

-- A new id of a tenant: the seconds since 2020, or one more than the last one. 31 bits last until 2088.
CREATE OR REPLACE FUNCTION take_tenant_id() RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    new_id integer;
BEGIN
    -- Excludes other calls until the end of the transaction; tenants are rarely created.
    LOCK TABLE promcompat.installation IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT greatest(last_value + 1, promcompat.change_stamp() / 1000000) INTO new_id
    FROM promcompat.tenant_id_seq;
    PERFORM setval('promcompat.tenant_id_seq', new_id);
    RETURN new_id;
END
$$;

-- The epoch of the database. It changes when the server starts or is promoted (the timeline is the
-- first part of a WAL file's name), and when the database, the table `series` or the row of
-- `installation` is created again, as every way to restore a dump does: the path of a table's file
-- contains the database, and a row has the number of the transaction that wrote it. It also changes when
-- the server recovers from a crash of one of its processes (server_run). Its last part is the store, once
-- one is chosen.
-- No pinned search path: a writer calls this for each COPY, and each SET takes 20 µs.
CREATE OR REPLACE FUNCTION database_epoch() RETURNS text
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    run text := 'standby';
BEGIN
    -- A standby cannot read unlogged tables, such as server_run.
    IF NOT pg_is_in_recovery() THEN
        run := concat_ws(
            ':',
            left(pg_walfile_name(pg_current_wal_lsn()), 8),
            (SELECT r.id FROM promcompat.server_run AS r)
        );
    END IF;
    RETURN (
        SELECT concat_ws(
            ':',
            extract(epoch FROM pg_postmaster_start_time()),
            run,
            pg_relation_filepath('promcompat.series'::regclass),
            i.xmin,
            i.id,
            i.store
        )
        FROM promcompat.installation AS i
    );
END
$$;

-- Called before the first write of a session; see server_run.
CREATE OR REPLACE FUNCTION begin_server_run() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, promcompat, pg_temp
BEGIN ATOMIC
    INSERT INTO promcompat.server_run DEFAULT VALUES ON CONFLICT DO NOTHING;
END;
REVOKE EXECUTE ON FUNCTION begin_server_run() FROM PUBLIC;

-- The number of the last removal of series.
CREATE OR REPLACE FUNCTION removal_position() RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN coalesce((SELECT max(r.position) FROM promcompat.series_removal AS r), 0);
END
$$;

-- Waits until no transaction that stores samples runs, and blocks new ones until the end of this one.
-- It is a table lock, which needs the right to write to the table: every role that can connect could
-- take an advisory lock, and stop all writes with it. pg_dump does not wait for this lock.
CREATE OR REPLACE FUNCTION lock_series() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    LOCK TABLE promcompat.series_removal IN SHARE ROW EXCLUSIVE MODE;
END
$$;

-- Refuses samples and new series of a service whose cached tenants and series may be out of date. SQL
-- users have no cache; a session of the service that lost its setting is refused too.
CREATE OR REPLACE FUNCTION check_writer() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    known text := coalesce(current_setting('promcompat.epoch', true), '');
BEGIN
    IF known = '' AND current_setting('application_name') NOT LIKE 'promcompat write%' THEN
        RETURN NULL;
    END IF;
    -- The lock comes first, so that the state read below stays true until these samples are committed.
    LOCK TABLE promcompat.series_removal IN ROW EXCLUSIVE MODE;
    IF known <> concat(promcompat.database_epoch(), '/', promcompat.removal_position()) THEN
        RAISE EXCEPTION 'the series that the writer knows are out of date'
            USING ERRCODE = 'PC001';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION before_series_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    PERFORM promcompat.lock_series();
    RETURN NULL;
END
$$;

-- Records what was removed, for the caches of series ids and for those of selectors.
CREATE OR REPLACE FUNCTION record_series_removal() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    DELETE FROM promcompat.series_removal
    WHERE removed_at < now() - interval '1 day' AND position < promcompat.removal_position();
    INSERT INTO promcompat.series_removal (series_ids)
    SELECT array_agg(r.id) FROM removed AS r HAVING count(*) > 0;
    DELETE FROM promcompat.series_start AS t USING removed AS r WHERE t.series_id = r.id;
    INSERT INTO promcompat.series_generation AS g (tenant_id, slot, generation, n_series)
    SELECT r.tenant_id, 0, promcompat.change_stamp(), -r.n_removed
    FROM (SELECT tenant_id, count(*) AS n_removed FROM removed GROUP BY tenant_id) AS r
    ORDER BY r.tenant_id
    ON CONFLICT (tenant_id, slot)
    DO UPDATE SET
        generation = greatest(g.generation + 1, excluded.generation),
        n_series = g.n_series + excluded.n_series;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION refuse_series_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION 'a series keeps its id, tenant and labels for ever: services have them in memory'
        USING HINT = 'Write the samples under the new labels and delete the old series.';
END
$$;

-- Samples that SQL users change or delete may be in caches of samples and results. Instead of finding
-- out which, rewriting the row of `installation` changes the epoch, and all caches are dropped. The
-- sessions of the service, recognised by application_name, log their changes instead (sample_change).
CREATE OR REPLACE FUNCTION note_changed_samples() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF current_setting('application_name') NOT LIKE 'promcompat%' THEN
        UPDATE promcompat.installation SET created_at = created_at;
    END IF;
    RETURN NULL;
END
$$;

REVOKE EXECUTE ON FUNCTION take_series_id() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION take_series_id(bigint) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION take_tenant_id() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION lock_series() FROM PUBLIC;

-- Only once: these statements lock out every writer.
DO $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_trigger
        WHERE tgrelid = 'promcompat.series'::regclass AND tgname = 'check_writer'
    ) THEN
        ALTER TABLE promcompat.series ALTER COLUMN id SET DEFAULT promcompat.take_series_id();
        ALTER TABLE promcompat.tenant ALTER COLUMN id SET DEFAULT promcompat.take_tenant_id();
        CREATE TRIGGER note_changes AFTER UPDATE OR DELETE OR TRUNCATE ON promcompat.sample
        FOR EACH STATEMENT EXECUTE FUNCTION promcompat.note_changed_samples();
        CREATE TRIGGER check_writer BEFORE INSERT ON promcompat.series
        FOR EACH STATEMENT EXECUTE FUNCTION promcompat.check_writer();
        CREATE TRIGGER before_removal BEFORE DELETE OR TRUNCATE ON promcompat.series
        FOR EACH STATEMENT EXECUTE FUNCTION promcompat.before_series_removal();
        CREATE TRIGGER record_removal AFTER DELETE ON promcompat.series
        REFERENCING OLD TABLE AS removed
        FOR EACH STATEMENT EXECUTE FUNCTION promcompat.record_series_removal();
        CREATE TRIGGER refuse_change
        BEFORE UPDATE OF id, tenant_id, metric_name, labels, fingerprint ON promcompat.series
        FOR EACH STATEMENT EXECUTE FUNCTION promcompat.refuse_series_change();
    END IF;
END
$$;
