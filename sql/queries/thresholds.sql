-- definition_versions --
-- The version of each tenant's definitions, which shows whether they changed.
SELECT t.id AS tenant_id, t.name AS tenant, c.version
FROM definition_change AS c
JOIN tenant AS t ON t.id = c.tenant_id

-- series_of_metrics --
-- Every series of given metrics of a tenant.
SELECT id, metric_name, labels::text AS labels
FROM series
WHERE tenant_id = $1 AND metric_name = ANY($2::text[])

-- known_levels --
-- The last levels of series that breach or did: those handled at $1 or later, and unhandled ones.
SELECT series_id, level, ts_ms
FROM (
    SELECT series_id, level, (extract(epoch FROM ts) * 1000)::bigint AS ts_ms, 0 AS id
    FROM threshold_state
    WHERE changed_at >= $1::timestamptz
    UNION ALL
    SELECT series_id, level, (extract(epoch FROM ts) * 1000)::bigint, id FROM breach_outbox
) AS known
ORDER BY ts_ms, id

-- drop_superseded --
-- If more than $1 changes wait, removes all but the newest of each series.
DELETE FROM breach_outbox AS b
WHERE
    (SELECT count(*) FROM (SELECT FROM breach_outbox LIMIT $1 + 1) AS waiting) > $1
    AND EXISTS (
        SELECT FROM breach_outbox AS n
        WHERE n.series_id = b.series_id AND (n.ts, n.id) > (b.ts, b.id)
    )

-- take_breaches --
-- Unhandled changes for the session that has the lock: the oldest of each tenant in turn.
WITH taken AS (
    SELECT b.id, row_number() OVER (PARTITION BY s.tenant_id ORDER BY b.id) AS turn
    FROM breach_outbox AS b
    LEFT JOIN series AS s ON s.id = b.series_id
    ORDER BY turn, b.id
    LIMIT $1
)
SELECT
    b.id, b.series_id, s.tenant_id, t.name AS tenant, s.metric_name, s.labels::text AS labels,
    b.value, (extract(epoch FROM b.ts) * 1000)::bigint AS ts_ms
FROM taken
JOIN breach_outbox AS b ON b.id = taken.id
LEFT JOIN series AS s ON s.id = b.series_id
LEFT JOIN tenant AS t ON t.id = s.tenant_id
ORDER BY b.id
FOR UPDATE OF b SKIP LOCKED

-- delete_breaches --
-- Removes handled changes.
DELETE FROM breach_outbox WHERE id = ANY($1::bigint[])

-- threshold_states --
-- The last handled levels of given series.
SELECT series_id, level, (extract(epoch FROM ts) * 1000)::bigint AS ts_ms
FROM threshold_state
WHERE series_id = ANY($1::bigint[])

-- save_threshold_states --
-- Records the handled levels of series of tenant $1; writers look for rows with a new `changed_at`.
-- Nothing reads the column `value`.
INSERT INTO threshold_state (series_id, tenant_id, metric_name, level, value, ts)
SELECT u.series_id, $1, u.metric_name, u.level, 0, from_unix_ms(u.ts_ms)
FROM unnest($2::bigint[], $3::text[], $4::smallint[], $5::bigint[])
    AS u (series_id, metric_name, level, ts_ms)
ON CONFLICT (series_id) DO UPDATE SET
    level = excluded.level, ts = excluded.ts, changed_at = now()

-- verified_states --
-- Up to $2 series after series $1, of those that breach or did within 10 minutes.
SELECT
    v.series_id, s.tenant_id, t.name AS tenant, v.metric_name, s.labels::text AS labels, v.level,
    (extract(epoch FROM v.ts) * 1000)::bigint AS ts_ms
FROM threshold_state AS v
LEFT JOIN series AS s ON s.id = v.series_id
LEFT JOIN tenant AS t ON t.id = s.tenant_id
WHERE v.series_id > $1 AND (v.level > 0 OR v.changed_at > now() - interval '10 minutes')
ORDER BY v.series_id
LIMIT $2

-- due_states --
-- Up to $1 series whose alert waits for the `for` of its threshold: those where that has passed for longest,
-- or will soonest.
WITH pending AS MATERIALIZED (
    SELECT a.series_id, a.tenant_id, a.rule_name, a.noticed_at
    FROM alert AS a
    WHERE a.rule_id IS NULL AND a.state = 'pending'
),
waits AS MATERIALIZED (
    SELECT d.tenant_id, d.name, (d.alert_threshold ->> 'for_ms')::float8 / 1000 AS seconds
    FROM metric_definition AS d
    WHERE (d.tenant_id, d.name) IN (SELECT DISTINCT p.tenant_id, p.rule_name FROM pending AS p)
),
due AS (
    SELECT p.series_id
    FROM pending AS p
    LEFT JOIN waits AS w ON w.tenant_id = p.tenant_id AND w.name = p.rule_name
    ORDER BY p.noticed_at + make_interval(secs => coalesce(w.seconds, 0))
    LIMIT $1
)
SELECT
    v.series_id, s.tenant_id, t.name AS tenant, v.metric_name, s.labels::text AS labels, v.level,
    (extract(epoch FROM v.ts) * 1000)::bigint AS ts_ms
FROM due
JOIN threshold_state AS v ON v.series_id = due.series_id
LEFT JOIN series AS s ON s.id = v.series_id
LEFT JOIN tenant AS t ON t.id = s.tenant_id

-- forget_levels --
-- Deletes the levels of series that have not breached for an hour.
DELETE FROM threshold_state
WHERE level = 0 AND changed_at < now() - interval '1 hour'

-- delete_states --
-- Deletes the levels of series that are no longer watched.
DELETE FROM threshold_state WHERE series_id = ANY($1::bigint[])

-- reset_level --
-- Makes a series count as not breaching until it gets a sample that is newer than all it has, the newest
-- of which is at $2 (Unix ms; NULL without one).
UPDATE threshold_state AS v
SET level = 0, changed_at = now(), ts = greatest(v.ts, from_unix_ms($2::bigint))
WHERE v.series_id = $1

-- open_threshold_alerts --
-- Open alerts of the thresholds of given series.
SELECT a.*, t.name AS tenant
FROM alert AS a
JOIN tenant AS t ON t.id = a.tenant_id
WHERE a.rule_id IS NULL AND a.state IN ('pending', 'firing') AND a.series_id = ANY($1::bigint[])

-- open_threshold_alerts_after --
-- Up to $2 open alerts of thresholds, of the series after series $1.
SELECT a.*, t.name AS tenant
FROM alert AS a
JOIN tenant AS t ON t.id = a.tenant_id
WHERE a.rule_id IS NULL AND a.state IN ('pending', 'firing') AND a.series_id > $1
ORDER BY a.series_id
LIMIT $2

-- take_review --
-- The metric whose review has been due for longest; its row is locked.
SELECT r.tenant_id, t.name AS tenant, r.metric_name, r.after_series_id, r.is_repeated
FROM threshold_review AS r
JOIN tenant AS t ON t.id = r.tenant_id
WHERE r.due_at <= now()
ORDER BY r.due_at
LIMIT 1
FOR UPDATE OF r SKIP LOCKED

-- review_series --
-- A page of series of metric $2 after series $3, with the last handled level of each. Series in the outbox are left out: they are handled next, with the present threshold.
SELECT
    s.id AS series_id, s.tenant_id, t.name AS tenant, s.metric_name, s.labels::text AS labels,
    coalesce(v.level, 0) AS level, (extract(epoch FROM v.ts) * 1000)::bigint AS ts_ms
FROM series AS s
JOIN tenant AS t ON t.id = s.tenant_id
LEFT JOIN threshold_state AS v ON v.series_id = s.id
WHERE
    s.tenant_id = $1 AND s.metric_name = $2 AND s.id > $3
    AND NOT EXISTS (SELECT FROM breach_outbox AS b WHERE b.series_id = s.id)
ORDER BY s.id
LIMIT $4

-- continue_review --
-- Makes the next page of a review begin after series $3.
UPDATE threshold_review SET after_series_id = $3 WHERE tenant_id = $1 AND metric_name = $2

-- repeat_review --
-- Ends the first pass of a review; the second one is due in $3 seconds.
UPDATE threshold_review
SET after_series_id = 0, is_repeated = true, due_at = now() + make_interval(secs => $3)
WHERE tenant_id = $1 AND metric_name = $2

-- end_review --
-- Ends a review after its second pass.
DELETE FROM threshold_review WHERE tenant_id = $1 AND metric_name = $2

-- has_series --
-- Whether a tenant has a series.
SELECT EXISTS (SELECT FROM series WHERE tenant_id = $1 AND id = $2)
