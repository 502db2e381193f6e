-- find_or_make_series --
-- The ids of many series, in the order given; see sql/routines/0045_making_series.sql.
SELECT find_or_make_series($1, $2, $3, $4, $5, $6, $7)

-- series_generation --
-- A number that changes with a tenant's series; read before a cache entry of it is used or created.
SELECT
    database_epoch() AS epoch,
    (
        SELECT coalesce(sum(g.generation), 0)::bigint
        FROM series_generation AS g
        WHERE g.tenant_id = $1
    ) AS generation

-- labels_of_series --
-- The label sets of given series, which never change.
SELECT id, metric_name, labels::text AS labels FROM series WHERE id = ANY($1::bigint[])

-- labels_of_tenant --
-- The labels of a tenant's series with their metric names, which may be empty; each as JSON.
SELECT '{"__name__": ' || to_json(metric_name) || ', ' || substr(labels::text, 2)
FROM series
WHERE tenant_id = $1

-- metric_names --
-- The distinct metric names of a tenant.
SELECT metric_name FROM metric_names_of($1) AS n (metric_name)

-- newest_series_of_names --
-- The newest series of each metric of a tenant that has a name.
SELECT n.metric_name, s.id AS newest
FROM metric_names_of($1) AS n (metric_name)
CROSS JOIN LATERAL (
    SELECT max(i.id) AS id FROM series AS i WHERE i.tenant_id = $1 AND i.metric_name = n.metric_name
) AS s
WHERE n.metric_name <> '' AND s.id IS NOT NULL

-- series_of_items --
-- The series of each of the items $4 of the list `catalogue_items`, the newest first: items separated by
-- NUL, the number of series of each, and their ids, packed.
SELECT
    string_agg(convert_to(g.value, 'UTF8'), '\x00'::bytea ORDER BY g.value) AS items,
    string_agg(int8send(g.size), ''::bytea ORDER BY g.value) AS sizes,
    string_agg(g.ids, ''::bytea ORDER BY g.value) AS series_ids
FROM (
    SELECT
        v.value, count(*) AS size, string_agg(int8send(v.id), ''::bytea ORDER BY v.id DESC) AS ids
    FROM items_of_series($1, $2, $3) AS v
    WHERE v.value = ANY($4::text[]) AND ($3 <> '__name__' OR v.metric_name = ANY($4::text[]))
    GROUP BY 1
) AS g

-- catalogue_items --
-- The values of label $3 of the tenant's series ($2: of those, NULL: of all), or with '' their sets of
-- label names, each as JSON: in the order of their bytes, separated by NUL. With each the newest of its
-- series and their number. One row of packed columns, of which numpy and str.split read 100,000 items
-- at once.
SELECT
    string_agg(convert_to(g.value, 'UTF8'), '\x00'::bytea ORDER BY g.value) AS items,
    string_agg(int8send(g.newest), ''::bytea ORDER BY g.value) AS series_ids,
    string_agg(int8send(g.size), ''::bytea ORDER BY g.value) AS sizes
FROM (
    SELECT v.value COLLATE "C" AS value, max(v.id) AS newest, count(*) AS size
    FROM items_of_series($1, $2, $3) AS v
    WHERE v.value IS NOT NULL
    GROUP BY 1
) AS g

-- store_metadata --
-- Metadata of metric families from senders; unchanged rows are not written, nor families beyond $6.
WITH given AS (
    SELECT
        u.*, k.family IS NULL AS is_new,
        row_number() OVER (PARTITION BY k.family IS NULL ORDER BY u.family) AS place
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS u (family, type, help, unit)
    LEFT JOIN metric_metadata AS k ON k.tenant_id = $1 AND k.family = u.family
),
known AS (
    SELECT count(*) AS n_families
    FROM (SELECT FROM metric_metadata WHERE tenant_id = $1 LIMIT $6::bigint) AS stored
)
INSERT INTO metric_metadata AS m (tenant_id, family, type, help, unit)
SELECT $1, g.family, g.type, g.help, g.unit
FROM given AS g
CROSS JOIN known
WHERE NOT g.is_new OR known.n_families + g.place <= $6
ORDER BY g.family
ON CONFLICT (tenant_id, family) DO UPDATE
SET type = excluded.type, help = excluded.help, unit = excluded.unit, stored_at = now()
WHERE (m.type, m.help, m.unit) IS DISTINCT FROM (excluded.type, excluded.help, excluded.unit)

-- add_series_starts --
-- Notes that series $1 say in samples at times $3 that they began at $2 (both Unix ms), with the first sample
-- that says so. A series that is gone meanwhile has none.
INSERT INTO series_start AS t (series_id, start_ms, from_ms)
SELECT u.series_id, u.start_ms, min(u.from_ms)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS u (series_id, start_ms, from_ms)
JOIN series AS s ON s.id = u.series_id
GROUP BY u.series_id, u.start_ms
ORDER BY u.series_id, u.start_ms
ON CONFLICT (series_id, start_ms) DO UPDATE SET from_ms = excluded.from_ms
WHERE excluded.from_ms < t.from_ms

-- starts_of_series --
-- The starts of series $1 in samples up to time $2: series, first sample with the start, and the start.
SELECT t.series_id, t.from_ms, t.start_ms
FROM series_start AS t
WHERE t.series_id = ANY ($1::bigint[]) AND t.from_ms <= $2::bigint
ORDER BY t.series_id, t.from_ms, t.start_ms

-- copy_series_starts --
-- Series $2 get the starts of the series $1, of which samples up to time $3 become theirs.
INSERT INTO series_start AS t (series_id, start_ms, from_ms)
SELECT u.target, o.start_ms, min(o.from_ms)
FROM unnest($1::bigint[], $2::bigint[]) AS u (source, target)
JOIN series_start AS o ON o.series_id = u.source AND o.from_ms <= $3
GROUP BY u.target, o.start_ms
ORDER BY u.target, o.start_ms
ON CONFLICT (series_id, start_ms) DO UPDATE SET from_ms = excluded.from_ms
WHERE excluded.from_ms < t.from_ms

-- count_excess_series_starts --
-- How many starts `delete_excess_series_starts` would delete, and the last of the series that it would look at.
WITH part AS MATERIALIZED (
    SELECT max(n.series_id) AS last_series
    FROM (
        SELECT t.series_id FROM series_start AS t WHERE t.series_id > $2 ORDER BY t.series_id LIMIT $3
    ) AS n
)
SELECT
    (SELECT count(*) FROM excess_series_starts($1, $2, part.last_series)) AS n_excess,
    part.last_series
FROM part

-- delete_excess_series_starts --
-- Deletes the starts that no kept sample has, and those before the newest $1 of a series: of the next series after
-- series $2, which have $3 starts or a few more. Returns how many, and the last of these series; NULL without any.
WITH part AS MATERIALIZED (
    SELECT max(n.series_id) AS last_series
    FROM (
        SELECT t.series_id FROM series_start AS t WHERE t.series_id > $2 ORDER BY t.series_id LIMIT $3
    ) AS n
),
deleted AS (
    DELETE FROM series_start AS t
    USING part
    CROSS JOIN LATERAL excess_series_starts($1, $2, part.last_series) AS e
    WHERE t.series_id = e.series_id AND t.start_ms = e.start_ms
    RETURNING t.series_id
)
SELECT (SELECT count(*) FROM deleted) AS n_deleted, part.last_series FROM part

-- count_unused_metadata --
-- How many families `delete_unused_metadata` would delete.
SELECT count(*) FROM unused_metadata($1)

-- delete_unused_metadata --
-- Deletes up to $2 of the families that have had no series for $1 seconds; returns how many.
WITH deleted AS (
    DELETE FROM metric_metadata AS m
    USING (SELECT * FROM unused_metadata($1) LIMIT $2) AS u
    WHERE m.tenant_id = u.tenant_id AND m.family = u.family
    RETURNING m.family
)
SELECT count(*) FROM deleted

-- list_metadata --
-- Metadata of one family, or of all when it is NULL; a definition takes precedence over senders.
SELECT
    coalesce(d.name, m.family) AS family,
    coalesce(d.type, m.type) AS type,
    coalesce(nullif(d.description, ''), m.help, '') AS help,
    coalesce(nullif(d.unit, ''), m.unit, '') AS unit
FROM (SELECT * FROM metric_metadata WHERE tenant_id = $1) AS m
FULL JOIN (SELECT * FROM metric_definition WHERE tenant_id = $1) AS d ON d.name = m.family
WHERE $2::text IS NULL OR coalesce(d.name, m.family) = $2
ORDER BY 1

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

-- series_after --
-- The first $2 series after id $1, in order.
SELECT id, tenant_id FROM series WHERE id > $1 ORDER BY id LIMIT $2

-- tenants_of_series --
-- The tenants of series, in order of id.
SELECT id, tenant_id FROM series WHERE id = ANY($1::bigint[]) ORDER BY id
