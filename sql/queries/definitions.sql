-- find_definition --
-- One definition.
SELECT
    name, display_name, description, unit, type, aggregation, retention_days, duplicate_policy,
    alert_threshold, version, created_at AS created, updated_at AS updated
FROM metric_definition
WHERE tenant_id = $1 AND name = $2

-- list_definitions --
-- Definitions by name: those that start with $2 and come after $3, at most $4.
SELECT
    name, display_name, description, unit, type, aggregation, retention_days, duplicate_policy,
    alert_threshold, version, created_at AS created, updated_at AS updated
FROM metric_definition
WHERE tenant_id = $1 AND starts_with(name, $2) AND name > $3
ORDER BY name
LIMIT $4

-- amount_of_definitions --
-- The number of definitions of a tenant, and their bytes.
SELECT count(*), coalesce(sum(n_bytes), 0)::bigint FROM metric_definition WHERE tenant_id = $1

-- list_thresholds --
-- The thresholds of a tenant's definitions: of the metrics $2, or of all if that is NULL.
SELECT name, alert_threshold
FROM metric_definition
WHERE tenant_id = $1 AND alert_threshold IS NOT NULL AND ($2::text[] IS NULL OR name = ANY($2))
ORDER BY name

-- changed_thresholds --
-- The metrics of a tenant that have a threshold, with those that changed after version $2.
SELECT name, CASE WHEN version > $2 THEN alert_threshold END AS alert_threshold
FROM metric_definition
WHERE tenant_id = $1 AND alert_threshold IS NOT NULL

-- insert_definition --
-- Creates a definition; returns no row when there already is one.
WITH change AS (
    INSERT INTO definition_change AS c (tenant_id, version)
    VALUES ($1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET version = c.version + 1
    RETURNING version
),
review AS (
    INSERT INTO threshold_review (tenant_id, metric_name)
    SELECT $1, $2 WHERE $10::text IS NOT NULL
    ON CONFLICT (tenant_id, metric_name) DO UPDATE SET
        after_series_id = 0, is_repeated = false, due_at = now()
)
INSERT INTO metric_definition (
    tenant_id, name, display_name, description, unit, type, aggregation, retention_days,
    duplicate_policy, alert_threshold, version
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, change.version
FROM change
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING version, created_at, updated_at

-- update_definition --
-- Replaces a definition of version $11; returns no row when it has another version or is gone.
WITH change AS (
    INSERT INTO definition_change AS c (tenant_id, version)
    VALUES ($1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET version = c.version + 1
    RETURNING version
),
review AS (
    INSERT INTO threshold_review (tenant_id, metric_name)
    SELECT d.tenant_id, d.name
    FROM metric_definition AS d
    WHERE
        d.tenant_id = $1 AND d.name = $2
        AND d.alert_threshold IS DISTINCT FROM $10::text::jsonb
    ON CONFLICT (tenant_id, metric_name) DO UPDATE SET
        after_series_id = 0, is_repeated = false, due_at = now()
)
UPDATE metric_definition AS d
SET
    display_name = $3, description = $4, unit = $5, type = $6, aggregation = $7,
    retention_days = $8, duplicate_policy = $9, alert_threshold = $10::text::jsonb,
    version = change.version, updated_at = now()
FROM change
WHERE d.tenant_id = $1 AND d.name = $2 AND d.version = $11
RETURNING d.version, d.created_at, d.updated_at

-- delete_definition --
-- Deletes a definition of version $3; returns no row when it has another version or is gone.
WITH change AS (
    INSERT INTO definition_change AS c (tenant_id, version)
    VALUES ($1, 1)
    ON CONFLICT (tenant_id) DO UPDATE SET version = c.version + 1
    RETURNING version
),
review AS (
    INSERT INTO threshold_review (tenant_id, metric_name)
    SELECT d.tenant_id, d.name
    FROM metric_definition AS d
    WHERE d.tenant_id = $1 AND d.name = $2 AND d.alert_threshold IS NOT NULL
    ON CONFLICT (tenant_id, metric_name) DO UPDATE SET
        after_series_id = 0, is_repeated = false, due_at = now()
)
DELETE FROM metric_definition AS d
USING change
WHERE d.tenant_id = $1 AND d.name = $2 AND d.version = $3
RETURNING change.version

-- last_wins_series --
-- Which of the series $1 belong to metrics of which the last sample of a time counts.
SELECT s.id
FROM series AS s
JOIN metric_definition AS d ON d.tenant_id = s.tenant_id AND d.name = s.metric_name
WHERE s.id = ANY($1::bigint[]) AND d.duplicate_policy = 'last'

-- policy_versions --
-- The version of each of the tenants' definitions (0: none), and whether one of them says that the last
-- sample of a time counts.
SELECT
    t.tenant_id, coalesce(c.version, 0) AS version,
    EXISTS (
        SELECT FROM metric_definition AS d
        WHERE d.tenant_id = t.tenant_id AND d.duplicate_policy = 'last'
    ) AS has_last_wins
FROM unnest($1::integer[]) AS t (tenant_id)
LEFT JOIN definition_change AS c ON c.tenant_id = t.tenant_id
