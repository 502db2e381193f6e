-- default_search_path --
-- The search path that a session of this role starts with, before anything sets it.
SELECT reset_val FROM pg_settings WHERE name = 'search_path'

-- schema_owner --
-- The owner of our schema, and whether this role has its rights; no row without the schema. `is_usable`: this role
-- may use it, and it belongs to the owner of the database, whose objects can be trusted.
SELECT
    pg_get_userbyid(nspowner) AS owner,
    pg_has_role(nspowner, 'USAGE') AS is_ours,
    has_schema_privilege(oid, 'USAGE') AND nspowner = (
        SELECT d.datdba FROM pg_database AS d WHERE d.datname = current_database()
    ) AS is_usable
FROM pg_namespace
WHERE nspname = 'promcompat'

-- create_schema --
-- The schema of all our objects, so that an application may have tables of the same names.
CREATE SCHEMA promcompat

-- earlier_home --
-- The schema in which an early version created our tables, the first one of its search path. It is
-- recognised by several tables together, as an application may well have one of the names.
SELECT n.nspname AS schema, pg_get_userbyid(m.relowner) AS owner,
    pg_has_role(m.relowner, 'USAGE') AS is_ours
FROM pg_class AS m
JOIN pg_namespace AS n ON n.oid = m.relnamespace
WHERE n.nspname = ANY (current_schemas(false))
    AND n.nspname <> 'promcompat'
    AND m.relname = 'schema_migration'
    AND (
        SELECT count(*) FROM pg_attribute AS a
        WHERE a.attrelid = m.oid AND a.attname IN ('version', 'name', 'checksum', 'applied_at')
    ) = 4
    AND (
        SELECT count(*) FROM pg_class AS c
        WHERE c.relnamespace = m.relnamespace AND c.relowner = m.relowner
            AND c.relname IN ('tenant', 'series', 'sample', 'installation', 'tenant_reader')
    ) = 5
ORDER BY array_position(current_schemas(false), n.nspname)
LIMIT 1

-- moves_to_schema --
-- The statements that move what migrations 0001-0006 and their routines created in schema $1 into
-- our own. Indexes, identity sequences and the chunks of a hypertable follow their table, partitions
-- do not. What belongs to the extension stays: it has a time_bucket too.
WITH home AS (
    SELECT oid, nspname FROM pg_namespace WHERE nspname = $1
),
ours AS (
    SELECT c.oid, c.relname, c.relkind
    FROM home AS h
    JOIN pg_class AS c ON c.relnamespace = h.oid
    WHERE c.relname IN (
        'schema_migration', 'schema_routine', 'installation', 'tenant', 'tenant_reader', 'series',
        'series_generation', 'sample', 'late_write', 'metric_metadata', 'metric_definition',
        'definition_change', 'alert_rule', 'alert_rule_evaluation', 'alert', 'alert_transition',
        'alert_delivery', 'silence', 'breach_outbox', 'threshold_state', 'remediation',
        'remediation_step', 'metrics'
    )
),
partitions AS (
    SELECT i.inhrelid::regclass AS oid, c.relname, c.relkind
    FROM ours AS o
    JOIN pg_inherits AS i ON i.inhparent = o.oid AND o.relkind = 'p'
    JOIN pg_class AS c ON c.oid = i.inhrelid
    JOIN home AS h ON h.oid = c.relnamespace
)
SELECT format(
    'ALTER %s %I.%I SET SCHEMA promcompat',
    CASE t.relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, h.nspname, t.relname
) AS statement
FROM (SELECT * FROM ours UNION ALL SELECT * FROM partitions) AS t
CROSS JOIN home AS h
WHERE t.relkind IN ('r', 'p', 'v')
UNION ALL
SELECT format(
    'ALTER FUNCTION %I.%I(%s) SET SCHEMA promcompat',
    h.nspname, f.proname, pg_get_function_identity_arguments(f.oid)
)
FROM home AS h
JOIN pg_proc AS f ON f.pronamespace = h.oid
WHERE f.proname IN (
        'from_unix_ms', 'from_unix_us', 'time_bucket', 'sample_partition_name',
        'create_sample_partitions', 'visible_tenants', 'sees_all_tenants', 'is_stale_marker',
        'grant_tenant_reader', 'metric_names_of', 'call_remediation_function'
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e'
    )

-- session_search_path --
-- The search path of migrations: our tables and the functions of the extension, nothing else.
SELECT set_config(
    'search_path',
    concat_ws(', ', 'promcompat', (
        SELECT quote_ident(n.nspname)
        FROM pg_extension AS e
        JOIN pg_namespace AS n ON n.oid = e.extnamespace
        WHERE e.extname = 'timescaledb' AND n.nspname <> 'promcompat'
    ), 'pg_temp'),
    false
)

-- oldest_lock_holder --
-- The session that has held a lock on one of our objects for longest: the likeliest blocker.
SELECT
    a.pid,
    coalesce(a.application_name, '') AS application,
    coalesce(a.state, 'unknown') AS state,
    coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8 AS age_seconds,
    min(c.relname) AS relation
FROM pg_locks AS l
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.granted
    AND l.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND c.relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname = ANY ($1::text[]))
GROUP BY a.pid, a.application_name, a.state, a.xact_start
ORDER BY a.xact_start NULLS LAST
LIMIT 1

-- migration_lock_holder --
-- The session that is migrating this database.
SELECT pid FROM pg_locks
WHERE locktype = 'advisory'
    AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = (hashtextextended('promcompat.migrate', 0) >> 32 & 4294967295)::oid
    AND objid = (hashtextextended('promcompat.migrate', 0) & 4294967295)::oid

-- create_migration_table --
-- The table of applied migrations.
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- create_routine_table --
-- The table of the checksum over all routines that were applied last.
CREATE TABLE IF NOT EXISTS schema_routine (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    checksum text NOT NULL
)

-- applied_routines --
-- The checksum of the routines in this database.
SELECT checksum FROM schema_routine

-- record_routines --
-- Records the routines in the transaction that applied them.
INSERT INTO schema_routine (checksum) VALUES ($1)
ON CONFLICT (singleton) DO UPDATE SET checksum = excluded.checksum

-- try_migration_lock --
-- One migration at a time in a database; held until the session ends.
SELECT pg_try_advisory_lock(hashtextextended('promcompat.migrate', 0))

-- applied_migrations --
-- The applied migrations, in order.
SELECT version, name, checksum FROM schema_migration ORDER BY version

-- has_migration_table --
-- Whether this database was ever migrated.
SELECT to_regclass('promcompat.schema_migration') IS NOT NULL

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
-- Needs TimescaleDB in shared_preload_libraries; otherwise the server ends the connection.
CREATE EXTENSION IF NOT EXISTS timescaledb

-- set_chunk_interval --
-- Sets the width of new chunks; existing chunks keep theirs.
SELECT set_chunk_time_interval('promcompat.sample', make_interval(days => $1))
FROM timescaledb_information.dimensions
WHERE hypertable_schema = 'promcompat' AND hypertable_name = 'sample'
    AND time_interval IS DISTINCT FROM make_interval(days => $1)

-- set_own_path --
-- The search path $1 with our schema before it, for the statement after this.
SELECT set_config('search_path', concat_ws(', ', 'promcompat', nullif($1::text, '')), true)

-- current_role --
-- Whose rights the statements of a session have.
SELECT current_user

-- grant_service_role --
-- Gives the role $1 of the service what it needs.
SELECT grant_service_role($1)

-- own_path_statement --
-- Lets SQL users of this role write `metrics` without a prefix in this database, from their next
-- session on.
SELECT format(
    'ALTER ROLE CURRENT_USER IN DATABASE %I SET search_path FROM CURRENT', current_database()
)

-- keeps_nan_bits --
-- Whether rows have the bits of their NaNs: not in a database that was restored from text, nor in one that
-- was just migrated.
SELECT coalesce(float8send(stale_marker) = '\x7ff0000000000002'::bytea, false) FROM installation

-- was_text --
-- Whether this database went through text since its rows had the bits of their NaNs.
SELECT stale_marker IS NOT NULL FROM installation

-- nan_bits_after --
-- The different bits of NaNs in rows, from the next after $1 on, at most $2 of them, ascending.
SELECT coalesce(array_agg(b.nan_bits ORDER BY b.nan_bits), '{}')
FROM (SELECT DISTINCT nan_bits FROM sample WHERE nan_bits > $1 ORDER BY nan_bits LIMIT $2) AS b

-- restore_nan_bits --
-- Gives the NaNs of rows with the bits $1 the values $2, and all histograms the value $3.
SELECT restore_nan_bits($1, $2, $3)

-- set_stale_marker --
-- Rows have the bits of their NaNs from now on; $1 is a stale marker. The row is written anew, so the epoch of
-- the database changes.
UPDATE installation SET stale_marker = $1
