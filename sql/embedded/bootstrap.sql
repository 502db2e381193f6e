-- bootstrap --
-- Make the owner's role and its database; psql runs it once, as superuser, before any client.
-- The role is an ordinary one, as managed PostgreSQL services hand out, so that what works here
-- works there; it may make the roles that read the SQL views.
\set ON_ERROR_STOP on
\getenv password PROMCOMPAT_PASSWORD
CREATE ROLE promcompat LOGIN CREATEROLE PASSWORD :'password';
GRANT pg_monitor TO promcompat;
CREATE DATABASE promcompat OWNER promcompat;
\connect promcompat
\if :has_timescaledb
CREATE EXTENSION timescaledb;
\endif
