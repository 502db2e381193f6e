-- A definition may ask for several percentiles at once.

ALTER TABLE metric_definition DROP CONSTRAINT metric_definition_aggregation_check;
ALTER TABLE metric_definition ADD CONSTRAINT metric_definition_aggregation_check CHECK (
    aggregation IN (
        'avg', 'sum', 'min', 'max', 'count', 'last', 'rate', 'p50', 'p95', 'p99', 'percentile'
    )
);
