-- list_dashboards --
-- The dashboards of tenant $1, without their documents.
SELECT d.uid, d.version, d.title, d.tags, d.source, d.created_at, v.saved_at, v.saved_by, v.reason
FROM dashboard AS d
JOIN dashboard_version AS v ON v.dashboard_id = d.id AND v.version = d.version
WHERE d.tenant_id = $1
ORDER BY lower(d.title), d.uid

-- find_dashboard --
-- Dashboard $2 of tenant $1 as version $3, or as its newest if that is NULL.
SELECT d.uid, v.version, d.version AS newest_version, d.source, d.created_at,
    v.document::text AS document, v.saved_at, v.saved_by, v.reason
FROM dashboard AS d
JOIN dashboard_version AS v ON v.dashboard_id = d.id AND v.version = coalesce($3::bigint, d.version)
WHERE d.tenant_id = $1 AND d.uid = $2

-- list_versions --
-- The versions of dashboard $2 of tenant $1, the newest first.
SELECT v.version, v.saved_at, v.saved_by, v.reason
FROM dashboard AS d
JOIN dashboard_version AS v ON v.dashboard_id = d.id
WHERE d.tenant_id = $1 AND d.uid = $2
ORDER BY v.version DESC

-- amount_of_dashboards --
-- How many dashboards tenant $1 has, and the bytes of all their versions.
SELECT count(DISTINCT d.id), coalesce(sum(v.n_bytes), 0)::bigint
FROM dashboard AS d
JOIN dashboard_version AS v ON v.dashboard_id = d.id
WHERE d.tenant_id = $1

-- insert_dashboard --
-- Makes dashboard $2 of tenant $1 with title $3, tags $4, source $5, document $6, saved by $7 because of $8;
-- no row if there is one already.
WITH made AS (
    INSERT INTO dashboard (tenant_id, uid, version, title, tags, source)
    VALUES ($1, $2, nextval('dashboard_version_number'), $3, $4::text[], $5)
    ON CONFLICT (tenant_id, uid) DO NOTHING
    RETURNING id, version
)
INSERT INTO dashboard_version (dashboard_id, version, document, saved_by, reason)
SELECT made.id, made.version, $6::jsonb, $7, $8 FROM made
RETURNING version

-- update_dashboard --
-- The same of one that has version $9; no row if it has another one. The newest $10 versions are kept.
WITH changed AS (
    UPDATE dashboard
    SET version = nextval('dashboard_version_number'), title = $3, tags = $4::text[], source = $5
    WHERE tenant_id = $1 AND uid = $2 AND version = $9
    RETURNING id, version
), removed AS (
    DELETE FROM dashboard_version AS v USING changed
    WHERE v.dashboard_id = changed.id AND v.version < (
        SELECT min(kept.version) FROM (
            SELECT older.version FROM dashboard_version AS older
            WHERE older.dashboard_id = changed.id
            ORDER BY older.version DESC
            LIMIT $10::bigint - 1
        ) AS kept
    )
)
INSERT INTO dashboard_version (dashboard_id, version, document, saved_by, reason)
SELECT changed.id, changed.version, $6::jsonb, $7, $8 FROM changed
RETURNING version

-- delete_dashboard --
-- Deletes dashboard $2 of tenant $1 with its versions if it has version $3; no row if it has another one.
DELETE FROM dashboard WHERE tenant_id = $1 AND uid = $2 AND version = $3 RETURNING id
