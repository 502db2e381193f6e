-- What keeps the bits of NaNs in the store `rows` through a dump, whose text is the same for all of them.

-- The bits of a NaN that is neither the usual one nor a histogram's, such as a stale marker; NULL for all other
-- samples.
ALTER TABLE sample ADD COLUMN nan_bits bigint;

-- A stale marker. It is the usual NaN, or NULL, in a database whose rows may not have their bits.
ALTER TABLE installation ADD COLUMN stale_marker float8;
