-- detect_capabilities --
-- The versions and the licence; only the license setting distinguishes Community from Apache.
SELECT
    current_setting('server_version') AS server_version,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb_version,
    current_setting('timescaledb.license', true) AS timescaledb_license

-- database_state --
-- The store and the epoch of this database, the number of the last removal of series, and the series removed after
-- number $1: NULL when the records of those removals are gone.
SELECT
    i.id AS installation_id,
    i.store,
    database_epoch() AS epoch,
    removal_position() AS position,
    CASE WHEN $1::bigint >= removal_position() THEN '{}'
        WHEN $1 + 1 >= (SELECT min(r.position) FROM series_removal AS r) THEN (
            SELECT array_agg(u.id)
            FROM series_removal AS r
            CROSS JOIN LATERAL unnest(r.series_ids) AS u (id)
            WHERE r.position > $1
        )
    END AS removed
FROM installation AS i

-- begin_server_run --
-- Before the first write of a session.
SELECT begin_server_run()

-- set_known_epoch --
-- Declares, for statements of this session that store samples, the epoch that the process knows.
SELECT set_config('promcompat.epoch', $1, false)

-- backend_pid --
-- The server process that serves this session.
SELECT pg_backend_pid()

-- session_setting --
-- The value of a setting in this session; NULL for one that does not exist.
SELECT current_setting($1, true)

-- is_read_only --
-- Whether writes are impossible, and whether that is because the server is a standby: it may be a setting of the
-- server, the database or the role instead.
SELECT
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
    pg_is_in_recovery() AS is_standby

-- connection_limit --
-- How many connections of this session's role the server allows at once, in this database.
SELECT least(
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true)::integer, 0),
    (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user),
    (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
)

-- no_transaction_timeout --
-- Lifts a limit that the role or database has for whole transactions. It is not among the settings with which a session
-- begins, because PostgreSQL before 17 does not know it.
SELECT set_config('transaction_timeout', '0', false) WHERE current_setting('transaction_timeout', true) <> '0'

-- set_lock_timeout --
-- How long a statement of this transaction waits for a lock while others queue behind it.
SELECT set_config('lock_timeout', $1, true)

-- ping --
-- A statement without effect, to see whether the database answers.
SELECT 1

-- find_tenant --
-- The id of a tenant, if it ever wrote.
SELECT id FROM tenant WHERE name = $1

-- create_tenant --
-- Creates tenant $1 if there are fewer than $2; a concurrent first write may have created it already.
INSERT INTO tenant (name)
SELECT $1 WHERE (SELECT count(*) FROM tenant) < $2::bigint
ON CONFLICT (name) DO NOTHING

-- store_in_use --
-- Which store keeps the samples of this database (NULL: no service has chosen one), whether it has samples
-- of the store `blocks`, arrivals of the store `rows`, and arrivals that wait for a drain.
SELECT
    i.store,
    EXISTS (SELECT FROM arrival WHERE kind < 3 AND i.store IS DISTINCT FROM 'rows')
        OR EXISTS (SELECT FROM sample_run)
        OR EXISTS (SELECT FROM sample_block) AS has_blocks,
    i.store = 'rows' AND EXISTS (SELECT FROM arrival WHERE kind < 3) AS has_arrivals_of_rows,
    EXISTS (SELECT FROM arrival WHERE NOT is_aside) AS is_undrained
FROM installation AS i

-- set_store --
-- Chooses the store. The row is written anew, so the epoch of the database changes, and services that
-- use the other store notice.
UPDATE installation SET store = $1
