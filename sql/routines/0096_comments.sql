-- What `\dv+` and `\df+` of psql say about the views and functions that are for SQL users; the others,
-- which have no comment, are parts of these. That of `metrics_hourly` is given where it is made.
COMMENT ON VIEW metrics IS 'samples; samples() of a name and times is faster';
COMMENT ON VIEW metrics_hourly_by_series IS
    'metrics_hourly by series, with first and last value and, for counters, the increase';
COMMENT ON VIEW metrics_start IS 'when counters began, as their senders said';
COMMENT ON VIEW definitions IS 'what was said of metrics: unit, type, retention, threshold';
COMMENT ON VIEW corrections IS 'who deleted, replaced, scaled or renamed samples, and why';
COMMENT ON VIEW tenants IS 'the tenants that this role reads';
COMMENT ON VIEW usage IS 'how much each tenant stores';
COMMENT ON VIEW usage_by_day IS 'how much each tenant stores of each day (UTC)';
COMMENT ON TABLE series IS 'series and their labels';

COMMENT ON FUNCTION samples(text, timestamptz, timestamptz, jsonb) IS
    'the rows of metrics of a name (NULL: all) from a time on, before another, of series with these labels';
COMMENT ON FUNCTION hours(text, timestamptz, timestamptz, jsonb) IS
    'the rows of metrics_hourly_by_series of a name (NULL: all) from a time on, before another, of series with these labels';
COMMENT ON FUNCTION series_matching(text, jsonb) IS
    'the series of a name (NULL: any) that have these labels';
COMMENT ON FUNCTION histogram_count(native_histogram) IS 'the number of observations';
COMMENT ON FUNCTION histogram_sum(native_histogram) IS 'the sum of the observations';
COMMENT ON FUNCTION histogram_schema(native_histogram) IS
    'how fine the buckets are: each power of two has 2^schema of them; -53 for custom bounds';
COMMENT ON FUNCTION histogram_buckets(native_histogram) IS
    'a row for each bucket with observations, ascending';
COMMENT ON FUNCTION histogram_quantile(float8, native_histogram) IS
    'the estimated quantile, as histogram_quantile() of PromQL';
COMMENT ON FUNCTION create_metric_view(text, text, text) IS
    'makes a view of one metric with a column for each label, and a function that takes times';
COMMENT ON FUNCTION drop_metric_view(text) IS 'removes a view that create_metric_view made';
COMMENT ON FUNCTION grant_tenant_reader(name, text) IS 'lets a role read a tenant';
COMMENT ON FUNCTION revoke_tenant_reader(name, text) IS 'takes a tenant back from a role';
