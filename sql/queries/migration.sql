-- create_migration_table --
-- Where applied migrations are recorded.
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- create_routine_table --
-- What was last applied of the re-applied scripts, all of them together.
CREATE TABLE IF NOT EXISTS schema_routine (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    checksum text NOT NULL
)

-- applied_routines --
-- The checksum of the routines this database has.
SELECT checksum FROM schema_routine

-- record_routines --
-- Records the routines in the transaction that applied them.
INSERT INTO schema_routine (checksum) VALUES ($1)
ON CONFLICT (singleton) DO UPDATE SET checksum = excluded.checksum

-- acquire_migration_lock --
-- One migration at a time in a database; held until the session ends.
SELECT pg_advisory_lock(hashtextextended('promcompat.migrate', 0))

-- applied_migrations --
-- What was applied, in order.
SELECT version, name, checksum FROM schema_migration ORDER BY version

-- has_migration_table --
-- Whether this database was ever migrated.
SELECT to_regclass('schema_migration') IS NOT NULL

-- record_migration --
-- Records a migration in the transaction that applied it.
INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)

-- extension_state --
-- Whether TimescaleDB is on this server, and in this database; and what the text encoding is.
SELECT
    EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb') AS available,
    EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS created,
    current_setting('server_encoding') AS encoding,
    current_setting('server_version_num')::integer AS server_version

-- create_extension --
-- Needs TimescaleDB in shared_preload_libraries; without, the server ends the connection.
CREATE EXTENSION IF NOT EXISTS timescaledb

-- set_chunk_interval --
-- The width of chunks made from now on; older chunks keep theirs.
SELECT set_chunk_time_interval('sample', make_interval(days => $1))
FROM timescaledb_information.hypertables
WHERE hypertable_schema = current_schema() AND hypertable_name = 'sample'
