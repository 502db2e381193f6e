-- note_touched --
-- Marks what is rolled up of these tenants, series and times, which have changed; all bounds are
-- inclusive. A range within one day also registers that day, as one that has samples.
WITH touched AS (
    SELECT
        t.*,
        floor(t.first_ms / 86400000.0)::integer AS first_day,
        floor(t.last_ms / 86400000.0)::integer AS last_day
    FROM unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
        AS t (tenant_id, first_series, last_series, first_ms, last_ms)
),
registered AS (
    INSERT INTO rollup_day (tenant_id, day)
    SELECT DISTINCT tenant_id, first_day FROM touched WHERE first_day = last_day LIMIT 10000
    ON CONFLICT DO NOTHING
)
INSERT INTO rollup_mark (tenant_id, day, first_series, last_series, first_ms, last_ms)
SELECT
    t.tenant_id, d.day, t.first_series, t.last_series,
    greatest(t.first_ms, d.day * 86400000::bigint),
    least(t.last_ms, d.day * 86400000::bigint + 86399999)
FROM touched AS t
JOIN rollup_day AS d
    ON d.tenant_id = t.tenant_id AND d.day BETWEEN t.first_day AND t.last_day
WHERE d.rolled_through >= t.first_series AND d.rolled_through > -9223372036854775808

-- forget_rolled_days --
-- Forgets the days before $1 of tenant $2 (NULL: of all), whose samples are gone.
WITH marks AS (
    DELETE FROM rollup_mark WHERE day < $1 AND ($2::integer IS NULL OR tenant_id = $2)
)
DELETE FROM rollup_day WHERE day < $1 AND ($2::integer IS NULL OR tenant_id = $2)
