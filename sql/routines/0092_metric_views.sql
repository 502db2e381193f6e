-- Views of single metrics, with a column for each label: made on demand, and kept up to date.

-- The labels of a metric's series, but for those that are known, in order.
CREATE OR REPLACE FUNCTION labels_of_metric(of_tenant integer, of_metric text, known text[])
RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT coalesce(array_agg(l.label ORDER BY l.label COLLATE "C"), '{}')
    FROM (
        SELECT DISTINCT k.label
        FROM promcompat.series AS s
        CROSS JOIN LATERAL jsonb_object_keys(s.labels) AS k (label)
        WHERE s.tenant_id = of_tenant AND s.metric_name = of_metric
    ) AS l
    WHERE l.label <> ALL (known)
$$;

-- The name of a label's column. PostgreSQL cuts names at 63 bytes, and two of them must not be the same.
CREATE OR REPLACE FUNCTION label_column(label text, taken text[]) RETURNS text
LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT CASE
        WHEN octet_length(label) <= 63 AND label <> ALL (taken) THEN label
        WHEN octet_length(label) <= 57 AND 'label_' || label <> ALL (taken) THEN 'label_' || label
        ELSE 'label_' || md5(label)
    END
$$;

-- What a metric measures: its definition's text and unit, else those that a target sent.
CREATE OR REPLACE FUNCTION metric_text(
    of_tenant integer, of_metric text, OUT description text, OUT unit text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT coalesce(nullif(d.description, ''), m.help, ''), coalesce(nullif(d.unit, ''), m.unit, '')
    FROM (SELECT 1) AS always
    LEFT JOIN promcompat.metric_definition AS d ON d.tenant_id = of_tenant AND d.name = of_metric
    LEFT JOIN LATERAL (
        SELECT f.help, f.unit
        FROM promcompat.metric_metadata AS f
        WHERE f.tenant_id = of_tenant
            AND f.family IN (of_metric, regexp_replace(of_metric, '_(bucket|sum|count|total)$', ''))
        ORDER BY length(f.family) DESC
        LIMIT 1
    ) AS m ON true
$$;

-- Makes, or makes again, the view and the function of a row of `metric_view`. Columns are only ever added at
-- the end, so that views on it stay valid.
CREATE OR REPLACE FUNCTION make_metric_view(wanted name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    made promcompat.metric_view := (
        SELECT v FROM promcompat.metric_view AS v WHERE v.view_name = wanted
    );
    columns text[] := '{time,value}';
    selected text := '';
    label text;
    texts record;
BEGIN
    FOREACH label IN ARRAY made.labels LOOP
        columns := columns || promcompat.label_column(label, columns);
        selected := selected || format(
            ', m.labels ->> %L AS %I', label, columns[cardinality(columns)]
        );
    END LOOP;
    EXECUTE format(
        'CREATE OR REPLACE VIEW promcompat.%I WITH (security_barrier) AS '
        'SELECT m."timestamp" AS "time", m.value%s FROM promcompat.metrics AS m '
        'WHERE m.tenant_id = %s AND m.name = %L',
        wanted, selected, made.tenant_id, made.metric_name
    );
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION promcompat.%I('
        'from_time timestamptz, to_time timestamptz DEFAULT ''infinity'', '
        'labels jsonb DEFAULT ''{}'') '
        'RETURNS SETOF promcompat.%I LANGUAGE plpgsql STABLE '
        'SET search_path = pg_catalog, promcompat, pg_temp AS %L',
        wanted, wanted, format(
            'BEGIN RETURN QUERY SELECT m."timestamp", m.value%s '
            'FROM promcompat.samples(%L, $1, $2, $3) AS m WHERE m.tenant_id = %s; END',
            selected, made.metric_name, made.tenant_id
        )
    );
    texts := promcompat.metric_text(made.tenant_id, made.metric_name);
    EXECUTE format(
        'COMMENT ON VIEW promcompat.%I IS %L', wanted,
        concat_ws(': ', made.metric_name, nullif(texts.description, ''))
    );
    EXECUTE format('COMMENT ON COLUMN promcompat.%I.value IS %L', wanted, nullif(texts.unit, ''));
    PERFORM promcompat.set_reader_rights(r.rolname, true)
    FROM pg_catalog.pg_roles AS r
    WHERE r.rolname IN (SELECT t.role_name FROM promcompat.tenant_reader AS t)
        AND NOT has_table_privilege(r.oid, format('promcompat.%I', wanted), 'SELECT');
END
$$;

-- Makes a view of a metric, with the columns `time`, `value` and one for each label, and a function of the same
-- name that takes times and labels; returns their name. The tenant may be left out if there is only one.
CREATE OR REPLACE FUNCTION create_metric_view(
    metric text, view_name text DEFAULT NULL, tenant_name text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    wanted text := coalesce($2, 'metric_' || $1);
    found_tenants integer[] := ARRAY(
        SELECT t.id FROM promcompat.tenant AS t WHERE $3 IS NULL OR t.name = $3 LIMIT 2
    );
    present promcompat.metric_view;
BEGIN
    IF cardinality(found_tenants) <> 1 THEN
        RAISE EXCEPTION '%', CASE WHEN $3 IS NULL THEN 'give the name of the tenant as the third argument'
            ELSE 'there is no tenant ' || quote_literal($3) END;
    END IF;
    IF octet_length(wanted) NOT BETWEEN 1 AND 63 THEN
        RAISE EXCEPTION 'the name of a view has 1 to 63 bytes; give one as the second argument';
    END IF;
    LOCK TABLE promcompat.metric_view IN SHARE UPDATE EXCLUSIVE MODE;
    SELECT v.* INTO present FROM promcompat.metric_view AS v WHERE v.view_name = wanted;
    IF FOUND THEN
        IF (present.tenant_id, present.metric_name) <> (found_tenants[1], $1) THEN
            RAISE EXCEPTION '% is the view of another metric; give another name as the second argument', wanted;
        END IF;
    ELSIF to_regclass(format('promcompat.%I', wanted)) IS NOT NULL
        OR EXISTS (
            SELECT FROM pg_catalog.pg_proc AS p
            WHERE p.proname = wanted AND p.pronamespace = 'promcompat'::regnamespace
        )
    THEN
        RAISE EXCEPTION 'the name % is taken; give another one as the second argument', wanted;
    END IF;
    IF NOT EXISTS (
        SELECT FROM promcompat.series AS s WHERE s.tenant_id = found_tenants[1] AND s.metric_name = $1
    ) THEN
        RAISE EXCEPTION 'the tenant has no metric %', quote_literal($1);
    END IF;
    INSERT INTO promcompat.metric_view AS v (view_name, tenant_id, metric_name, labels)
    VALUES (wanted, found_tenants[1], $1, promcompat.labels_of_metric(found_tenants[1], $1, '{}'))
    ON CONFLICT ON CONSTRAINT metric_view_pkey DO UPDATE SET
        labels = v.labels || promcompat.labels_of_metric(v.tenant_id, v.metric_name, v.labels);
    PERFORM promcompat.make_metric_view(wanted::name);
    RETURN wanted;
END
$$;

-- Removes a view that `create_metric_view` made; false if there is none of this name.
CREATE OR REPLACE FUNCTION drop_metric_view(view_name text) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    DELETE FROM promcompat.metric_view AS v WHERE v.view_name = $1;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP FUNCTION promcompat.%I(timestamptz, timestamptz, jsonb)', $1);
    EXECUTE format('DROP VIEW promcompat.%I', $1);
    RETURN true;
END
$$;

-- Adds columns for new labels, and drops the views of metrics that are gone, unless other views need them;
-- returns how many changed. Services call it.
CREATE OR REPLACE FUNCTION refresh_metric_views() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
DECLARE
    made promcompat.metric_view;
    added text[];
    n_changed integer := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM promcompat.metric_view) THEN
        RETURN 0;
    END IF;
    LOCK TABLE promcompat.metric_view IN SHARE UPDATE EXCLUSIVE MODE;
    FOR made IN SELECT v.* FROM promcompat.metric_view AS v ORDER BY v.view_name LOOP
        added := promcompat.labels_of_metric(made.tenant_id, made.metric_name, made.labels);
        IF NOT EXISTS (
            SELECT FROM promcompat.series AS s
            WHERE s.tenant_id = made.tenant_id AND s.metric_name = made.metric_name
        ) THEN
            BEGIN
                PERFORM promcompat.drop_metric_view(made.view_name);
                n_changed := n_changed + 1;
            EXCEPTION WHEN dependent_objects_still_exist THEN
                -- It stays, and shows nothing, until what was made of it is dropped.
            END;
        ELSIF cardinality(added) > 0 THEN
            UPDATE promcompat.metric_view AS v SET labels = v.labels || added
            WHERE v.view_name = made.view_name;
            PERFORM promcompat.make_metric_view(made.view_name);
            n_changed := n_changed + 1;
        END IF;
    END LOOP;
    RETURN n_changed;
END
$$;

REVOKE EXECUTE ON FUNCTION labels_of_metric(integer, text, text[]) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION metric_text(integer, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION make_metric_view(name) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION create_metric_view(text, text, text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION drop_metric_view(text) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION refresh_metric_views() FROM PUBLIC;
