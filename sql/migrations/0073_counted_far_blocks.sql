-- Counts the blocks of far days again: until now, those that retention deleted stayed counted, and were merged
-- again and again.
UPDATE drained_extent AS e
SET unmerged_samples = coalesce(c.unmerged_samples, 0),
    unmerged_blocks = coalesce(c.unmerged_blocks, 0),
    merged_samples = coalesce(c.merged_samples, 0)
FROM drained_extent AS o
LEFT JOIN (
    SELECT
        b.tenant_id,
        sum(b.n_samples) FILTER (WHERE b.level < 100) AS unmerged_samples,
        count(*) FILTER (WHERE b.level < 100) AS unmerged_blocks,
        sum(b.n_samples) FILTER (WHERE b.level >= 100) AS merged_samples
    FROM sample_block AS b
    WHERE b.slot = -1073741824
    GROUP BY b.tenant_id
) AS c ON c.tenant_id = o.tenant_id
WHERE o.slot = -1073741824 AND e.tenant_id = o.tenant_id AND e.slot = o.slot;
