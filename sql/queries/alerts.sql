-- insert_rule --
-- Creates a rule; returns no row when its group already has it.
INSERT INTO alert_rule (
    tenant_id, rule_group, name, expr, interval_ms, for_ms, keep_firing_for_ms, max_alerts,
    severity, labels, annotations, enabled, remediation, namespace, kind, position,
    query_offset_ms, inherits_interval, version, identity
)
VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, $11::text::jsonb, $12,
    $13::text::jsonb, $14, $15, $16, $17, $18, 1, sha256(convert_to(
        jsonb_build_array(
            $14::text, $2::text, $16::integer, $15::text, $3::text, $4::text, $9::text,
            $10::text::jsonb
        )::text, 'UTF8'
    ))
)
ON CONFLICT (tenant_id, identity) DO NOTHING
RETURNING id, version

-- update_rule --
-- Replaces a rule of version $20; returns no row when the rule has another version or is gone.
UPDATE alert_rule
SET
    rule_group = $2, name = $3, expr = $4, interval_ms = $5, for_ms = $6,
    keep_firing_for_ms = $7, max_alerts = $8, severity = $9, labels = $10::text::jsonb,
    annotations = $11::text::jsonb, enabled = $12, remediation = $13::text::jsonb,
    namespace = $14, kind = $15, position = $16, query_offset_ms = $17, inherits_interval = $18,
    version = version + 1, updated_at = now(), identity = sha256(convert_to(
        jsonb_build_array(
            $14::text, $2::text, $16::integer, $15::text, $3::text, $4::text, $9::text,
            $10::text::jsonb
        )::text, 'UTF8'
    ))
WHERE tenant_id = $1 AND id = $19 AND version = $20
RETURNING id, version

-- free_identities --
-- Lets rules change places: until they are stored again, each is known by its id alone.
UPDATE alert_rule SET identity = sha256(convert_to(id::text, 'UTF8'))
WHERE tenant_id = $1 AND id = ANY($2::bigint[])

-- delete_rules --
-- Deletes rules of a tenant by their ids.
DELETE FROM alert_rule WHERE tenant_id = $1 AND id = ANY($2::bigint[])

-- amount_of_rules --
-- The number of rules of a tenant, and their bytes.
SELECT count(*), coalesce(sum(n_bytes), 0)::bigint FROM alert_rule WHERE tenant_id = $1

-- count_rules --
-- The number of a tenant's rules in group $3 of namespace $2.
SELECT count(*) FROM alert_rule WHERE tenant_id = $1 AND namespace = $2 AND rule_group = $3

-- delete_rule --
-- Deletes a rule of version $3; its alerts are kept, and the next verification closes them.
DELETE FROM alert_rule WHERE tenant_id = $1 AND id = $2 AND version = $3 RETURNING id

-- list_rules --
-- Rules of a tenant by namespace, group and place; optionally of one group, id or namespace.
SELECT
    id, rule_group AS "group", name, expr, interval_ms, for_ms, keep_firing_for_ms, max_alerts,
    severity, labels, annotations, enabled, remediation, version, namespace, kind, position,
    query_offset_ms, inherits_interval
FROM alert_rule
WHERE
    tenant_id = $1
    AND ($2::text IS NULL OR rule_group = $2)
    AND ($3::bigint IS NULL OR id = $3)
    AND ($4::text IS NULL OR namespace = $4)
ORDER BY namespace, rule_group, position, id

-- rule_evaluations --
-- The last evaluation of each rule of a tenant.
SELECT
    e.rule_id, (extract(epoch FROM e.evaluated_at) * 1000)::bigint AS evaluated_at_ms,
    e.duration_seconds, e.error
FROM alert_rule_evaluation AS e
JOIN alert_rule AS r ON r.id = e.rule_id
WHERE r.tenant_id = $1

-- scheduled_groups --
-- Every group with enabled rules: each interval of these, with the oldest and the newest last evaluation.
SELECT
    t.name AS tenant, r.namespace, r.rule_group AS "group", r.interval_ms,
    (extract(epoch FROM min(coalesce(e.evaluated_at, 'epoch'))) * 1000)::bigint
        AS evaluated_at_ms,
    (extract(epoch FROM max(coalesce(e.evaluated_at, 'epoch'))) * 1000)::bigint
        AS last_evaluated_at_ms
FROM alert_rule AS r
JOIN tenant AS t ON t.id = r.tenant_id
LEFT JOIN alert_rule_evaluation AS e ON e.rule_id = r.id
WHERE r.enabled
GROUP BY t.name, r.namespace, r.rule_group, r.interval_ms

-- try_lock --
-- Takes the lock with this name until the transaction ends, unless another session has it.
SELECT pg_try_advisory_xact_lock(hashtextextended('promcompat.' || $1::text, 0))

-- lock --
-- Takes the lock with this name until the transaction ends; waits for a session that has it.
SELECT pg_advisory_xact_lock(hashtextextended('promcompat.' || $1::text, 0))

-- scheduled_rules --
-- The enabled rules of a group in order, with their latest evaluation. `is_same`: what is known of the
-- series that a rule recorded is of the rule as it is now.
SELECT
    r.id, r.rule_group AS "group", r.name, r.expr, r.interval_ms, r.for_ms, r.keep_firing_for_ms,
    r.max_alerts, r.severity, r.labels, r.annotations, r.enabled, r.remediation, r.version,
    r.namespace, r.kind, r.position, r.query_offset_ms, r.inherits_interval,
    (extract(epoch FROM coalesce(e.evaluated_at, 'epoch')) * 1000)::bigint AS evaluated_at_ms,
    w.digest,
    (w.namespace, w.rule_group, w.interval_ms, w.query_offset_ms)
    = (r.namespace, r.rule_group, r.interval_ms, r.query_offset_ms) AS is_same
FROM alert_rule AS r
LEFT JOIN alert_rule_evaluation AS e ON e.rule_id = r.id
LEFT JOIN recorded_series AS w ON w.rule_id = r.id
WHERE r.tenant_id = $1 AND r.namespace = $2 AND r.rule_group = $3 AND r.enabled
ORDER BY r.position, r.id

-- recorded_series --
-- The series that the last successful evaluation of a rule wrote.
SELECT series FROM recorded_series WHERE rule_id = $1

-- save_recorded_series --
-- Replaces the series of a rule.
INSERT INTO recorded_series (
    rule_id, tenant_id, namespace, rule_group, interval_ms, query_offset_ms, digest, series
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (rule_id) DO UPDATE SET
    namespace = excluded.namespace, rule_group = excluded.rule_group,
    interval_ms = excluded.interval_ms, query_offset_ms = excluded.query_offset_ms,
    digest = excluded.digest, series = excluded.series, removed_at = NULL

-- note_removed_rules --
-- Notes that rules with recorded series are gone or disabled; those that came back are not.
UPDATE recorded_series AS w
SET removed_at = CASE WHEN r.id IS NULL THEN from_unix_ms($1) END
FROM recorded_series AS o
LEFT JOIN alert_rule AS r ON r.id = o.rule_id AND r.enabled
WHERE w.rule_id = o.rule_id AND (r.id IS NULL) <> (w.removed_at IS NOT NULL)

-- removed_rules --
-- The series of rules that were removed at least two of their intervals before $1.
SELECT
    w.rule_id, t.name AS tenant, w.query_offset_ms, w.series,
    (extract(epoch FROM w.removed_at) * 1000)::bigint AS removed_at_ms
FROM recorded_series AS w
JOIN tenant AS t ON t.id = w.tenant_id
WHERE w.removed_at <= from_unix_ms($1) - 2 * w.interval_ms * interval '1 millisecond'
ORDER BY w.rule_id
LIMIT 100

-- removed_rules_of_group --
-- The series of rules that are gone or disabled and were in a group that is evaluated.
SELECT w.rule_id, w.series
FROM recorded_series AS w
WHERE
    w.tenant_id = $1 AND w.namespace = $2 AND w.rule_group = $3
    AND NOT EXISTS (SELECT FROM alert_rule AS r WHERE r.id = w.rule_id AND r.enabled)

-- living_series --
-- What the rules of a tenant that are not removed have recorded.
SELECT w.series
FROM recorded_series AS w
JOIN tenant AS t ON t.id = w.tenant_id
WHERE t.name = $1 AND w.removed_at IS NULL

-- forget_recorded_series --
-- The series of these rules have ended.
DELETE FROM recorded_series WHERE rule_id = ANY($1::bigint[])

-- record_evaluation --
-- Records an evaluation, unless the rule was deleted in the meantime.
INSERT INTO alert_rule_evaluation (rule_id, evaluated_at, duration_seconds, error)
SELECT r.id, from_unix_ms($2), $3, $4 FROM alert_rule AS r WHERE r.id = $1 FOR KEY SHARE
ON CONFLICT (rule_id) DO UPDATE SET
    evaluated_at = excluded.evaluated_at, duration_seconds = excluded.duration_seconds,
    error = excluded.error

-- reserve_alert_ids --
-- Ids for alerts that are about to be stored.
SELECT nextval(pg_get_serial_sequence('alert', 'id')) AS id FROM generate_series(1, $1)

-- insert_alerts --
-- New alerts, noticed at $3; the unique indexes refuse a second open one for a rule and series.
INSERT INTO alert (
    id, tenant_id, rule_id, series_id, rule_group, rule_name, fingerprint, labels, series_labels,
    annotations, severity, expr, interval_ms, remediation, state, value, active_at, fired_at,
    resolved_at, keep_firing_since, noticed_at
)
OVERRIDING SYSTEM VALUE
SELECT
    a.id, $1, a.rule_id, a.series_id, a.rule_group, a.rule_name, decode(a.fingerprint, 'hex'),
    a.labels, a.series_labels, a.annotations, a.severity, a.expr, a.interval_ms, a.remediation,
    a.state, a.value::float8, from_unix_ms(a.active_at_ms),
    from_unix_ms(nullif(a.fired_at_ms, 0)), from_unix_ms(nullif(a.resolved_at_ms, 0)),
    from_unix_ms(nullif(a.keep_firing_since_ms, 0)), from_unix_ms($3)
FROM jsonb_to_recordset($2::text::jsonb) AS a (
    id bigint, rule_id bigint, series_id bigint, rule_group text, rule_name text,
    fingerprint text, labels jsonb, series_labels jsonb, annotations jsonb, severity text,
    expr text, interval_ms bigint, remediation jsonb, state text, value text,
    active_at_ms bigint, fired_at_ms bigint, resolved_at_ms bigint, keep_firing_since_ms bigint
)

-- update_alerts --
-- Stores alerts after an evaluation; one that was ended in the meantime stays ended. Returns the
-- stored ones.
UPDATE alert AS t
SET
    state = a.state, value = a.value::float8, labels = a.labels, annotations = a.annotations,
    fingerprint = decode(a.fingerprint, 'hex'),
    severity = a.severity, expr = a.expr, interval_ms = a.interval_ms,
    remediation = a.remediation, active_at = from_unix_ms(a.active_at_ms),
    fired_at = from_unix_ms(nullif(a.fired_at_ms, 0)),
    resolved_at = from_unix_ms(nullif(a.resolved_at_ms, 0)),
    keep_firing_since = from_unix_ms(nullif(a.keep_firing_since_ms, 0))
FROM jsonb_to_recordset($1::text::jsonb) AS a (
    id bigint, fingerprint text, labels jsonb, annotations jsonb, severity text, expr text,
    interval_ms bigint, remediation jsonb, state text, value text, active_at_ms bigint,
    fired_at_ms bigint, resolved_at_ms bigint, keep_firing_since_ms bigint
)
WHERE t.id = a.id AND t.state IN ('pending', 'firing')
RETURNING t.id

-- insert_transitions --
-- Steps of alerts, in their order.
INSERT INTO alert_transition (alert_id, from_state, to_state, at, value, note, actor)
SELECT s.alert_id, s.from_state, s.to_state, from_unix_ms(s.at_ms), s.value, s.note, s.actor
FROM unnest(
    $1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::float8[], $6::text[], $7::text[]
) WITH ORDINALITY AS s (alert_id, from_state, to_state, at_ms, value, note, actor, ordinal)
ORDER BY s.ordinal

-- open_alerts_of_rule --
-- The open alerts of a rule.
SELECT a.*
FROM alert AS a
WHERE a.rule_id = $1 AND a.state IN ('pending', 'firing')

-- orphaned_alerts --
-- Open alerts of rules that were deleted or disabled.
SELECT a.*, t.name AS tenant
FROM alert AS a
JOIN tenant AS t ON t.id = a.tenant_id
WHERE
    a.rule_id IS NOT NULL
    AND a.state IN ('pending', 'firing')
    AND NOT EXISTS (SELECT FROM alert_rule AS r WHERE r.id = a.rule_id AND r.enabled)
LIMIT 1000

-- list_alerts --
-- A page of a tenant's alerts, newest first.
SELECT a.*
FROM alert AS a
WHERE
    a.tenant_id = $1
    AND ($2::text[] IS NULL OR a.state = ANY($2))
    AND ($3::text = '' OR a.severity = $3)
    AND ($4::text = '' OR a.rule_name = $4)
    AND ($5::bigint = 0 OR a.id < $5)
    AND a.labels @> $6::text::jsonb
    AND ($8::bigint IS NULL OR a.resolved_at IS NULL OR a.resolved_at >= from_unix_ms($8))
    AND ($9::bigint IS NULL OR a.active_at <= from_unix_ms($9))
ORDER BY a.id DESC
LIMIT $7

-- active_alerts --
-- Every open alert of a tenant.
SELECT a.*
FROM alert AS a
WHERE a.tenant_id = $1 AND a.state IN ('pending', 'firing')
ORDER BY a.id

-- find_alert --
-- One alert of a tenant.
SELECT a.*
FROM alert AS a
WHERE a.tenant_id = $1 AND a.id = $2

-- alert_history --
-- The newest steps of an alert of a tenant, at most $3, oldest first.
SELECT
    n.from_state, n.to_state, (extract(epoch FROM n.at) * 1000)::bigint AS at_ms, n.value, n.note,
    n.actor
FROM (
    SELECT s.*
    FROM alert_transition AS s
    JOIN alert AS a ON a.id = s.alert_id
    WHERE a.tenant_id = $1 AND a.id = $2
    ORDER BY s.id DESC
    LIMIT $3
) AS n
ORDER BY n.id

-- acknowledge_alert --
-- Records who takes care of an open alert; a second acknowledgement changes nothing.
UPDATE alert
SET acknowledged_at = from_unix_ms($3), acknowledged_by = $4
WHERE
    tenant_id = $1 AND id = $2 AND acknowledged_at IS NULL AND state IN ('pending', 'firing')
RETURNING state, value

-- count_silences --
-- The number of silences of a tenant that end after $2.
SELECT count(*) FROM silence WHERE tenant_id = $1 AND ends_at > from_unix_ms($2)

-- prune_silences --
-- Deletes up to a thousand silences that ended before $1.
DELETE FROM silence
WHERE id IN (SELECT id FROM silence WHERE ends_at < from_unix_ms($1) LIMIT 1000)

-- insert_silence --
-- Creates a silence.
INSERT INTO silence (tenant_id, matchers, reason, created_by, starts_at, ends_at)
VALUES ($1, $2::text::jsonb, $3, $4, from_unix_ms($5), from_unix_ms($6))
RETURNING id

-- end_silence --
-- Ends a silence at $3; one that has not begun becomes empty.
UPDATE silence
SET starts_at = least(starts_at, from_unix_ms($3)), ends_at = from_unix_ms($3)
WHERE tenant_id = $1 AND id = $2 AND ends_at > from_unix_ms($3)
RETURNING id

-- list_silences --
-- A page of a tenant's silences, newest first; optionally only those that have not ended.
SELECT
    s.id, s.matchers::text AS matchers, s.reason, s.created_by,
    (extract(epoch FROM s.starts_at) * 1000)::bigint AS starts_at_ms,
    (extract(epoch FROM s.ends_at) * 1000)::bigint AS ends_at_ms
FROM silence AS s
WHERE
    s.tenant_id = $1
    AND ($2::bigint IS NULL OR s.ends_at > from_unix_ms($2))
    AND ($3::bigint IS NULL OR s.id = $3)
    AND ($4::bigint = 0 OR s.id < $4)
ORDER BY s.id DESC
LIMIT $5

-- active_silences --
-- The silences of a tenant that are active at a time.
SELECT
    s.id, s.matchers::text AS matchers, s.reason, s.created_by,
    (extract(epoch FROM s.starts_at) * 1000)::bigint AS starts_at_ms,
    (extract(epoch FROM s.ends_at) * 1000)::bigint AS ends_at_ms
FROM silence AS s
WHERE
    s.tenant_id = $1 AND s.starts_at <= from_unix_ms($2) AND s.ends_at > from_unix_ms($2)

-- alert_counts --
-- Open alerts by state.
SELECT state, count(*) AS n FROM alert WHERE state IN ('pending', 'firing') GROUP BY state

-- outbox_depths --
-- The number of rows that wait in each outbox.
SELECT
    (SELECT count(*) FROM breach_outbox) AS breaches,
    (SELECT count(*) FROM alert_delivery) AS deliveries

-- prune_alerts --
-- Deletes up to a thousand ended alerts, with their history: those that ended before $1, and the oldest of
-- tenants that have more than $2.
DELETE FROM alert
WHERE id IN (
    (
        SELECT id
        FROM alert
        WHERE resolved_at < from_unix_ms($1) AND state NOT IN ('pending', 'firing')
        LIMIT 1000
    )
    UNION ALL
    (
        SELECT old.id
        FROM tenant AS t
        CROSS JOIN LATERAL (
            SELECT id FROM alert WHERE tenant_id = t.id ORDER BY id DESC OFFSET $2 LIMIT 1
        ) AS newest_old
        CROSS JOIN LATERAL (
            SELECT id
            FROM alert
            WHERE
                tenant_id = t.id AND id <= newest_old.id AND state NOT IN ('pending', 'firing')
            ORDER BY id
            LIMIT 1000
        ) AS old
        LIMIT 1000
    )
)
