-- try_maintenance_lock --
-- Whether this session is the one that does maintenance now.
SELECT pg_try_advisory_lock(hashtextextended('promcompat.maintenance', 0))

-- release_maintenance_lock --
-- Lets others do maintenance.
SELECT pg_advisory_unlock(hashtextextended('promcompat.maintenance', 0))

-- retained_metrics --
-- Every metric with a retention, of all tenants.
SELECT d.tenant_id, t.name AS tenant, d.name, d.retention_days
FROM metric_definition AS d
JOIN tenant AS t ON t.id = d.tenant_id
WHERE d.retention_days IS NOT NULL
ORDER BY d.tenant_id, d.name

-- series_of_metric --
-- The series of a metric.
SELECT id FROM series WHERE tenant_id = $1 AND metric_name = $2 ORDER BY id

-- delete_expired_samples --
-- Deletes samples of the series $1 of tenant $3 before $2 ms, and counts their days as changed for
-- caches of results; returns how many were deleted.
WITH deleted AS (
    DELETE FROM sample
    WHERE series_id = ANY($1::bigint[]) AND ts < from_unix_ms($2::bigint)
    RETURNING ts
),
counted AS (
    INSERT INTO late_write AS l (tenant_id, day, generation)
    SELECT $3, d.day, 1
    FROM (SELECT DISTINCT floor(extract(epoch FROM ts) / 86400)::integer AS day FROM deleted) AS d
    ORDER BY d.day
    ON CONFLICT (tenant_id, day) DO UPDATE SET generation = l.generation + 1
)
SELECT count(*) FROM deleted
