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
    drained_through bigint NOT NULL DEFAULT 0,
    -- Rows of sample_change up to this id were pruned: whoever has seen less has missed changes.
    changes_pruned_through bigint NOT NULL DEFAULT 0,
    -- Which process compacts, and when it last did; another one takes over after a minute.
    compactor text NOT NULL DEFAULT '',
    compacted_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 10);
INSERT INTO drain_state DEFAULT VALUES;

-- What drains and retention touched, for the caches of every process. A merge changes no answer, and
-- a deletion is an arrival. Its rows are written by holders of `drain_order` only, so ids become visible
-- in their order.
CREATE TABLE sample_change (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The last arrival of the drain that this is about; NULL for what changes answers by itself.
    drained_through bigint,
    tenant_id integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);

-- The UTC days (since 1970-01-01) whose blocks are in partitions of `sample_block`: those that were near
-- now when a sample of theirs was first drained. A day stays here until its partition is dropped, so
-- that of one day everything far arrived before everything near. All other days are far: their runs have
-- the `day` -2147483648, and their blocks are in `sample_block_far`.
CREATE TABLE block_day (day integer PRIMARY KEY);

-- Bounds of what was drained, by tenant and day (-2147483648: all far days), and how many samples are in
-- blocks (and how many blocks) made of runs, and in those that were merged after the end of the day.
CREATE TABLE drained_extent (
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    unmerged_samples bigint NOT NULL DEFAULT 0,
    unmerged_blocks bigint NOT NULL DEFAULT 0,
    merged_samples bigint NOT NULL DEFAULT 0,
    -- The level of the newest merge after the end of the day.
    final_level smallint NOT NULL DEFAULT 99,
    PRIMARY KEY (tenant_id, day)
) WITH (fillfactor = 50);

-- Pages of many series, sorted by series and time. A run near now lies within one UTC day; the samples
-- of one far from now may be years apart. What has samples of the same series and day arrived in the
-- order of `last_arrival`; runs and blocks that share it never have the same series and time, unless one
-- `replaces`. Deletions up to the larger of `last_arrival` and `deleted_through` have been applied.
-- `level`: 0 for what a drain wrote, more for what was merged, from 100 on after the end of the day.
CREATE TABLE sample_run (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    level smallint NOT NULL,
    replaces boolean NOT NULL,
    first_arrival bigint NOT NULL,
    last_arrival bigint NOT NULL,
    deleted_through bigint NOT NULL,
    n_samples integer NOT NULL,
    n_series integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX sample_run_tenant ON sample_run (tenant_id, last_ms, first_ms);
CREATE INDEX sample_run_group ON sample_run (tenant_id, day, level, last_arrival)
    INCLUDE (n_samples, n_series);

-- Blocks of one series and one UTC day (`day` counts from 1970-01-01), at most 8,192 samples and 64 KB.
-- `level` is 0 for blocks made of runs, from 100 on for those merged after the end of their day.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE TABLE sample_block (
            series_id bigint NOT NULL,
            first_ms bigint NOT NULL,
            last_ms bigint NOT NULL,
            first_arrival bigint NOT NULL,
            last_arrival bigint NOT NULL,
            deleted_through bigint NOT NULL,
            tenant_id integer NOT NULL,
            day integer NOT NULL,
            n_samples integer NOT NULL,
            level smallint NOT NULL,
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
            deleted_through bigint NOT NULL,
            tenant_id integer NOT NULL,
            day integer NOT NULL,
            n_samples integer NOT NULL,
            level smallint NOT NULL,
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
    deleted_through bigint NOT NULL,
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    n_samples integer NOT NULL,
    level smallint NOT NULL,
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
