-- Ids of series and tenants that no earlier or later state of this database ever handed out, and the
-- record of removed series. The functions and triggers are in sql/routines/0015_identity.sql;
-- docs/adr/0012-ids-across-restores.md has the argument.

-- An identity column counts on from where a restored dump or a promoted standby stands, so it hands
-- out again what a running service still has in its cache. These columns get their ids from
-- take_series_id and take_tenant_id, which do not fall behind the clock.
DO $$
DECLARE
    last_id bigint;
BEGIN
    SELECT coalesce(max(id), 0) INTO last_id FROM series;
    ALTER TABLE series ALTER COLUMN id DROP IDENTITY;
    CREATE SEQUENCE series_id_seq OWNED BY series.id;
    PERFORM setval('series_id_seq', last_id + 1);
    SELECT coalesce(max(id), 0) INTO last_id FROM tenant;
    ALTER TABLE tenant ALTER COLUMN id DROP IDENTITY;
    CREATE SEQUENCE tenant_id_seq AS integer OWNED BY tenant.id;
    PERFORM setval('tenant_id_seq', last_id + 1);
END
$$;

-- Which series were removed, in the order of the commits: what a running service evicts from its
-- caches. Entries are kept for a day; a service that missed some forgets everything.
CREATE TABLE series_removal (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series_ids bigint[] NOT NULL,
    removed_at timestamptz NOT NULL DEFAULT now()
);
