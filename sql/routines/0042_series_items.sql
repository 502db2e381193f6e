-- The item of a list that each series belongs to: its value of the label, NULL if it has none; or for the
-- label '' the names of its labels, as JSON. Series with these ids, NULL: all of the tenant. The planner
-- puts it into the statement that calls it, so it has no pinned search path.
CREATE OR REPLACE FUNCTION items_of_series(tenant integer, ids bigint[], label text)
RETURNS TABLE (id bigint, metric_name text, value text)
LANGUAGE sql STABLE
AS $$
    SELECT
        s.id,
        s.metric_name,
        CASE label
            WHEN '' THEN array_to_json(
                CASE WHEN s.metric_name = '' THEN '{}'::text[] ELSE '{__name__}' END
                || ARRAY(SELECT jsonb_object_keys(s.labels))
            )::text
            WHEN '__name__' THEN nullif(s.metric_name, '')
            ELSE s.labels ->> label
        END
    FROM promcompat.series AS s
    WHERE s.tenant_id = tenant AND (ids IS NULL OR s.id = ANY(ids))
$$;
