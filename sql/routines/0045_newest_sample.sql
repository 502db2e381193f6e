-- The newest sample of a series, stale markers included; no row without one. One probe of the index
-- of the newest chunk that has any. The planner puts it into the statement that calls it, for which
-- it may neither pin its search path nor be STRICT.
CREATE OR REPLACE FUNCTION newest_sample(of_series bigint)
RETURNS TABLE (ts timestamptz, value float8)
LANGUAGE sql STABLE
AS $$
    SELECT p.ts, p.value
    FROM promcompat.sample AS p
    WHERE p.series_id = of_series
    ORDER BY p.ts DESC
    LIMIT 1
$$;
REVOKE EXECUTE ON FUNCTION newest_sample(bigint) FROM PUBLIC;
