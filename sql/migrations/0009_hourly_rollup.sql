-- `metrics_hourly`: what is kept of each hour, and how maintenance knows which hours to compute.

-- One row for each metric of a tenant and hour that has samples. `sum` is that of `summable` values.
-- Not used on TimescaleDB Community, where the continuous aggregate `sample_hourly` stands in.
CREATE TABLE hourly_rollup (
    tenant_id integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    bucket timestamptz NOT NULL,
    count bigint NOT NULL,
    min float8 NOT NULL,
    max float8 NOT NULL,
    sum float8 NOT NULL,
    PRIMARY KEY (tenant_id, name, bucket)
);
CREATE INDEX hourly_rollup_bucket ON hourly_rollup (bucket);

-- Hours (since 1970-01-01) whose samples changed after the fact, written in the transaction that
-- changed them. A log without a key: writers never wait for each other here, and maintenance deletes
-- exactly the rows whose changes it can see.
CREATE TABLE hourly_change (
    tenant_id integer NOT NULL,
    hour bigint NOT NULL
);

-- Hours of that log that were computed before and have to be computed again. Only the process that
-- holds the lock of maintenance writes here.
CREATE TABLE hourly_stale (
    tenant_id integer NOT NULL,
    hour bigint NOT NULL,
    PRIMARY KEY (tenant_id, hour)
);

-- Hours before `computed_before` are computed; samples from there on are read when somebody asks.
-- `source` says what the view `metrics_hourly` was last made to read.
CREATE TABLE hourly_progress (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    computed_before timestamptz NOT NULL DEFAULT '-infinity',
    source text NOT NULL DEFAULT ''
);
INSERT INTO hourly_progress DEFAULT VALUES;
