-- tenant_usages --
-- What each tenant stores.
SELECT tenant, series, samples, samples_per_day, bytes, first_day, last_day,
    top_metrics::text AS top_metrics
FROM usage
