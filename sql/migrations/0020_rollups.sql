-- Rollups of the block store (docs/adr/0016-rollups.md): what stands for the samples of a bucket of 5
-- minutes, an hour or a day, and which days of a tenant they hold for.

-- The UTC days (since 1970-01-01) of a tenant that have samples, and which series have rollups of
-- them: those up to `rolled_through`. The day is rolled up when that is the largest bigint.
CREATE TABLE rollup_day (
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    rolled_through bigint NOT NULL DEFAULT -9223372036854775808,
    PRIMARY KEY (tenant_id, day)
) WITH (fillfactor = 50);
CREATE INDEX rollup_day_open ON rollup_day (tenant_id, day)
    WHERE rolled_through < 9223372036854775807;

-- Samples that have changed since their day was rolled up: readers take raw samples there, until the
-- day is rolled up again for these series. A mark lies within one day; all bounds are inclusive.
-- Written and deleted by holders of `drain_order` only.
CREATE TABLE rollup_mark (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL,
    day integer NOT NULL,
    first_series bigint NOT NULL,
    last_series bigint NOT NULL,
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL
);
CREATE INDEX rollup_mark_day ON rollup_mark (tenant_id, day);

-- The rollups that PromQL reads: columns of all buckets of a series and period, as pages of the sample
-- codec. `period` counts periods since 1970-01-01: of 1 day for buckets of 5 minutes, of 16 days for
-- buckets of an hour, of 128 days for buckets of a day. In a page, 8 times the id of the series plus the
-- number of a column takes the place of the series id.
CREATE TABLE sample_rollup (
    series_id bigint NOT NULL,
    bucket_seconds integer NOT NULL,
    period integer NOT NULL,
    tenant_id integer NOT NULL,
    -- Columns 0 and 1: the samples at the ends of buckets and around the resets of counters, and how
    -- many samples each of them stands for (negative: not all resets of the bucket are there).
    ends bytea NOT NULL,
    -- Columns 2 and 3: minimum and maximum.
    extremes bytea NOT NULL,
    -- Columns 4 to 7: number of samples, sum, what the sum lost by rounding, and the binary exponent
    -- that bounds the sum of absolute values.
    sums bytea NOT NULL,
    PRIMARY KEY (bucket_seconds, series_id, period)
);
CREATE INDEX sample_rollup_period ON sample_rollup (bucket_seconds, tenant_id, period);

-- The hours that SQL reads, [bucket, bucket + 1 hour), without stale markers.
CREATE TABLE sample_hour (
    bucket timestamptz NOT NULL,
    series_id bigint NOT NULL,
    tenant_id integer NOT NULL,
    count integer NOT NULL,
    min float8 NOT NULL,
    max float8 NOT NULL,
    sum float8 NOT NULL,
    first float8 NOT NULL,
    last float8 NOT NULL,
    -- What a counter rose by between the first and the last sample of the hour, resets included.
    increase float8 NOT NULL,
    PRIMARY KEY (series_id, bucket)
);
CREATE INDEX sample_hour_bucket ON sample_hour USING brin (bucket) WITH (pages_per_range = 32);

-- What was drained before this migration; days far from now are not known, and are read raw.
INSERT INTO rollup_day (tenant_id, day)
SELECT DISTINCT tenant_id, floor(first_ms / 86400000.0)::integer
FROM drained_extent
WHERE floor(first_ms / 86400000.0) = floor(last_ms / 86400000.0);

DO $$
DECLARE
    payload text;
BEGIN
    FOREACH payload IN ARRAY ARRAY['ends', 'extremes', 'sums'] LOOP
        BEGIN
            EXECUTE format('ALTER TABLE sample_rollup ALTER COLUMN %I SET COMPRESSION lz4', payload);
        EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
            NULL;
        END;
    END LOOP;
END
$$;
