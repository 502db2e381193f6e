-- sample_page_ascending --
-- Samples of series $1 after the position ($2 us, series $3), before $4 ms, oldest first.
-- One probe for each series of at most as many rows as the page holds: without, a series of years
-- would be read and sorted for a page of a hundred samples.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id
        AND p.ts >= from_unix_us($2::bigint)
        AND p.ts < from_unix_ms($4::bigint)
        AND (p.ts > from_unix_us($2::bigint) OR p.series_id > $3::bigint)
        AND NOT is_stale_marker(p.value)
    ORDER BY p.ts
    LIMIT $5
) AS l
ORDER BY l.ts, l.series_id
LIMIT $5

-- sample_page_descending --
-- Samples of series $1 before the position ($2 us, series $3), from $4 ms on, newest first.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id
        AND p.ts <= from_unix_us($2::bigint)
        AND p.ts >= from_unix_ms($4::bigint)
        AND (p.ts < from_unix_us($2::bigint) OR p.series_id < $3::bigint)
        AND NOT is_stale_marker(p.value)
    ORDER BY p.ts DESC
    LIMIT $5
) AS l
ORDER BY l.ts DESC, l.series_id DESC
LIMIT $5

-- latest_samples --
-- The newest sample of each of the series $1 that is no stale marker: one backward probe each.
SELECT l.series_id, (extract(epoch FROM l.ts) * 1000000)::bigint AS ts_us, l.value
FROM unnest($1::bigint[]) AS i (id)
CROSS JOIN LATERAL (
    SELECT p.series_id, p.ts, p.value
    FROM sample AS p
    WHERE p.series_id = i.id AND NOT is_stale_marker(p.value)
    ORDER BY p.ts DESC
    LIMIT 1
) AS l

-- metric_names_page --
-- Metric names that start with $2 and come after $3, at most $4: a loose index scan, one probe each.
WITH RECURSIVE names AS (
    (
        SELECT metric_name
        FROM series
        WHERE tenant_id = $1 AND metric_name >= $2 AND metric_name > $3
        ORDER BY metric_name
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT s.metric_name
        FROM series AS s
        WHERE s.tenant_id = $1 AND s.metric_name > n.metric_name
        ORDER BY s.metric_name
        LIMIT 1
    )
    FROM names AS n
    WHERE starts_with(n.metric_name, $2)
)
SELECT metric_name FROM names WHERE starts_with(metric_name, $2) LIMIT $4
