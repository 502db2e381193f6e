-- tenant_usage --
-- What tenant $1 stores.
SELECT series, samples, samples_per_day, bytes, first_day, last_day, top_metrics::text AS top_metrics
FROM usage
WHERE tenant_id = $1
