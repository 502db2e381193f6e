-- What application teams say of their metrics.

-- One counter for each tenant, in the transaction of every change of a definition: a definition's
-- version is the counter after its last change, so a definition that was deleted and made again
-- never has an old version, and one look tells a cache whether anything changed.
CREATE TABLE definition_change (
    tenant_id integer PRIMARY KEY REFERENCES tenant (id),
    version bigint NOT NULL
);

-- No foreign key to series: a definition may come before the first sample of its metric, and
-- deleting it keeps the data.
CREATE TABLE metric_definition (
    tenant_id integer NOT NULL REFERENCES tenant (id),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    display_name text NOT NULL,
    description text NOT NULL,
    unit text NOT NULL,
    type text NOT NULL CHECK (type IN ('gauge', 'counter', 'histogram', 'summary')),
    aggregation text CHECK (
        aggregation IN ('avg', 'sum', 'min', 'max', 'count', 'last', 'rate', 'p50', 'p95', 'p99')
    ),
    retention_days integer CHECK (retention_days > 0),
    duplicate_policy text NOT NULL CHECK (duplicate_policy IN ('first', 'last')),
    alert_threshold jsonb,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);
