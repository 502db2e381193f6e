-- The tables of the block store: arrivals, runs and blocks (docs/adr/0013-storage-engine.md).
--
-- An acknowledged write is one or more rows of `arrival`. A drain moves a closed prefix of arrivals
-- into `sample_run`, pages of many series; compaction moves samples of runs into blocks of one series
-- and one UTC day. Every `payload` is a page of the sample codec; `decode_page` reads it in SQL.
-- No column is updated after its row was written, except where a comment says so.

-- Held in SHARE UPDATE EXCLUSIVE MODE while an arrival is appended, and never written: ids of arrivals
-- become visible in their order. A table, because everybody who can connect can take an advisory lock.
CREATE TABLE arrival_order (nothing boolean);
-- The same for drains and compaction.
CREATE TABLE drain_order (nothing boolean);

CREATE SEQUENCE arrival_id AS bigint;

CREATE TABLE arrival (
    id bigint PRIMARY KEY,
    tenant_id integer NOT NULL,
    -- 1: samples, the first of a series and millisecond counts. 2: samples that replace earlier ones.
    -- 3: a deletion of samples that arrived earlier (`payload` holds the ids of its series, int8 big
    -- endian, ascending; none: every series of the tenant).
    kind smallint NOT NULL,
    n_samples integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    -- Unix ms, both inclusive.
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    -- A drain could not decode or move it: it stays here, readable, and later ones pass it.
    is_aside boolean NOT NULL DEFAULT false,
    appended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload bytea NOT NULL
);
-- Rows live for minutes: vacuum often, so that the table stays as large as what is undrained.
ALTER TABLE arrival SET (
    autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0.2,
    autovacuum_vacuum_insert_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.5
);
CREATE INDEX arrival_aside ON arrival (tenant_id) WHERE is_aside;

-- What a drain has reached; its row is updated by drains only.
CREATE TABLE drain_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    drained_through bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO drain_state DEFAULT VALUES;

-- What drains, deletions, merges and retention touched, for the caches of every process.
CREATE TABLE sample_change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant_id integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

-- Pages of many series, sorted by series and time. A run near now lies within one UTC day; the samples
-- of one far from now (`day` is NULL) may be years apart.
CREATE TABLE sample_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL,
    level smallint NOT NULL,
    day integer,
    replaces boolean NOT NULL,
    first_arrival bigint NOT NULL,
    last_arrival bigint NOT NULL,
    n_samples integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX sample_run_tenant ON sample_run (tenant_id, last_ms, first_ms);

-- Blocks of one series: of one UTC day (`day` counts from 1970-01-01), at most 8,192 samples and 64 KB.
-- Where `day` is partitioned, far samples go to `sample_block_far`.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE TABLE sample_block (
            series_id bigint NOT NULL,
            first_ms bigint NOT NULL,
            last_ms bigint NOT NULL,
            first_arrival bigint NOT NULL,
            last_arrival bigint NOT NULL,
            day integer NOT NULL,
            n_samples integer NOT NULL,
            replaces boolean NOT NULL,
            payload bytea NOT NULL
        );
        PERFORM create_hypertable(
            'sample_block', 'day', chunk_time_interval => 1, create_default_indexes => false
        );
    ELSE
        CREATE TABLE sample_block (
            series_id bigint NOT NULL,
            first_ms bigint NOT NULL,
            last_ms bigint NOT NULL,
            first_arrival bigint NOT NULL,
            last_arrival bigint NOT NULL,
            day integer NOT NULL,
            n_samples integer NOT NULL,
            replaces boolean NOT NULL,
            payload bytea NOT NULL
        ) PARTITION BY RANGE (day);
    END IF;
END
$$;
CREATE INDEX sample_block_series ON sample_block (series_id, last_ms);

CREATE TABLE sample_block_far (
    series_id bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    first_arrival bigint NOT NULL,
    last_arrival bigint NOT NULL,
    day integer NOT NULL,
    n_samples integer NOT NULL,
    replaces boolean NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX sample_block_far_series ON sample_block_far (series_id, last_ms);

-- Deletions that runs and blocks of earlier arrivals still have to be read with: samples that arrived
-- before `arrival_id`, of these series (NULL: all of the tenant), from `first_ms` to `last_ms`.
CREATE TABLE sample_deletion (
    arrival_id bigint PRIMARY KEY,
    tenant_id integer NOT NULL,
    series_ids bigint[],
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

-- Which store keeps the samples of this database: NULL until the first service has chosen.
ALTER TABLE installation ADD COLUMN store text CHECK (store IN ('blocks', 'rows'));
UPDATE installation SET store = 'rows' WHERE EXISTS (SELECT FROM series);

-- lz4 where this server was built with it: faster than pglz and as small.
DO $$
DECLARE
    stored text;
BEGIN
    FOREACH stored IN ARRAY ARRAY['arrival', 'sample_run', 'sample_block', 'sample_block_far'] LOOP
        BEGIN
            EXECUTE format('ALTER TABLE %I ALTER COLUMN payload SET COMPRESSION lz4', stored);
        EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
            NULL;
        END;
    END LOOP;
END
$$;
