-- Partitions of blocks by retention class and day, so that what is kept for different times is dropped
-- as a whole (docs/data-model.md, "Retention").
--
-- A slot is 8 * day + class: `day` counts from 1970-01-01 (UTC), `class` is 0 to 7. Slot -1073741824 has
-- the samples that are far from now, of any day and class; before, these were in a table of their own.

DROP VIEW IF EXISTS visible_block;
DROP FUNCTION IF EXISTS
    block_partition_name(integer), create_block_chunk(integer), create_block_partition(integer),
    drop_block_partition(integer);
ALTER TABLE sample_block RENAME TO sample_block_of_day;
ALTER INDEX sample_block_series RENAME TO sample_block_of_day_series;
ALTER TABLE sample_block_far RENAME TO sample_block_of_far;

-- Blocks of one series and one UTC day, at most 8,192 samples and 64 KB. `level` is 0 for blocks made of
-- runs, from 100 on for those merged after the end of their day.
DO $$
DECLARE
    old_day integer;
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        CREATE TABLE sample_block (LIKE sample_block_of_far INCLUDING COMPRESSION);
        ALTER TABLE sample_block RENAME COLUMN day TO slot;
        PERFORM create_hypertable(
            'sample_block', 'slot', chunk_time_interval => 1, create_default_indexes => false
        );
        CREATE INDEX sample_block_series ON sample_block (series_id, last_ms);
    ELSE
        CREATE TABLE sample_block (LIKE sample_block_of_far INCLUDING COMPRESSION)
            PARTITION BY RANGE (day);
        ALTER TABLE sample_block RENAME COLUMN day TO slot;
        CREATE INDEX sample_block_series ON sample_block (series_id, last_ms);
        CREATE TABLE sample_block_far PARTITION OF sample_block
            FOR VALUES FROM (-1073741824) TO (-1073741823);
        FOR old_day IN SELECT DISTINCT b.day FROM sample_block_of_day AS b LOOP
            -- The name as of block_partition_name.
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF sample_block FOR VALUES FROM (%L) TO (%L)',
                'sample_block_' || to_char(date '1970-01-01' + old_day, 'YYYYMMDD') || '_0',
                8 * old_day, 8 * old_day + 1
            );
        END LOOP;
    END IF;
END
$$;

INSERT INTO sample_block (
    series_id, first_ms, last_ms, first_arrival, last_arrival, deleted_through, tenant_id, slot,
    n_samples, level, replaces, payload
)
SELECT
    series_id, first_ms, last_ms, first_arrival, last_arrival, deleted_through, tenant_id, 8 * day,
    n_samples, level, replaces, payload
FROM sample_block_of_day
UNION ALL
SELECT
    series_id, first_ms, last_ms, first_arrival, last_arrival, deleted_through, tenant_id, -1073741824,
    n_samples, level, replaces, payload
FROM sample_block_of_far;
DROP TABLE sample_block_of_day;
DROP TABLE sample_block_of_far;

ALTER TABLE sample_run RENAME COLUMN day TO slot;
UPDATE sample_run SET slot = CASE slot WHEN -2147483648 THEN -1073741824 ELSE 8 * slot END;

-- Updated in two steps, so that no new key is that of another row: no slot of a day is above 30,000,000.
ALTER TABLE drained_extent RENAME COLUMN day TO slot;
UPDATE drained_extent
SET slot = CASE slot WHEN -2147483648 THEN -1073741824 ELSE 8 * slot + 500000000 END;
UPDATE drained_extent SET slot = slot - 500000000 WHERE slot > 0;

-- The slots that have partitions of `sample_block`, but the far one. A sample is near if its day has a slot,
-- whatever the class, so that of one series and day everything far arrived before everything near.
ALTER TABLE block_day RENAME TO block_slot;
ALTER TABLE block_slot RENAME COLUMN day TO slot;
UPDATE block_slot SET slot = 8 * slot + 500000000;
UPDATE block_slot SET slot = slot - 500000000;

-- How long samples are kept. NULL: as the service keeps them; 0: forever. A metric's own is in
-- metric_definition, and counts before that of its tenant.
ALTER TABLE tenant ADD COLUMN retention_days integer CHECK (retention_days >= 0);
-- PROMCOMPAT_RETENTION_DAYS of the service that was started last, for SQL readers.
CREATE TABLE service_retention (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    days integer NOT NULL DEFAULT 0
);
INSERT INTO service_retention DEFAULT VALUES;

-- The class into which drains put samples of a metric ('': all others of the tenant); without a row it is
-- 0. A class is changed by holders of `drain_order` only, and not again before the samples that were put
-- elsewhere have been moved: those of slots up to `moved_through` have been (NULL: all have).
CREATE TABLE retention_class (
    tenant_id integer NOT NULL,
    metric_name text COLLATE "C" NOT NULL,
    class smallint NOT NULL CHECK (class BETWEEN 0 AND 7),
    moved_through integer,
    PRIMARY KEY (tenant_id, metric_name)
);

-- Whether series without samples are to be looked for: `n_asked` counts what may have left some, and
-- `n_answered` is what it was when the last search that has ended began.
CREATE TABLE orphan_search (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    n_asked bigint NOT NULL DEFAULT 0,
    n_answered bigint NOT NULL DEFAULT 0,
    -- What `n_asked` was when the search that is running began, and the last series it has looked at.
    n_seen bigint NOT NULL DEFAULT 0,
    looked_through bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO orphan_search DEFAULT VALUES;

-- Store `rows`: before when the rows of a metric ('': all others of the tenant) that are kept for a shorter
-- time than their chunks are deleted, and before when they are being deleted. Drains that add older rows
-- lower both. Unix ms.
CREATE TABLE row_retention (
    tenant_id integer NOT NULL,
    metric_name text COLLATE "C" NOT NULL,
    deleted_before_ms bigint NOT NULL,
    deleting_before_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, metric_name)
) WITH (fillfactor = 50);
