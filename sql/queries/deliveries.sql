-- insert_deliveries --
-- Adds work for receivers, in order, due at $7.
INSERT INTO alert_delivery (
    tenant_id, alert_id, receiver, subject, begins, alert, created_at, next_attempt_at
)
SELECT
    $1, d.alert_id, d.receiver, d.subject, d.begins, d.alert::jsonb, from_unix_ms($7),
    from_unix_ms($7)
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::boolean[], $6::text[])
    WITH ORDINALITY AS d (alert_id, receiver, subject, begins, alert, ordinal)
ORDER BY d.ordinal

-- claim_deliveries --
-- Claims work of a receiver ($1) that is due at $2, until $3: only the oldest of each subject, so
-- that the order is kept, and the work of each tenant in turn. Nothing is postponed for ten minutes:
-- what is due later than that was written by a clock that has been set back, and is due now.
WITH due AS (
    SELECT d.id, row_number() OVER (PARTITION BY d.tenant_id ORDER BY d.id) AS turn
    FROM alert_delivery AS d
    WHERE
        d.receiver = $1
        AND (
            d.next_attempt_at <= from_unix_ms($2)
            OR d.next_attempt_at > from_unix_ms($2) + interval '10 minutes'
        )
        AND NOT EXISTS (
            SELECT
            FROM alert_delivery AS e
            WHERE
                e.receiver = d.receiver AND e.tenant_id = d.tenant_id AND e.subject = d.subject
                AND e.id < d.id
        )
),
chosen AS (
    SELECT d.id
    FROM alert_delivery AS d
    JOIN due ON due.id = d.id
    WHERE
        d.next_attempt_at <= from_unix_ms($2)
        OR d.next_attempt_at > from_unix_ms($2) + interval '10 minutes'
    ORDER BY due.turn, d.id
    LIMIT $4
    FOR UPDATE OF d SKIP LOCKED
)
UPDATE alert_delivery AS d
SET next_attempt_at = from_unix_ms($3)
FROM chosen, alert AS a, tenant AS t
WHERE d.id = chosen.id AND a.id = d.alert_id AND t.id = d.tenant_id
RETURNING
    d.id, t.name AS tenant, d.alert::text AS alert, d.attempts, d.begins,
    a.state AS current_state, (extract(epoch FROM d.created_at) * 1000)::bigint AS created_at_ms

-- delete_deliveries --
-- Removes finished work.
DELETE FROM alert_delivery WHERE id = ANY($1::bigint[])

-- postpone_deliveries --
-- Postpones work that failed, or that must not be done yet, from $5 on.
UPDATE alert_delivery AS d
SET
    attempts = d.attempts + u.attempts, last_error = coalesce(nullif(u.error, ''), d.last_error),
    next_attempt_at = from_unix_ms($5) + make_interval(secs => u.delay_seconds)
FROM unnest($1::bigint[], $2::integer[], $3::float8[], $4::text[])
    AS u (id, attempts, delay_seconds, error)
WHERE d.id = u.id

-- drop_deliveries_of_alert --
-- Removes the work of an alert that ended before anybody was notified of it.
DELETE FROM alert_delivery WHERE alert_id = $1 AND receiver = $2

-- drop_unheard --
-- Removes the work behind a delivery ($1) of alerts that ended before anybody was notified.
DELETE FROM alert_delivery AS d
USING alert_delivery AS h, alert AS a
WHERE
    h.id = $1
    AND d.receiver = h.receiver AND d.tenant_id = h.tenant_id AND d.subject = h.subject
    AND d.id > h.id AND d.alert_id <> h.alert_id
    AND a.id = d.alert_id AND a.state NOT IN ('pending', 'firing')

-- drop_overflow --
-- Keeps $2 of the rows that wait for a receiver: the newest of each tenant in turn, so that only a tenant
-- with more than its share loses some. Returns the alerts of those removed.
DELETE FROM alert_delivery
WHERE id IN (
    SELECT waiting.id
    FROM (
        SELECT id, row_number() OVER (PARTITION BY tenant_id ORDER BY id DESC) AS place
        FROM alert_delivery
        WHERE receiver = $1
    ) AS waiting
    ORDER BY waiting.place, waiting.id DESC
    OFFSET $2
    LIMIT 10000
)
RETURNING alert_id

-- note_alerts --
-- Adds a note to the histories of alerts that still exist.
INSERT INTO alert_transition (alert_id, from_state, to_state, at, value, note)
SELECT a.id, a.state, a.state, from_unix_ms(n.at_ms), a.value, n.note
FROM unnest($1::bigint[], $2::bigint[], $3::text[])
    WITH ORDINALITY AS n (alert_id, at_ms, note, ordinal)
JOIN alert AS a ON a.id = n.alert_id
ORDER BY n.ordinal

-- drop_foreign_deliveries --
-- Removes work for receivers that are no longer configured, created before $2.
DELETE FROM alert_delivery WHERE receiver <> ALL($1::text[]) AND created_at < from_unix_ms($2)

-- drop_foreign_states --
-- Removes the states of receivers that are no longer configured and were sent nothing since $2.
DELETE FROM alertmanager_alert
WHERE receiver <> ALL($1::text[]) AND next_attempt_at < from_unix_ms($2)

-- forget_states --
-- Removes label sets that are no longer due for a receiver ($1): those that ended before $3, and
-- those that ended before they were sent.
DELETE FROM alertmanager_alert AS m
WHERE
    m.receiver = $1
    AND m.next_attempt_at <= from_unix_ms($2)
    AND (m.ended_at < from_unix_ms($3) OR m.state = 'untold')
    AND NOT EXISTS (
        SELECT
        FROM alert AS a
        WHERE a.tenant_id = m.tenant_id AND a.fingerprint = m.fingerprint AND a.state = 'firing'
    )

-- claim_states --
-- Claims, until $3, label sets that are due for a receiver ($1) at $2: those that began to fire or
-- ended, and again those that it was not sent since $4. One alert represents each set: while any
-- alert with these labels fires, the set fires, whichever others have ended. Times more than ten minutes
-- after $2 were written by a clock that has been set back, and count as past.
WITH firing AS (
    SELECT DISTINCT ON (a.tenant_id, a.fingerprint) a.tenant_id, a.fingerprint, a.id
    FROM alert AS a
    WHERE a.state = 'firing'
    ORDER BY a.tenant_id, a.fingerprint, a.fired_at, a.id
),
told AS (
    SELECT * FROM alertmanager_alert WHERE receiver = $1
),
due AS (
    SELECT
        coalesce(f.tenant_id, t.tenant_id) AS tenant_id,
        coalesce(f.fingerprint, t.fingerprint) AS fingerprint,
        f.id AS alert_id,
        t.ended_at,
        from_unix_ms((t.alert ->> 'fired_at_ms')::bigint) AS told_fired_at,
        row_number() OVER (
            PARTITION BY coalesce(f.tenant_id, t.tenant_id) ORDER BY t.told_at NULLS FIRST
        ) AS turn
    FROM firing AS f
    FULL JOIN told AS t ON t.tenant_id = f.tenant_id AND t.fingerprint = f.fingerprint
    WHERE
        coalesce(
            t.next_attempt_at <= from_unix_ms($2)
            OR t.next_attempt_at > from_unix_ms($2) + interval '10 minutes',
            true
        )
        AND CASE
            WHEN f.id IS NOT NULL
                THEN coalesce(
                    t.state <> 'firing'
                    OR t.told_at <= from_unix_ms($4)
                    OR t.told_at > from_unix_ms($2) + interval '10 minutes',
                    true
                )
            WHEN t.state = 'firing' THEN true
            ELSE
                (
                    t.told_at <= from_unix_ms($4)
                    OR t.told_at > from_unix_ms($2) + interval '10 minutes'
                )
                AND NOT EXISTS (
                    SELECT
                    FROM alert AS a
                    WHERE
                        a.tenant_id = t.tenant_id AND a.fingerprint = t.fingerprint
                        AND a.state = 'pending'
                )
        END
    ORDER BY turn
    LIMIT $5
),
claimed AS (
    INSERT INTO alertmanager_alert AS m (
        receiver, tenant_id, fingerprint, state, next_attempt_at, ended_at
    )
    SELECT
        $1, d.tenant_id, d.fingerprint, 'untold', from_unix_ms($3),
        CASE
            WHEN d.alert_id IS NULL
                THEN coalesce(
                    d.ended_at,
                    (
                        SELECT max(a.resolved_at)
                        FROM alert AS a
                        WHERE
                            a.tenant_id = d.tenant_id AND a.fingerprint = d.fingerprint
                            AND a.state = 'resolved' AND a.resolved_at >= d.told_fired_at
                    ),
                    from_unix_ms($2)
                )
        END
    FROM due AS d
    ON CONFLICT (receiver, tenant_id, fingerprint) DO UPDATE SET
        next_attempt_at = excluded.next_attempt_at, ended_at = excluded.ended_at
    RETURNING
        m.tenant_id, m.fingerprint, m.alert::text AS told_alert, m.failures,
        (extract(epoch FROM m.ended_at) * 1000)::bigint AS ended_at_ms
)
SELECT
    c.tenant_id AS claimed_tenant_id, c.fingerprint AS claimed_fingerprint, c.told_alert,
    c.failures, c.ended_at_ms, t.name AS tenant, last.annotations::text AS last_annotations, a.*
FROM claimed AS c
JOIN due AS d ON d.tenant_id = c.tenant_id AND d.fingerprint = c.fingerprint
JOIN tenant AS t ON t.id = c.tenant_id
LEFT JOIN alert AS a ON a.id = d.alert_id
LEFT JOIN LATERAL (
    -- Annotations may have changed since the receiver was told of the alert.
    SELECT e.annotations
    FROM alert AS e
    WHERE
        d.alert_id IS NULL AND e.tenant_id = c.tenant_id AND e.fingerprint = c.fingerprint
        AND e.state = 'resolved' AND e.resolved_at >= d.told_fired_at
    ORDER BY e.resolved_at DESC, e.id DESC
    LIMIT 1
) AS last ON true

-- record_told_states --
-- Records what a receiver ($1) was sent at $5.
UPDATE alertmanager_alert AS m
SET
    alert = u.alert::jsonb, state = u.alert::jsonb ->> 'state', told_at = from_unix_ms($5),
    failures = 0, last_error = '', next_attempt_at = from_unix_ms($5)
FROM unnest($2::integer[], $3::bytea[], $4::text[]) AS u (tenant_id, fingerprint, alert)
WHERE m.receiver = $1 AND m.tenant_id = u.tenant_id AND m.fingerprint = u.fingerprint

-- postpone_states --
-- Postpones label sets that a receiver ($1) refused, or must not get yet, from $7 on.
UPDATE alertmanager_alert AS m
SET
    failures = m.failures + u.failures, last_error = coalesce(nullif(u.error, ''), m.last_error),
    next_attempt_at = from_unix_ms($7) + make_interval(secs => u.delay_seconds)
FROM unnest($2::integer[], $3::bytea[], $4::integer[], $5::float8[], $6::text[])
    AS u (tenant_id, fingerprint, failures, delay_seconds, error)
WHERE m.receiver = $1 AND m.tenant_id = u.tenant_id AND m.fingerprint = u.fingerprint

-- last_remediation --
-- When a remediation of the same rule and labels, or series, was last started.
SELECT (extract(epoch FROM max(o.remediated_at)) * 1000)::bigint
FROM alert AS a
JOIN alert AS o
    ON o.tenant_id = a.tenant_id AND o.rule_name = a.rule_name AND o.rule_group = a.rule_group
    AND (o.fingerprint = a.fingerprint OR o.series_id = a.series_id)
WHERE a.id = $1 AND o.remediated_at IS NOT NULL

-- mark_remediated --
-- Records that a remediation of the alert was started.
UPDATE alert SET remediated_at = from_unix_ms($2) WHERE id = $1

-- receiver_depths --
-- The waiting work of a tenant by receiver: how much, since when, and the last error.
SELECT
    w.receiver, count(*) AS n_waiting, count(*) FILTER (WHERE w.failures > 0) AS n_failing,
    (extract(epoch FROM min(w.since)) * 1000)::bigint AS since_ms,
    coalesce((array_agg(w.last_error ORDER BY w.since) FILTER (WHERE w.failures > 0))[1], '')
        AS last_error
FROM (
    SELECT receiver, attempts AS failures, created_at AS since, last_error
    FROM alert_delivery
    WHERE tenant_id = $1
    UNION ALL
    SELECT receiver, failures, coalesce(told_at, next_attempt_at), last_error
    FROM alertmanager_alert
    WHERE tenant_id = $1 AND (failures > 0 OR state = 'untold')
) AS w
GROUP BY w.receiver
