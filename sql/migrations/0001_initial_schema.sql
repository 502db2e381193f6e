-- Tenants, series, the one sample table and metric metadata.

CREATE TABLE tenant (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE CHECK (name <> '')
);

-- `labels` holds every label but the metric name, which has a column of its own. `fingerprint` is
-- a 128-bit cryptographic hash of the sorted labels: nobody can make two label sets collide.
-- Ids come from one sequence and are never reused, so that a cached id can never name another
-- series. No foreign key to tenant: its row lock would be taken once for each new series.
CREATE TABLE series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL,
    metric_name text COLLATE "C" NOT NULL,
    labels jsonb NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 16),
    UNIQUE (tenant_id, fingerprint)
);
CREATE INDEX series_tenant_metric_name ON series (tenant_id, metric_name);
CREATE INDEX series_labels ON series USING gin (labels jsonb_path_ops);

-- One table for the samples of all metrics: one hypertable for each metric sank Promscale.
-- No foreign key to series: it would cost an index look-up for each sample.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE TABLE sample (
            series_id bigint NOT NULL,
            ts timestamptz NOT NULL,
            value float8 NOT NULL
        );
        PERFORM create_hypertable(
            'sample', 'ts',
            chunk_time_interval => interval '1 day',
            create_default_indexes => false
        );
    ELSE
        CREATE TABLE sample (
            series_id bigint NOT NULL,
            ts timestamptz NOT NULL,
            value float8 NOT NULL
        ) PARTITION BY RANGE (ts);
    END IF;
END
$$;
CREATE UNIQUE INDEX sample_series_ts ON sample (series_id, ts);

CREATE TABLE metric_metadata (
    tenant_id integer NOT NULL REFERENCES tenant (id),
    family text COLLATE "C" NOT NULL,
    type text NOT NULL,
    help text NOT NULL,
    unit text NOT NULL,
    PRIMARY KEY (tenant_id, family)
);

-- Which database roles may read which tenants through the views for SQL users.
CREATE TABLE tenant_reader (
    role_name name NOT NULL,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    PRIMARY KEY (role_name, tenant_id)
);

-- Tells this database from another one at the same address: a running service refuses to go on
-- with cached series ids when the database was dropped and made again under it.
CREATE TABLE installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation DEFAULT VALUES;
