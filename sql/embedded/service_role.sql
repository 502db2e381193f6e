-- service_role --
-- Make the role of the service in the database, or give it another password; psql runs it as superuser. It
-- owns nothing: each migration grants it what it needs (the routine grant_service_role).
\set ON_ERROR_STOP on
\getenv password PROMCOMPAT_PASSWORD
SELECT format('CREATE ROLE %I', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec
ALTER ROLE :"role" LOGIN PASSWORD :'password';
GRANT pg_monitor TO :"role";
ALTER ROLE :"role" IN DATABASE :"database" SET search_path = promcompat, "$user", public;
