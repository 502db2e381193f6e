-- `metrics_hourly_by_series`, and what it is made of: hours that are rolled up, and hours that are
-- computed from samples when somebody reads them.

-- The days of tenants whose rollups hold. A day with an undrained arrival or a mark is not among them:
-- its samples may have changed. Only other views read it.
CREATE OR REPLACE VIEW rolled_day AS
SELECT d.tenant_id, d.day
FROM rollup_day AS d
WHERE d.rolled_through = 9223372036854775807
    AND NOT EXISTS (
        SELECT FROM rollup_mark AS m WHERE m.tenant_id = d.tenant_id AND m.day = d.day
    )
    AND NOT EXISTS (
        SELECT FROM arrival AS a
        WHERE a.tenant_id = d.tenant_id
            AND a.last_ms >= d.day * 86400000::bigint
            AND a.first_ms < (d.day + 1) * 86400000::bigint
    );

-- The times of a tenant that no rollup holds for, Unix ms, both inclusive.
CREATE OR REPLACE VIEW unrolled_time AS
SELECT t.tenant_id, t.from_ms, t.to_ms
FROM (
    SELECT
        d.tenant_id,
        coalesce((lag(d.day) OVER days + 1) * 86400000::bigint, -62135596800000) AS from_ms,
        d.day * 86400000::bigint - 1 AS to_ms
    FROM rolled_day AS d
    WINDOW days AS (PARTITION BY d.tenant_id ORDER BY d.day)
    UNION ALL
    SELECT
        t.id,
        coalesce(
            ((SELECT max(d.day) FROM rolled_day AS d WHERE d.tenant_id = t.id) + 1)
                * 86400000::bigint,
            -62135596800000
        ),
        253402300799999
    FROM tenant AS t
) AS t
WHERE t.from_ms <= t.to_ms;

-- The hours of stored samples, without stale markers and histograms; it has no rights but the caller's.
CREATE OR REPLACE FUNCTION stored_hours(
    of_tenant integer, of_series bigint[], from_ms bigint, to_ms bigint
)
RETURNS TABLE (
    bucket timestamptz, series_id bigint, count bigint, min float8, max float8, sum float8,
    first float8, last float8, increase float8
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT h.bucket, h.series_id, h.count, h.min, h.max, h.sum, h.first, h.last,
        CASE WHEN greatest(abs(h.first), abs(h.last)) < 1e290
            THEN h.last - h.first + coalesce(h.fallen, 0) ELSE 'NaN' END
    FROM (
        SELECT
            promcompat.from_unix_ms(s.hour * 3600000) AS bucket, s.series_id, count(*) AS count,
            min(s.value) AS min, max(s.value) AS max, sum(promcompat.summable(s.value)) AS sum,
            (array_agg(s.value ORDER BY s.unix_ms))[1] AS first,
            (array_agg(s.value ORDER BY s.unix_ms DESC))[1] AS last,
            -- NaN is the largest number in SQL.
            sum(promcompat.summable(s.before)) FILTER (
                WHERE s.value < s.before AND s.before <> 'NaN'
            ) AS fallen
        FROM (
            SELECT d.series_id, d.unix_ms, d.value, h.hour,
                lag(d.value) OVER (PARTITION BY d.series_id, h.hour ORDER BY d.unix_ms) AS before
            FROM promcompat.stored_samples(of_tenant, of_series, from_ms, to_ms) AS d
            CROSS JOIN LATERAL (SELECT floor(d.unix_ms / 3600000.0)::bigint) AS h (hour)
            WHERE d.nan_bits IS DISTINCT FROM 9218868437227405314 AND d.histogram IS NULL
        ) AS s
        GROUP BY s.series_id, s.hour
    ) AS h
$$;

-- The days of which rollups may be all that is left: what arrived too late to be kept does not change them,
-- but deletions do: `metrics_hourly_by_series` leaves out their series there, until these days are rolled up
-- again.
CREATE OR REPLACE VIEW outlived_day AS
SELECT d.tenant_id, d.day
FROM rollup_day AS d
WHERE d.rolled_through = 9223372036854775807;

-- Every metric with its series and the times that are shown of it. Readers are not granted it: the view
-- below reads it, by name if a name is asked for.
CREATE OR REPLACE VIEW hourly_metric AS
SELECT k.tenant_id, k.metric_name, k.ids, k.rolled_ms,
    -- The hours from `from_ms` on are those of samples, and the hours before it are rollups only.
    CASE WHEN k.rolled_ms IS NOT NULL AND EXISTS (
        SELECT FROM outlived_day AS d
        WHERE d.tenant_id = k.tenant_id AND d.day = floor(k.from_ms / 86400000.0)::integer
            AND NOT EXISTS (
                SELECT FROM rollup_mark AS m
                WHERE m.tenant_id = k.tenant_id AND m.day = d.day AND m.is_deletion
                    AND m.last_series >= k.ids[1] AND m.first_series <= k.ids[cardinality(k.ids)]
            )
            AND NOT EXISTS (
                SELECT FROM arrival AS a
                WHERE a.tenant_id = k.tenant_id AND a.kind = 3
                    AND a.last_series >= k.ids[1] AND a.first_series <= k.ids[cardinality(k.ids)]
                    AND a.last_ms >= d.day * 86400000::bigint
                    AND a.first_ms < (d.day + 1) * 86400000::bigint
            )
    ) THEN ceil(k.from_ms / 86400000.0)::bigint * 86400000 ELSE k.from_ms END AS from_ms
FROM (
    SELECT s.tenant_id, s.metric_name, array_agg(s.id ORDER BY s.id) AS ids,
        kept_from_ms(s.tenant_id, s.metric_name) AS from_ms,
        rolled_from_ms(s.tenant_id, s.metric_name) AS rolled_ms
    FROM series AS s
    WHERE s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
    GROUP BY s.tenant_id, s.metric_name
) AS k;

-- The hours that are rolled up. Where rollups outlive samples, an hour is shown as a whole, as all hours of its
-- day and of the days before it, unless samples of its metric and day have been deleted since; the retention of
-- rollups takes whole days.
CREATE OR REPLACE VIEW rolled_hour AS
SELECT r.bucket, r.tenant_id, s.metric_name AS name, s.labels, r.count::bigint AS count, r.min,
    r.max, r.sum, r.first, r.last, r.increase, r.series_id
FROM hourly_metric AS n
JOIN series AS s ON s.tenant_id = n.tenant_id AND s.metric_name = n.metric_name
JOIN sample_hour AS r ON r.series_id = s.id AND r.tenant_id = s.tenant_id
JOIN rolled_day AS d ON d.tenant_id = r.tenant_id
    AND d.day = floor(extract(epoch FROM r.bucket) / 86400)::integer
WHERE r.bucket >= from_unix_ms(n.from_ms)
    AND r.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
UNION ALL
SELECT r.bucket, r.tenant_id, s.metric_name, s.labels, r.count::bigint, r.min, r.max, r.sum,
    r.first, r.last, r.increase, r.series_id
FROM hourly_metric AS n
JOIN series AS s ON s.tenant_id = n.tenant_id AND s.metric_name = n.metric_name
JOIN sample_hour AS r ON r.series_id = s.id AND r.tenant_id = s.tenant_id
JOIN outlived_day AS d ON d.tenant_id = r.tenant_id
    AND d.day = floor(extract(epoch FROM r.bucket) / 86400)::integer
WHERE r.bucket >= from_unix_ms(n.rolled_ms)
    AND r.bucket < from_unix_ms(n.from_ms / 86400000 * 86400000)
    AND NOT EXISTS (
        SELECT FROM rollup_mark AS m
        WHERE m.tenant_id = d.tenant_id AND m.day = d.day AND m.is_deletion
            AND r.series_id BETWEEN m.first_series AND m.last_series
    )
    AND NOT EXISTS (
        SELECT FROM arrival AS a
        WHERE a.tenant_id = d.tenant_id AND a.kind = 3
            AND r.series_id BETWEEN a.first_series AND a.last_series
            AND a.last_ms >= d.day * 86400000::bigint
            AND a.first_ms < (d.day + 1) * 86400000::bigint
    )
    AND r.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)));

-- The metrics and times, Unix ms, both inclusive, whose hours are computed from samples: those that no rollup
-- holds for, and the hour in which the retention ends, which shows what is kept of it.
CREATE OR REPLACE VIEW unrolled_metric AS
SELECT n.tenant_id, n.metric_name, n.ids, u.from_ms, u.to_ms
FROM hourly_metric AS n
CROSS JOIN LATERAL (
    SELECT greatest(u.from_ms, n.from_ms) AS from_ms, u.to_ms
    FROM unrolled_time AS u
    WHERE u.tenant_id = n.tenant_id AND u.to_ms >= n.from_ms
    UNION ALL
    SELECT n.from_ms, ceil(n.from_ms / 3600000.0)::bigint * 3600000 - 1
    FROM rolled_day AS d
    WHERE d.tenant_id = n.tenant_id AND d.day = floor(n.from_ms / 86400000.0)::integer
) AS u;

-- Both for `hours`.
CREATE OR REPLACE VIEW visible_rolled_hour WITH (security_barrier) AS
SELECT r.bucket, r.tenant_id, r.name, r.labels, r.count, r.min, r.max, r.sum, r.first, r.last, r.increase,
    r.series_id
FROM rolled_hour AS r;

CREATE OR REPLACE VIEW visible_unrolled_metric WITH (security_barrier) AS
SELECT n.tenant_id, n.metric_name, n.ids, n.from_ms, n.to_ms
FROM unrolled_metric AS n;

-- One row for each series and hour, [bucket, bucket + 1 hour), that has samples.
CREATE OR REPLACE VIEW metrics_hourly_by_series WITH (security_barrier) AS
SELECT h.bucket, h.tenant_id, h.name, h.labels, h.count, mean_of(h.sum, h.count) AS avg, h.min, h.max,
    h.sum, h.first, h.last, h.increase, h.series_id
FROM (
    SELECT r.bucket, r.tenant_id, r.name, r.labels, r.count, r.min, r.max, r.sum, r.first, r.last,
        r.increase, r.series_id
    FROM rolled_hour AS r
    UNION ALL
    -- The planner might join the series before it computes the hours of their name, and again for each of them.
    SELECT l.bucket, n.tenant_id, n.metric_name,
        (SELECT s.labels FROM series AS s WHERE s.id = l.series_id), l.count, l.min, l.max, l.sum,
        l.first, l.last, l.increase, l.series_id
    FROM unrolled_metric AS n
    CROSS JOIN LATERAL stored_hours(n.tenant_id, n.ids, n.from_ms, n.to_ms) AS l
) AS h;

-- The rows of `metrics_hourly_by_series` of one name (NULL: of all names) whose hours begin at `from_time` or later
-- and before `to_time`, of the series that have these labels. Metrics of the same retention are read together.
CREATE OR REPLACE FUNCTION hours(
    name text, from_time timestamptz, to_time timestamptz DEFAULT 'infinity',
    labels jsonb DEFAULT '{}'
)
RETURNS SETOF metrics_hourly_by_series
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    -- Of the hours that begin then: the first ms, and the last.
    first_ms bigint := ceil(promcompat.bounding_unix_ms(coalesce($2, '-infinity')) / 3600000.0)::bigint * 3600000;
    last_ms bigint := ceil(promcompat.bounding_unix_ms(coalesce($3, 'infinity')) / 3600000.0)::bigint * 3600000 - 1;
BEGIN
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT s.id, s.tenant_id, s.metric_name, s.series_labels AS labels
        FROM promcompat.series_matching($1, $4) AS s
    ),
    asked AS (
        SELECT f.tenant_id, n.from_ms, n.to_ms, array_agg(f.id ORDER BY f.id) AS ids
        FROM promcompat.visible_unrolled_metric AS n
        JOIN found AS f ON f.tenant_id = n.tenant_id AND f.metric_name = n.metric_name
        WHERE ($1 IS NULL OR n.metric_name = $1) AND n.to_ms >= first_ms AND n.from_ms <= last_ms
        GROUP BY f.tenant_id, n.from_ms, n.to_ms
    )
    SELECT h.bucket, f.tenant_id, f.metric_name, f.labels, h.count, promcompat.mean_of(h.sum, h.count),
        h.min, h.max, h.sum, h.first, h.last, h.increase, h.series_id
    FROM (
        SELECT r.bucket, r.series_id, r.count, r.min, r.max, r.sum, r.first, r.last, r.increase
        FROM promcompat.visible_rolled_hour AS r
        WHERE ($1 IS NULL OR r.name = $1)
            AND r.bucket >= promcompat.from_unix_ms(first_ms)
            AND r.bucket <= promcompat.from_unix_ms(last_ms)
        UNION ALL
        (
            SELECT l.bucket, l.series_id, l.count, l.min, l.max, l.sum, l.first, l.last, l.increase
            FROM asked AS n
            CROSS JOIN LATERAL promcompat.stored_hours(
                n.tenant_id, n.ids, greatest(n.from_ms, first_ms), least(n.to_ms, last_ms)
            ) AS l
            -- The join stays outside: else samples are read once for each series.
            OFFSET 0
        )
    ) AS h
    JOIN found AS f ON f.id = h.series_id;
END
$$;
