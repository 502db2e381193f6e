-- Exemplars: single observations of series, with labels that lead to a trace. Few are kept, for a while.

-- The series that have exemplars. They are not those of the table series: an exemplar may come without a
-- sample, and is kept when its series is removed, as in Prometheus.
CREATE TABLE exemplar_series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    -- BLAKE2b-128 of names and values, as in series.
    fingerprint bytea NOT NULL,
    metric_name text NOT NULL,
    -- All labels but the metric's name.
    labels jsonb NOT NULL,
    -- The newest exemplar that was accepted: an older one is out of order. label_hash is XXH64 of its labels,
    -- as in Prometheus, minus 2^63.
    newest_ms bigint,
    newest_value float8,
    newest_label_hash bigint,
    appended_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, fingerprint)
);

CREATE TABLE exemplar (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL,
    exemplar_series_id bigint NOT NULL REFERENCES exemplar_series (id) ON DELETE CASCADE,
    -- Unix ms.
    time_ms bigint NOT NULL,
    value float8 NOT NULL,
    labels jsonb NOT NULL
);
CREATE INDEX exemplar_of_series ON exemplar (exemplar_series_id, time_ms, id);
CREATE INDEX exemplar_of_tenant ON exemplar (tenant_id, id);
