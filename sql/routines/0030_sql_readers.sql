-- What SQL users read: the view `metrics` and the function `samples`, bound to the tenants their role
-- was granted.
--
-- A role sees the tenants that `grant_tenant_reader` bound it to. The tables' owner and the role of the
-- service, which may insert series, see all tenants. No setting that a session can change widens that.
-- Only the owner may read `sample` itself: row-level security and TimescaleDB's columnstore exclude each
-- other.
--
-- `metrics_hourly`, which shows the same by the hour, is made in 0070_metrics_hourly.sql. The pages of
-- samples are decoded by 0080_sample_codec.sql.
--
-- Readers are not trusted. They may create temporary tables, views, functions, operators and types,
-- and whatever they have a schema for. Therefore:
-- * a function with the owner's rights (SECURITY DEFINER) pins its search path, pg_temp last and
--   written out (else a temporary table is found first), and qualifies the names of our tables;
-- * views and policies are security barriers: a reader's function sees only rows that the reader may
--   see. A view holds what its names meant when it was made, so the names in it cannot be replaced.
--   A view that is itself a UNION is no barrier: the planner puts any condition into its parts. So
--   every UNION is in a subquery;
-- * only who was granted it has USAGE on the schema, and what changes something is no PUBLIC function.

-- The tenants of a role and of the roles whose rights it inherits. SECURITY DEFINER, so that a reader needs
-- no grant on tenant_reader; the role is an argument because current_user inside would be the owner.
CREATE OR REPLACE FUNCTION visible_tenants(reader name) RETURNS SETOF integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT t.tenant_id
    FROM promcompat.tenant_reader AS t
    JOIN pg_catalog.pg_roles AS r ON r.rolname = t.role_name
    WHERE pg_has_role(reader, r.oid, 'USAGE')
$$;

CREATE OR REPLACE FUNCTION sees_all_tenants(reader name) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT pg_has_role(reader, relowner, 'USAGE') OR has_table_privilege(reader, oid, 'INSERT')
    FROM pg_catalog.pg_class
    WHERE oid = 'promcompat.series'::pg_catalog.regclass
$$;

-- The tenants that the caller may read; the argument is always current_user. Views compare with an array of them
-- where a metric is looked up by its name: with one more condition on the name, the index of tenant and name
-- finds its series, whoever asks. It has the rights of the caller, so that nobody learns of all tenants by
-- giving it the name of the owner.
CREATE OR REPLACE FUNCTION readable_tenants(reader name) RETURNS SETOF integer
LANGUAGE plpgsql STABLE SECURITY INVOKER SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    IF promcompat.sees_all_tenants(reader) THEN
        RETURN QUERY SELECT t.id FROM promcompat.tenant AS t;
    ELSE
        RETURN QUERY SELECT promcompat.visible_tenants(reader);
    END IF;
END
$$;

CREATE OR REPLACE FUNCTION is_stale_marker(value float8) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN value = 'NaN'::float8 AND float8send(value) = '\x7ff0000000000002'::bytea;

-- Only once: both statements lock out every reader and writer of series. Roles with the rights of the owner
-- are subject to no policy.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = 'series'::regclass) THEN
        ALTER TABLE series ENABLE ROW LEVEL SECURITY;
        CREATE POLICY series_of_visible_tenants ON series FOR SELECT
        USING (tenant_id = ANY (ARRAY(SELECT visible_tenants(current_user))));
    END IF;
END
$$;

-- The role whose rights a statement has, also inside a function with the owner's rights. Both settings are
-- out of a reader's control: nobody becomes a role that was not granted to him.
CREATE OR REPLACE FUNCTION calling_role() RETURNS name
LANGUAGE sql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT CASE pg_catalog.current_setting('role') WHEN 'none' THEN session_user
        ELSE pg_catalog.current_setting('role')::name END
$$;

-- The series of a metric (NULL: of every metric) that have these labels (NULL: any), of the tenants that the caller may
-- see. It has the rights of the owner because `@>` is not leakproof: in a statement of a reader it is only
-- applied to what the policy has let through, and no index of labels is used.
CREATE OR REPLACE FUNCTION series_matching(name text, labels jsonb DEFAULT '{}')
RETURNS TABLE (id bigint, tenant_id integer, metric_name text, series_labels jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, promcompat, pg_temp
-- Which index is best depends on the name and the labels.
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    reader name := promcompat.calling_role();
    tenants integer[];
BEGIN
    IF NOT promcompat.sees_all_tenants(reader) THEN
        tenants := ARRAY(SELECT promcompat.visible_tenants(reader));
    END IF;
    -- Conditions that are always true are gone before this is planned: `{}` would read the whole index.
    RETURN QUERY
    SELECT s.id, s.tenant_id, s.metric_name, s.labels
    FROM promcompat.series AS s
    WHERE (tenants IS NULL OR s.tenant_id = ANY (tenants))
        AND ($1 IS NULL OR s.metric_name = $1)
        AND ($2 IS NULL OR $2 = '{}' OR s.labels @> $2);
END
$$;

-- What is stored of the tenants that the caller may see, for `stored_samples`: rows of `sample`, pages of
-- samples, and deletions that pages have still to be read with. All bounds are inclusive. They are asked about one
-- tenant at a time, often for each metric again. So they ask whether the caller sees all tenants, and make no
-- array of them.
-- `last_arrival`: rows have arrived before everything that is undrained, and after what is set aside.
-- Rows that are being moved into the store `blocks` come before everything.
CREATE OR REPLACE VIEW visible_row WITH (security_barrier) AS
SELECT s.tenant_id, p.series_id, p.ts, p.value,
    (
        SELECT CASE WHEN i.store = 'blocks' THEN 0 ELSE d.drained_through END
        FROM installation AS i CROSS JOIN drain_state AS d
    ) AS last_arrival,
    p.histogram
FROM sample AS p
JOIN series AS s ON s.id = p.series_id
WHERE (SELECT sees_all_tenants(current_user))
    OR s.tenant_id IN (SELECT visible_tenants(current_user));

-- How many days samples are kept (0: forever): of a tenant (metric ''), and of metrics with a retention of
-- their own; and rollups, where that is longer (NULL: as long as samples).
CREATE OR REPLACE VIEW visible_retention WITH (security_barrier) AS
SELECT r.tenant_id, r.metric_name, r.days, r.rollup_days
FROM (
    SELECT t.id AS tenant_id, '' AS metric_name, coalesce(t.retention_days, s.days) AS days,
        s.rollup_days
    FROM tenant AS t
    CROSS JOIN service_retention AS s
    UNION ALL
    SELECT d.tenant_id, d.name, d.retention_days, s.rollup_days
    FROM metric_definition AS d
    CROSS JOIN service_retention AS s
    WHERE d.retention_days IS NOT NULL
) AS r
WHERE (SELECT sees_all_tenants(current_user))
    OR r.tenant_id IN (SELECT visible_tenants(current_user));

-- The first Unix ms that is kept of a metric now; the first of the calendar when everything is. It has no
-- rights but the caller's, and NULL for a tenant that the caller may not see.
CREATE OR REPLACE FUNCTION kept_from_ms(of_tenant integer, of_metric text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT CASE WHEN r.days = 0 THEN -62135596800000
        ELSE floor(extract(epoch FROM now()) * 1000)::bigint - r.days * 86400000::bigint END
    FROM promcompat.visible_retention AS r
    WHERE r.tenant_id = of_tenant AND r.metric_name IN ('', of_metric)
    ORDER BY r.metric_name DESC
    LIMIT 1
$$;

-- The first Unix ms of which rollups of a metric are kept, a midnight; NULL where they are kept as long as
-- samples. Otherwise as `kept_from_ms`.
CREATE OR REPLACE FUNCTION rolled_from_ms(of_tenant integer, of_metric text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
    SELECT CASE
        WHEN r.rollup_days IS NULL THEN NULL
        WHEN 0 IN (r.days, r.rollup_days) THEN -62135596800000
        ELSE ceil((extract(epoch FROM now()) * 1000
            - greatest(r.days, r.rollup_days) * 86400000::bigint) / 86400000)::bigint * 86400000
    END
    FROM promcompat.visible_retention AS r
    WHERE r.tenant_id = of_tenant AND r.metric_name IN ('', of_metric)
    ORDER BY r.metric_name DESC
    LIMIT 1
$$;

-- Every series with the time from which its samples are kept. Readers are not granted it: the views below
-- read it, and say themselves which tenants the caller may see.
CREATE OR REPLACE VIEW kept_series AS
SELECT s.id, s.tenant_id, s.metric_name, s.labels,
    CASE coalesce(d.retention_days, t.retention_days, r.days)
        WHEN 0 THEN timestamptz '-infinity'
        ELSE now() - 24 * coalesce(d.retention_days, t.retention_days, r.days) * interval '1 hour'
    END AS kept_from
FROM series AS s
JOIN tenant AS t ON t.id = s.tenant_id
CROSS JOIN service_retention AS r
LEFT JOIN metric_definition AS d ON d.tenant_id = s.tenant_id AND d.name = s.metric_name;

CREATE OR REPLACE VIEW visible_arrival WITH (security_barrier) AS
SELECT a.id, a.tenant_id, a.kind, a.first_series, a.last_series, a.first_ms, a.last_ms, a.payload
FROM arrival AS a
WHERE (SELECT sees_all_tenants(current_user))
    OR a.tenant_id IN (SELECT visible_tenants(current_user));

CREATE OR REPLACE VIEW visible_run WITH (security_barrier) AS
SELECT r.tenant_id, r.last_arrival, r.replaces, r.first_series, r.last_series, r.first_ms, r.last_ms,
    r.payload
FROM sample_run AS r
WHERE (SELECT sees_all_tenants(current_user))
    OR r.tenant_id IN (SELECT visible_tenants(current_user));

CREATE OR REPLACE VIEW visible_block WITH (security_barrier) AS
SELECT b.tenant_id, b.series_id, b.slot, b.last_arrival, b.replaces, b.first_ms, b.last_ms, b.payload
FROM sample_block AS b
WHERE (SELECT sees_all_tenants(current_user))
    OR b.tenant_id IN (SELECT visible_tenants(current_user));

CREATE OR REPLACE VIEW visible_deletion WITH (security_barrier) AS
SELECT d.arrival_id, d.tenant_id, d.series_ids, d.first_ms, d.last_ms
FROM (
    SELECT arrival_id, tenant_id, series_ids, first_ms, last_ms FROM sample_deletion
    UNION ALL
    SELECT id, tenant_id,
        CASE WHEN payload <> '' THEN ARRAY(
            SELECT ('x' || encode(substr(p.bytes, at, 8), 'hex'))::bit(64)::bigint
            -- A copy: what is stored compressed would be read again for each series.
            FROM (SELECT payload || ''::bytea AS bytes OFFSET 0) AS p
            CROSS JOIN LATERAL generate_series(1, length(p.bytes), 8) AS at
        ) END,
        first_ms, last_ms
    FROM arrival
    WHERE kind = 3
) AS d
WHERE (SELECT sees_all_tenants(current_user))
    OR d.tenant_id IN (SELECT visible_tenants(current_user));

-- The samples of a tenant, of these series, whose ids ascend (NULL: all), with times from `from_ms` to `to_ms`, in one
-- snapshot: rows, arrivals, runs and blocks. This is the fold of sql/samples/columns/fold.py in SQL: the first
-- sample of a series and millisecond counts, unless a later one replaces it; a deletion removes what
-- arrived before it. `value`, `nan_bits` and `histogram` are as in `decode_page`. It has no rights but the
-- caller's.
--
-- A block that shares no time with anything else of its series is not folded, because sorting takes longer
-- than decoding.
CREATE OR REPLACE FUNCTION stored_samples(
    of_tenant integer, of_series bigint[], from_ms bigint, to_ms bigint
)
RETURNS TABLE (
    series_id bigint, unix_ms bigint, value float8, nan_bits bigint, histogram native_histogram
)
LANGUAGE plpgsql STABLE
-- The planner takes samples for many, and joins them by hashing.
ROWS 100000
SET search_path = pg_catalog, promcompat, pg_temp
-- The bounds decide which partitions are read.
SET plan_cache_mode = force_custom_plan
AS $$
DECLARE
    least_series bigint := of_series[1];
    greatest_series bigint := of_series[cardinality(of_series)];
    keys bigint[] := promcompat.block_keys(of_series);
BEGIN
    RETURN QUERY
    WITH recent AS MATERIALIZED (
        SELECT a.id AS last_arrival, a.kind = 2 AS replaces, a.first_ms, a.last_ms, a.payload
        FROM promcompat.visible_arrival AS a
        WHERE a.tenant_id = of_tenant AND a.kind IN (1, 2)
            AND a.last_ms >= from_ms AND a.first_ms <= to_ms
            AND (of_series IS NULL
                OR a.last_series >= least_series AND a.first_series <= greatest_series)
        UNION ALL
        SELECT r.last_arrival, r.replaces, r.first_ms, r.last_ms, r.payload
        FROM promcompat.visible_run AS r
        WHERE r.tenant_id = of_tenant
            AND r.last_ms >= from_ms AND r.first_ms <= to_ms
            AND (of_series IS NULL
                OR r.last_series >= least_series AND r.first_series <= greatest_series)
        UNION ALL
        SELECT f.last_arrival, f.replaces, f.first_ms, f.last_ms, f.payload
        FROM promcompat.visible_block AS f
        WHERE f.tenant_id = of_tenant
            AND (of_series IS NULL OR f.series_id = ANY (of_series))
            AND f.last_ms >= from_ms AND f.first_ms <= to_ms
            AND f.slot = -1073741824
    ),
    -- With the part of their series, which ascend, that may be among those asked for. Also a part that is all of
    -- them is a copy: what is stored compressed would be read again for each sample.
    deletion AS MATERIALIZED (
        SELECT d.arrival_id, p.series_ids, d.first_ms, d.last_ms
        FROM promcompat.visible_deletion AS d
        CROSS JOIN LATERAL (
            SELECT CASE WHEN of_series IS NULL THEN d.series_ids[:] ELSE d.series_ids[
                width_bucket(least_series - 1, d.series_ids) + 1
                : width_bucket(greatest_series, d.series_ids)
            ] END AS series_ids
        ) AS p
        WHERE d.tenant_id = of_tenant AND d.last_ms >= from_ms AND d.first_ms <= to_ms
            AND from_ms <= to_ms
            AND (d.series_ids IS NULL OR p.series_ids <> '{}')
    ),
    stored_row AS NOT MATERIALIZED (
        SELECT r.last_arrival, r.series_id, r.ts, r.value, r.histogram
        FROM promcompat.visible_row AS r
        WHERE r.tenant_id = of_tenant
            AND (of_series IS NULL OR r.series_id = ANY (of_series))
            AND r.ts >= promcompat.from_unix_ms(from_ms)
            AND r.ts < promcompat.from_unix_ms(to_ms + 1)
    ),
    -- The times of what blocks may have to be folded with.
    changed AS MATERIALIZED (
        SELECT coalesce(range_agg(int8range(c.first_ms, c.last_ms, '[]')), '{}') AS times
        FROM (
            SELECT r.first_ms, r.last_ms FROM recent AS r
            UNION ALL
            SELECT greatest(d.first_ms, from_ms), least(d.last_ms, to_ms) FROM deletion AS d
            UNION ALL
            SELECT from_ms, to_ms WHERE EXISTS (SELECT FROM stored_row)
        ) AS c
    ),
    -- A block has the id of its group of series; one of an earlier version has the id of its only series.
    block AS MATERIALIZED (
        SELECT b.last_arrival, b.replaces, b.payload,
            int8range(b.first_ms, b.last_ms, '[]') && c.times
                OR coalesce(max(b.last_ms) OVER earlier >= b.first_ms, false)
                OR coalesce(lead(b.first_ms) OVER by_time <= b.last_ms, false) AS is_folded
        FROM promcompat.visible_block AS b
        CROSS JOIN changed AS c
        WHERE b.tenant_id = of_tenant
            AND (of_series IS NULL OR b.series_id = ANY (keys))
            AND b.last_ms >= from_ms AND b.first_ms <= to_ms
            AND b.slot BETWEEN 8 * floor(from_ms / 86400000.0)::integer
                AND 8 * floor(to_ms / 86400000.0)::integer + 7
        WINDOW by_time AS (PARTITION BY b.series_id & -16 ORDER BY b.first_ms),
            earlier AS (by_time ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ),
    stored AS (
        SELECT p.last_arrival, p.replaces, d.series_id, d.unix_ms, d.value, d.nan_bits, d.histogram
        FROM (
            SELECT r.last_arrival, r.replaces, r.payload FROM recent AS r
            UNION ALL
            SELECT b.last_arrival, b.replaces, b.payload FROM block AS b WHERE b.is_folded
        ) AS p
        CROSS JOIN LATERAL promcompat.decode_page(p.payload, of_series, from_ms, to_ms) AS d
        UNION ALL
        SELECT r.last_arrival, false, r.series_id, floor(extract(epoch FROM r.ts) * 1000)::bigint,
            CASE WHEN r.histogram IS NULL THEN r.value END,
            CASE WHEN r.value = 'NaN' AND r.histogram IS NULL THEN
                ('x' || encode(float8send(r.value), 'hex'))::bit(64)::bigint END,
            promcompat.histogram_of_row(r.histogram)
        FROM stored_row AS r
    )
    SELECT d.series_id, d.unix_ms, d.value, d.nan_bits, d.histogram
    FROM block AS b
    CROSS JOIN LATERAL promcompat.decode_page(b.payload, of_series, from_ms, to_ms) AS d
    WHERE NOT b.is_folded
    UNION ALL
    (
        SELECT DISTINCT ON (s.series_id, s.unix_ms) s.series_id, s.unix_ms, s.value, s.nan_bits,
            s.histogram
        FROM stored AS s
        WHERE NOT EXISTS (
            SELECT
            FROM deletion AS d
            WHERE d.arrival_id > s.last_arrival
                AND s.unix_ms BETWEEN d.first_ms AND d.last_ms
                AND (
                    d.series_ids IS NULL
                    OR d.series_ids[width_bucket(s.series_id, d.series_ids)] = s.series_id
                )
        )
        ORDER BY s.series_id, s.unix_ms, s.replaces DESC,
            CASE WHEN s.replaces THEN -s.last_arrival ELSE s.last_arrival END
    );
END
$$;

-- The Unix milliseconds of a time, rounded up; the ends of the calendar for what is outside.
CREATE OR REPLACE FUNCTION bounding_unix_ms(ts timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN ts < timestamptz '0001-01-01 00:00:00+00' THEN -62135596800000
    WHEN ts > timestamptz '9999-12-31 23:59:59.999+00' THEN 253402300800000
    ELSE ceil(extract(epoch FROM ts) * 1000)::bigint
END;

-- The samples of a page. `decode_page` is made later, and a view needs what it calls.
CREATE OR REPLACE FUNCTION page_samples(payload bytea, from_ms bigint, to_ms bigint)
RETURNS TABLE (
    series_id bigint, unix_ms bigint, value float8, nan_bits bigint, histogram native_histogram
)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT d.* FROM promcompat.decode_page(payload, NULL, from_ms, to_ms) AS d;
END
$$;

-- The tenants with arrivals that replace or delete samples, or are set aside, and whether the store is
-- `blocks`. Readers are not granted these views: the views below read them.
CREATE OR REPLACE VIEW folded_tenant AS
SELECT a.tenant_id FROM arrival AS a WHERE a.kind > 1 OR a.is_aside;

CREATE OR REPLACE VIEW store_in_use AS
SELECT coalesce(i.store = 'blocks', false) AS is_blocks FROM installation AS i;

-- What `metrics` shows of a tenant in the store `rows`, but for its rows: samples that no drain has reached,
-- where no row has the same series and millisecond. Only of tenants whose undrained samples are plain
-- ones: those of `folded_tenant` need the fold.
CREATE OR REPLACE VIEW undrained_metric WITH (security_barrier) AS
SELECT from_unix_ms(u.unix_ms) AS "timestamp", s.tenant_id, s.metric_name AS name, u.value, s.labels,
    u.histogram
FROM (
    SELECT DISTINCT ON (d.series_id, d.unix_ms)
        a.tenant_id, d.series_id, d.unix_ms, d.value, d.nan_bits, d.histogram
    FROM arrival AS a
    CROSS JOIN LATERAL page_samples(a.payload, a.first_ms, a.last_ms) AS d
    WHERE a.kind = 1
        AND NOT (SELECT u.is_blocks FROM store_in_use AS u)
        AND a.tenant_id NOT IN (SELECT t.tenant_id FROM folded_tenant AS t)
        AND a.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
    ORDER BY d.series_id, d.unix_ms, a.id
) AS u
JOIN kept_series AS s ON s.id = u.series_id
LEFT JOIN row_extent AS e ON e.tenant_id = u.tenant_id
WHERE u.nan_bits IS DISTINCT FROM 9218868437227405314
    AND s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
    AND from_unix_ms(u.unix_ms) >= s.kept_from
    AND CASE WHEN u.unix_ms BETWEEN e.first_ms AND e.last_ms THEN NOT EXISTS (
        SELECT FROM sample AS p
        WHERE p.series_id = u.series_id
            AND p.ts >= from_unix_ms(u.unix_ms) AND p.ts < from_unix_ms(u.unix_ms + 1)
    ) ELSE true END;

-- What `metrics` shows of the store `blocks`, and of tenants of the store `rows` whose undrained arrivals
-- replace or delete samples, or are set aside. The samples of each name are read by a call of its own, so
-- that the name reaches the indexes.
CREATE OR REPLACE VIEW folded_metric WITH (security_barrier) AS
SELECT from_unix_ms(d.unix_ms) AS "timestamp", n.tenant_id, n.metric_name AS name, d.value, s.labels,
    d.histogram
FROM (
    SELECT s.tenant_id, s.metric_name, array_agg(s.id ORDER BY s.id) AS ids
    FROM series AS s
    WHERE ((SELECT u.is_blocks FROM store_in_use AS u) OR s.tenant_id IN (SELECT t.tenant_id FROM folded_tenant AS t))
        AND s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
    GROUP BY s.tenant_id, s.metric_name
) AS n
CROSS JOIN LATERAL stored_samples(
    n.tenant_id, n.ids, kept_from_ms(n.tenant_id, n.metric_name), 253402300799999
) AS d
-- The id alone would do. With the rest, a name that is asked for finds these by the index, too.
JOIN series AS s ON s.id = d.series_id AND s.metric_name = n.metric_name
    AND s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
WHERE d.nan_bits IS DISTINCT FROM 9218868437227405314;

-- Stale markers say that a series ended; they are no measurements and would turn averages to NaN. The value
-- of a native histogram is NULL, and `histogram` is that of every other sample. Only the value of a row says
-- which it is, so that statements without histograms are answered from the index.
CREATE OR REPLACE VIEW metrics WITH (security_barrier) AS
SELECT m."timestamp", m.tenant_id, m.name, m.value, m.labels, m.source, m.histogram
FROM (
    SELECT
        p.ts AS "timestamp",
        s.tenant_id,
        s.metric_name AS name,
        CASE WHEN NOT is_histogram(p.value) THEN p.value END AS value,
        s.labels,
        s.labels ->> 'source' AS source,
        histogram_of_row(p.histogram) AS histogram
    FROM sample AS p
    JOIN kept_series AS s ON s.id = p.series_id AND p.ts >= s.kept_from
    WHERE NOT is_stale_marker(p.value)
        AND NOT (SELECT u.is_blocks FROM store_in_use AS u)
        AND s.tenant_id NOT IN (SELECT t.tenant_id FROM folded_tenant AS t)
        AND s.tenant_id = ANY (ARRAY(SELECT readable_tenants(current_user)))
    UNION ALL
    SELECT u."timestamp", u.tenant_id, u.name, u.value, u.labels, u.labels ->> 'source',
        u.histogram
    FROM undrained_metric AS u
    UNION ALL
    SELECT f."timestamp", f.tenant_id, f.name, f.value, f.labels, f.labels ->> 'source',
        f.histogram
    FROM folded_metric AS f
) AS m;

-- The rows of `metrics` of one name (NULL: of all names), from `from_time` on and before `to_time`, of the
-- series that have these labels. NULL is no bound, and any labels. The name and the times reach the indexes,
-- whatever stores the samples.
CREATE OR REPLACE FUNCTION samples(
    name text, from_time timestamptz, to_time timestamptz DEFAULT 'infinity',
    labels jsonb DEFAULT '{}'
)
RETURNS SETOF metrics
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, promcompat, pg_temp
AS $$
BEGIN
    RETURN QUERY
    WITH found AS MATERIALIZED (
        SELECT s.id, s.tenant_id, s.metric_name, s.series_labels AS labels
        FROM promcompat.series_matching($1, $4) AS s
    ),
    kept AS MATERIALIZED (
        SELECT m.tenant_id, m.metric_name,
            promcompat.kept_from_ms(m.tenant_id, m.metric_name) AS from_ms
        FROM (SELECT DISTINCT f.tenant_id, f.metric_name FROM found AS f) AS m
    ),
    asked AS (
        SELECT f.tenant_id, min(k.from_ms) AS from_ms,
            CASE WHEN $1 IS NOT NULL OR $4 <> '{}' THEN array_agg(f.id ORDER BY f.id) END AS ids
        FROM found AS f
        JOIN kept AS k ON k.tenant_id = f.tenant_id AND k.metric_name = f.metric_name
        GROUP BY f.tenant_id
    )
    SELECT promcompat.from_unix_ms(d.unix_ms), f.tenant_id, f.metric_name, d.value, f.labels,
        f.labels ->> 'source', d.histogram
    FROM (
        SELECT n.tenant_id, r.series_id, r.unix_ms, r.value, r.histogram
        FROM asked AS n
        CROSS JOIN LATERAL promcompat.stored_samples(
            n.tenant_id, n.ids, greatest(promcompat.bounding_unix_ms($2), n.from_ms),
            promcompat.bounding_unix_ms(coalesce($3, 'infinity')) - 1
        ) AS r
        WHERE r.nan_bits IS DISTINCT FROM 9218868437227405314
        -- Joins stay outside: else the samples are read once for each series.
        OFFSET 0
    ) AS d
    JOIN found AS f ON f.id = d.series_id AND f.tenant_id = d.tenant_id
    JOIN kept AS k ON k.tenant_id = f.tenant_id AND k.metric_name = f.metric_name
    WHERE d.unix_ms >= k.from_ms;
END
$$;
