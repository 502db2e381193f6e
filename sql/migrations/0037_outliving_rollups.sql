-- Rollups may be kept longer than the samples that they stand for (docs/adr/0025-outliving-rollups.md).

-- PROMCOMPAT_ROLLUP_RETENTION_DAYS of the service that was started last, for SQL readers. NULL: rollups are
-- kept as long as samples; 0: forever.
ALTER TABLE service_retention ADD COLUMN rollup_days integer CHECK (rollup_days >= 0);

-- Whether samples were deleted. Where the samples of a day are no longer kept, its rollups lose the buckets
-- that a deletion touches; a sample that arrives too late changes nothing there.
ALTER TABLE rollup_mark ADD COLUMN is_deletion boolean NOT NULL DEFAULT false;
