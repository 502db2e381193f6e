-- Which series a deletion names, where the range of its marks has others too: only the rollups of these lose
-- the buckets that it touches. Written with the marks; deleted when none of them is left.
CREATE TABLE rollup_deletion (
    arrival_id bigint PRIMARY KEY,
    -- Ascending ids of 8 bytes each, big-endian.
    series_ids bytea NOT NULL
);

-- NULL: the mark is about all series of its range.
ALTER TABLE rollup_mark ADD COLUMN deletion_id bigint;
