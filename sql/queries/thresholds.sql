-- take_review --
-- The metric whose review has been due for longest, for the one who holds its row.
SELECT r.tenant_id, t.name AS tenant, r.metric_name, r.after_series_id, r.is_repeated
FROM threshold_review AS r
JOIN tenant AS t ON t.id = r.tenant_id
WHERE r.due_at <= now()
ORDER BY r.due_at
LIMIT 1
FOR UPDATE OF r SKIP LOCKED

-- review_series --
-- A page of series of metric $2 after series $3, with what was last handled of each and its newest
-- sample. Not those of which the outbox tells: that is handled next, by the threshold of now.
SELECT
    s.id AS series_id, t.name AS tenant, s.metric_name, s.labels::text AS labels,
    coalesce(v.level, 0) AS level, (extract(epoch FROM v.ts) * 1000)::bigint AS ts_ms,
    n.value AS newest_value, (extract(epoch FROM n.ts) * 1000)::bigint AS newest_ts_ms
FROM series AS s
JOIN tenant AS t ON t.id = s.tenant_id
LEFT JOIN threshold_state AS v ON v.series_id = s.id
LEFT JOIN LATERAL (
    SELECT x.ts, x.value FROM sample AS x WHERE x.series_id = s.id ORDER BY x.ts DESC LIMIT 1
) AS n ON true
WHERE
    s.tenant_id = $1 AND s.metric_name = $2 AND s.id > $3
    AND NOT EXISTS (SELECT FROM breach_outbox AS b WHERE b.series_id = s.id)
ORDER BY s.id
LIMIT $4

-- continue_review --
-- The next page of a review begins after series $3.
UPDATE threshold_review SET after_series_id = $3 WHERE tenant_id = $1 AND metric_name = $2

-- repeat_review --
-- The first time is over: once more after $3 seconds.
UPDATE threshold_review
SET after_series_id = 0, is_repeated = true, due_at = now() + make_interval(secs => $3)
WHERE tenant_id = $1 AND metric_name = $2

-- end_review --
-- Both times are over.
DELETE FROM threshold_review WHERE tenant_id = $1 AND metric_name = $2

-- series_value --
-- The newest sample of a series of a tenant; its columns are null when it has none.
SELECT n.value, (extract(epoch FROM n.ts) * 1000)::bigint AS ts_ms
FROM series AS s
LEFT JOIN LATERAL (
    SELECT x.ts, x.value FROM sample AS x WHERE x.series_id = s.id ORDER BY x.ts DESC LIMIT 1
) AS n ON true
WHERE s.tenant_id = $1 AND s.id = $2
