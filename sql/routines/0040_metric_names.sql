-- The metric names of a tenant, '' for series without one, by a loose index scan: one probe for
-- each name and not for each series. The planner puts it into the statement that calls it.
CREATE OR REPLACE FUNCTION metric_names_of(tenant integer) RETURNS SETOF text
LANGUAGE sql STABLE
AS $$
    WITH RECURSIVE names AS (
        (
            SELECT metric_name FROM promcompat.series WHERE tenant_id = tenant ORDER BY metric_name LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT s.metric_name
            FROM promcompat.series AS s
            WHERE s.tenant_id = tenant AND s.metric_name > n.metric_name
            ORDER BY s.metric_name
            LIMIT 1
        )
        FROM names AS n
        WHERE n.metric_name IS NOT NULL
    )
    SELECT metric_name FROM names WHERE metric_name IS NOT NULL
$$;
