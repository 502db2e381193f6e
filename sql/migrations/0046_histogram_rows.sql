-- Native histograms in the store `rows`, and as SQL users see them.

-- NULL for samples that are numbers. The value of a histogram is the NaN with the bits 0x7FFD480000000000, so
-- that the index on the values alone tells which samples are histograms. The bytes are those of
-- sql/samples/codec/histogram_rows.py.
ALTER TABLE sample ADD COLUMN histogram bytea;

-- A histogram with its counts as float8. `positive_indexes` and `negative_indexes` ascend, and say which
-- bucket each of the counts beside them belongs to: bucket i of schema n ends at 2^(i / 2^n), or, with custom
-- buckets (schema -53), at element i, from 0, of `custom_bounds`, the one behind them at infinity.
CREATE TYPE native_histogram AS (
    count float8,
    sum float8,
    schema integer,
    zero_threshold float8,
    zero_count float8,
    positive_indexes integer[],
    positive_counts float8[],
    negative_indexes integer[],
    negative_counts float8[],
    custom_bounds float8[],
    counter_reset_hint text
);
