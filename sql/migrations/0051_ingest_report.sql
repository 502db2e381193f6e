-- How much the tenants with a rate of ingest have written, as each process reports it once a second, so that
-- all processes together admit the rate. What a crash loses costs a second of it.
CREATE UNLOGGED TABLE ingest_report (
    process uuid PRIMARY KEY,
    reported_at timestamptz NOT NULL DEFAULT now(),
    -- By the tenant's name: the samples that the process has admitted since it started.
    admitted jsonb NOT NULL
);
