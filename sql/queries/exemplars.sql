-- lock_exemplar_series --
-- Makes and locks the series with fingerprints $2, names $3 and labels $4 of tenant $1; their newest exemplars.
-- The parameters are in order of the fingerprints, so that no two writers wait for each other.
INSERT INTO exemplar_series AS s (tenant_id, fingerprint, metric_name, labels)
SELECT $1, given.fingerprint, given.metric_name, given.labels::jsonb
FROM unnest($2::bytea[], $3::text[], $4::text[]) AS given (fingerprint, metric_name, labels)
ON CONFLICT (tenant_id, fingerprint) DO UPDATE SET appended_at = now()
RETURNING s.id, s.fingerprint, s.newest_ms, s.newest_value, s.newest_label_hash

-- append_exemplars --
-- Stores exemplars of tenant $1: series $2, times $3, values $4, labels $5.
INSERT INTO exemplar (tenant_id, exemplar_series_id, time_ms, value, labels)
SELECT $1, given.series_id, given.time_ms, given.value, given.labels::jsonb
FROM unnest($2::bigint[], $3::bigint[], $4::float8[], $5::text[]) WITH ORDINALITY
    AS given (series_id, time_ms, value, labels, position)
ORDER BY given.position

-- set_newest_exemplars --
-- Notes the newest exemplars of series $1: times $2, values $3, hashes of their labels $4.
UPDATE exemplar_series AS s
SET newest_ms = given.newest_ms, newest_value = given.value, newest_label_hash = given.label_hash
FROM unnest($1::bigint[], $2::bigint[], $3::float8[], $4::bigint[])
    AS given (id, newest_ms, value, label_hash)
WHERE s.id = given.id

-- exemplar_series --
-- The series of tenant $1 that have exemplars, of metrics $2 or (NULL) of all.
SELECT s.id, s.metric_name, s.labels::text AS labels
FROM exemplar_series AS s
WHERE s.tenant_id = $1 AND ($2::text[] IS NULL OR s.metric_name = ANY($2::text[]))

-- exemplars --
-- The exemplars of series $1 from time $2 to $3, both inclusive, as they were appended.
SELECT e.exemplar_series_id AS series_id, e.time_ms, e.value, e.labels::text AS labels
FROM exemplar AS e
WHERE e.exemplar_series_id = ANY($1::bigint[]) AND e.time_ms BETWEEN $2 AND $3
ORDER BY e.exemplar_series_id, e.time_ms, e.id

-- tenants_with_exemplars --
-- The tenants that have exemplars.
SELECT t.id FROM tenant AS t
WHERE EXISTS (SELECT FROM exemplar AS e WHERE e.tenant_id = t.id)
ORDER BY t.id

-- delete_excess_exemplars --
-- Deletes of tenant $1 what is older than $2, and all but the newest $3 of a series and $4 of the tenant. The
-- tenants $5 have the numbers $6 in place of $4. Returns how many.
WITH other AS (
    SELECT t.id AS tenant_id, o.maximum
    FROM unnest($5::text[], $6::bigint[]) AS o (name, maximum)
    JOIN tenant AS t ON t.name = o.name
),
ranked AS (
    SELECT
        e.id, e.time_ms, coalesce(o.maximum, $4) AS maximum,
        row_number() OVER (PARTITION BY e.exemplar_series_id ORDER BY e.time_ms DESC, e.id DESC) AS of_series,
        row_number() OVER (PARTITION BY e.tenant_id ORDER BY e.id DESC) AS of_tenant
    FROM exemplar AS e
    LEFT JOIN other AS o ON o.tenant_id = e.tenant_id
    WHERE e.tenant_id = $1
),
deleted AS (
    DELETE FROM exemplar AS e
    USING ranked AS r
    WHERE e.id = r.id AND (r.time_ms < $2 OR r.of_series > $3 OR r.of_tenant > r.maximum)
    RETURNING e.id
)
SELECT count(*) FROM deleted

-- count_excess_exemplars --
-- How many exemplars `delete_excess_exemplars` would delete.
WITH other AS (
    SELECT t.id AS tenant_id, o.maximum
    FROM unnest($5::text[], $6::bigint[]) AS o (name, maximum)
    JOIN tenant AS t ON t.name = o.name
)
SELECT count(*)
FROM (
    SELECT
        e.time_ms, coalesce(o.maximum, $4) AS maximum,
        row_number() OVER (PARTITION BY e.exemplar_series_id ORDER BY e.time_ms DESC, e.id DESC) AS of_series,
        row_number() OVER (PARTITION BY e.tenant_id ORDER BY e.id DESC) AS of_tenant
    FROM exemplar AS e
    LEFT JOIN other AS o ON o.tenant_id = e.tenant_id
    WHERE e.tenant_id = $1
) AS r
WHERE r.time_ms < $2 OR r.of_series > $3 OR r.of_tenant > r.maximum

-- delete_unused_exemplar_series --
-- Deletes series without exemplars to which nothing was appended for an hour: a writer may be about to.
DELETE FROM exemplar_series AS s
WHERE s.appended_at < now() - interval '1 hour'
    AND NOT EXISTS (SELECT FROM exemplar AS e WHERE e.exemplar_series_id = s.id)
