-- access_version --
-- A number that changes whenever a token is made or revoked.
SELECT version FROM access_state

-- tokens --
-- Every token that is not revoked.
SELECT id, name, digest, roles, tenants, created_by, created_at, expires_at, last_used_at
FROM access_token
WHERE revoked_at IS NULL

-- create_token --
-- Stores token $1 with digest $2, roles $3, tenants $4, the end $5 in Unix ms and its maker $6; nothing if
-- there are $7 already. Tokens that have expired give way, the first of them first: they are revoked. Those
-- that were revoked long ago go.
WITH removed AS (
    DELETE FROM access_token WHERE revoked_at < now() - interval '1 year'
), stored AS (
    SELECT count(*) AS n_tokens FROM access_token WHERE revoked_at IS NULL
), gave_way AS (
    UPDATE access_token SET revoked_at = now(), revoked_by = $6
    WHERE id IN (
        SELECT id FROM access_token
        WHERE revoked_at IS NULL AND expires_at <= now()
        ORDER BY expires_at
        LIMIT greatest((SELECT n_tokens FROM stored) - $7::bigint + 1, 0)
    )
    -- Once more, for those that another request has made give way meanwhile.
    AND revoked_at IS NULL
    RETURNING id
), changed AS (
    UPDATE access_state SET version = version + 1
    WHERE (SELECT n_tokens FROM stored) - (SELECT count(*) FROM gave_way) < $7::bigint
    RETURNING version
)
INSERT INTO access_token (name, digest, roles, tenants, expires_at, created_by)
SELECT $1, $2, $3, $4, from_unix_ms($5), $6 FROM changed
RETURNING id, name, digest, roles, tenants, created_by, created_at, expires_at, last_used_at

-- revoke_token --
-- Revokes token $1 in the name of $2.
WITH revoked AS (
    UPDATE access_token SET revoked_at = now(), revoked_by = $2
    WHERE id = $1 AND revoked_at IS NULL
    RETURNING id
), changed AS (
    UPDATE access_state SET version = version + 1 WHERE EXISTS (SELECT FROM revoked)
)
SELECT id FROM revoked

-- note_uses --
-- Records that tokens $1 were used at $2 (Unix ms). Rows that another process has locked, or written less
-- than a minute before, are left alone: so a token has one new row version a minute at most.
WITH due AS (
    SELECT t.id, from_unix_ms(u.used_at_ms) AS used_at
    FROM access_token AS t
    JOIN unnest($1::bigint[], $2::bigint[]) AS u (id, used_at_ms) ON u.id = t.id
    WHERE t.last_used_at IS NULL OR t.last_used_at < from_unix_ms(u.used_at_ms) - interval '1 minute'
    ORDER BY t.id
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE access_token AS t SET last_used_at = due.used_at FROM due WHERE t.id = due.id

-- begin_audit --
-- Records that $1 is about to do $3 to $4 in tenant $2. What is older than $5 days goes, a few records at
-- a time.
WITH removed AS (
    DELETE FROM audit WHERE id IN (
        SELECT a.id FROM audit AS a
        WHERE a.at < now() - make_interval(days => $5)
        ORDER BY a.at
        LIMIT 100
        FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO audit (actor, tenant, action, target) VALUES ($1, $2, $3, $4) RETURNING id

-- bound_audit --
-- Removes all but the newest $2 records of tenant $1, and all but the newest $4 of those up to id $3, whose
-- numbers are without gaps.
DELETE FROM audit WHERE id <= $3 - $4::bigint
    OR tenant = $1 AND id <= (
        SELECT a.id FROM audit AS a WHERE a.tenant = $1 ORDER BY a.id DESC OFFSET $2 LIMIT 1
    )

-- end_audit --
-- Records that what record $1 is about ended with status $2, and the beginning of its body, $3.
UPDATE audit SET status = $2, request = $3 WHERE id = $1

-- list_audit --
-- Up to $7 records before id $6, newest first: of tenant $1, actor $2, action $3, from $4 to $5 (Unix ms),
-- where these are not NULL.
SELECT a.id, a.at, a.actor, a.tenant, a.action, a.target, a.status, a.request
FROM audit AS a
WHERE a.id < $6
    AND ($1::text IS NULL OR a.tenant = $1)
    AND ($2::text IS NULL OR a.actor = $2)
    AND ($3::text IS NULL OR a.action = $3)
    AND ($4::bigint IS NULL OR a.at >= from_unix_ms($4))
    AND ($5::bigint IS NULL OR a.at < from_unix_ms($5))
ORDER BY a.id DESC
LIMIT $7
