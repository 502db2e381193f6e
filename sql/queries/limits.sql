-- find_overrides --
-- The overrides of the limits of tenant $1.
SELECT l.overrides::text AS overrides, l.version FROM tenant_limit AS l WHERE l.tenant_id = $1

-- list_overrides --
-- The overrides of every tenant that ever had some.
SELECT t.name, l.overrides::text AS overrides, l.version
FROM tenant_limit AS l
JOIN tenant AS t ON t.id = l.tenant_id

-- overrides_position --
-- A number that grows with each change of overrides: no version is ever lowered, and no row removed.
SELECT coalesce(sum(l.version), 0)::bigint FROM tenant_limit AS l

-- insert_overrides --
-- The first overrides of tenant $1; no row if it has some already.
INSERT INTO tenant_limit (tenant_id, overrides, version)
VALUES ($1, $2::jsonb, 2)
ON CONFLICT (tenant_id) DO NOTHING
RETURNING version

-- update_overrides --
-- Replaces the overrides of tenant $1 that have version $3; no row if they have another one.
UPDATE tenant_limit SET overrides = $2::jsonb, version = version + 1
WHERE tenant_id = $1 AND version = $3
RETURNING version

-- count_series --
-- How many series tenant $1 has.
SELECT coalesce(sum(g.n_series), 0)::bigint FROM series_generation AS g WHERE g.tenant_id = $1

-- exchange_rates --
-- Reports as process $1 what it has admitted ($2), and returns what the other processes that live report.
WITH gone AS (
    DELETE FROM ingest_report
    WHERE process IN (
        SELECT r.process FROM ingest_report AS r
        WHERE r.reported_at < now() - interval '1 minute'
        FOR UPDATE SKIP LOCKED
    )
), own AS (
    INSERT INTO ingest_report (process, admitted) VALUES ($1, $2::jsonb)
    ON CONFLICT (process) DO UPDATE SET reported_at = now(), admitted = excluded.admitted
)
SELECT r.process, r.admitted::text AS admitted
FROM ingest_report AS r
WHERE r.process <> $1 AND r.reported_at > now() - interval '10 seconds'
