-- finish_restore --
-- Where the database that a restore has filled is still there: take its place if that database was dropped
-- for it, else drop it, since it may lack something. A DROP DATABASE that was interrupted leaves a
-- database that nobody can use (datconnlimit -2). psql runs it as superuser.
\set ON_ERROR_STOP on
SELECT
    EXISTS (SELECT FROM pg_database WHERE datname = :'restored') AS is_there,
    EXISTS (SELECT FROM pg_database WHERE datname = :'database' AND datconnlimit <> -2) AS was_kept
\gset
\if :is_there
\if :was_kept
DROP DATABASE :"restored" WITH (FORCE);
\else
DROP DATABASE IF EXISTS :"database";
-- The workers of TimescaleDB are sessions, beside which a database cannot be renamed.
\connect :"restored"
SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') AS has_timescaledb \gset
\if :has_timescaledb
SELECT _timescaledb_functions.stop_background_workers();
\endif
\connect postgres
ALTER DATABASE :"restored" RENAME TO :"database";
\endif
\endif
