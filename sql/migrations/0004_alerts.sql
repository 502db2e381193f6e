-- Alert rules, alerts and their history, silences, and the outboxes that carry work to be done.

-- `labels` and `annotations` are JSON objects of templates. Rules of one group are evaluated one
-- after the other. No row here is ever needed to read samples.
CREATE TABLE alert_rule (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    rule_group text COLLATE "C" NOT NULL CHECK (rule_group <> ''),
    name text COLLATE "C" NOT NULL CHECK (name <> ''),
    expr text NOT NULL,
    interval_ms bigint NOT NULL CHECK (interval_ms > 0),
    for_ms bigint NOT NULL CHECK (for_ms >= 0),
    keep_firing_for_ms bigint NOT NULL CHECK (keep_firing_for_ms >= 0),
    max_alerts integer NOT NULL CHECK (max_alerts >= 0),
    severity text NOT NULL,
    labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    enabled boolean NOT NULL,
    remediation jsonb,
    version integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, rule_group, name)
);

-- How the last evaluation of a rule went: apart from the rule, as it changes with every interval.
CREATE TABLE alert_rule_evaluation (
    rule_id bigint PRIMARY KEY REFERENCES alert_rule (id) ON DELETE CASCADE,
    evaluated_at timestamptz NOT NULL,
    duration_seconds float8 NOT NULL,
    error text NOT NULL
) WITH (fillfactor = 50);

-- One row for each time a condition was met, from its first sight to its end and beyond. What an
-- alert says of its rule is a copy: a rule may change or go, history may not. No foreign key to
-- alert_rule for the same reason. `rule_id` is null for the threshold of a metric definition,
-- whose metric is `rule_name` and whose series is `series_id`. `series_labels` are those of the
-- element of the query's result, `labels` those after the rule's.
CREATE TABLE alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    rule_id bigint,
    series_id bigint,
    rule_group text NOT NULL,
    rule_name text NOT NULL,
    fingerprint bytea NOT NULL,
    labels jsonb NOT NULL,
    series_labels jsonb NOT NULL,
    annotations jsonb NOT NULL,
    severity text NOT NULL,
    expr text NOT NULL,
    interval_ms bigint NOT NULL,
    remediation jsonb,
    state text NOT NULL CHECK (state IN ('inactive', 'pending', 'firing', 'resolved')),
    value float8 NOT NULL,
    active_at timestamptz NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    fired_at timestamptz,
    resolved_at timestamptz,
    keep_firing_since timestamptz,
    sent_at timestamptz,
    remediated_at timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text NOT NULL DEFAULT '',
    CHECK ((rule_id IS NULL) <> (series_id IS NULL))
) WITH (fillfactor = 70);
-- One open alert for each rule and series, whatever several processes do at once.
CREATE UNIQUE INDEX alert_open_rule ON alert (rule_id, fingerprint)
WHERE state IN ('pending', 'firing') AND rule_id IS NOT NULL;
CREATE UNIQUE INDEX alert_open_threshold ON alert (series_id)
WHERE state IN ('pending', 'firing') AND rule_id IS NULL;
CREATE INDEX alert_open ON alert (tenant_id) WHERE state IN ('pending', 'firing');
CREATE INDEX alert_tenant ON alert (tenant_id, id);
CREATE INDEX alert_resolved ON alert (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX alert_remediated ON alert (tenant_id, rule_name, remediated_at)
WHERE remediated_at IS NOT NULL;

-- What happened to an alert, in order. `note` says who acknowledged, or why nothing was started.
CREATE TABLE alert_transition (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    from_state text NOT NULL,
    to_state text NOT NULL,
    at timestamptz NOT NULL,
    value float8 NOT NULL,
    note text NOT NULL DEFAULT ''
);
CREATE INDEX alert_transition_alert ON alert_transition (alert_id, id);

-- Work that a transition made: one row for each receiver, deleted when it is done. `alert` is what
-- the alert was at the time, so that a receiver is told of every step even when it was away.
CREATE TABLE alert_delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    receiver text NOT NULL,
    alert jsonb NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_error text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX alert_delivery_due ON alert_delivery (receiver, next_attempt_at);
CREATE INDEX alert_delivery_order ON alert_delivery (alert_id, receiver, id);

-- `matchers` is an array of [name, operator, value].
CREATE TABLE silence (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    matchers jsonb NOT NULL,
    reason text NOT NULL,
    created_by text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    CHECK (ends_at >= starts_at)
);
CREATE INDEX silence_tenant ON silence (tenant_id, ends_at);

-- Changes of a series' breach level, written in the transaction of the samples that are the cause.
CREATE TABLE breach_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    series_id bigint NOT NULL,
    level smallint NOT NULL,
    value float8 NOT NULL,
    ts timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- The level of each series that breaches its threshold, or did a moment ago. `ts` is the time of
-- the sample that the level was last read from.
CREATE TABLE threshold_state (
    series_id bigint PRIMARY KEY,
    tenant_id integer NOT NULL,
    metric_name text COLLATE "C" NOT NULL,
    level smallint NOT NULL,
    value float8 NOT NULL,
    ts timestamptz NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX threshold_state_changed ON threshold_state (changed_at);
