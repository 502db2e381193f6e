-- Recording rules beside alert rules, and groups that are known by namespace and name, as Prometheus
-- knows them by file and name. Rules of a group are evaluated by position, then by id; those of a rule
-- file have positions from 1 on. `max_alerts` is also the most series that a recording rule may have.
ALTER TABLE alert_rule
    ADD COLUMN namespace text COLLATE "C" NOT NULL DEFAULT 'rules' CHECK (namespace <> ''),
    ADD COLUMN kind text NOT NULL DEFAULT 'alert' CHECK (kind IN ('alert', 'record')),
    ADD COLUMN position integer NOT NULL DEFAULT 0 CHECK (position >= 0),
    ADD COLUMN query_offset_ms bigint NOT NULL DEFAULT 0,
    -- The group states no interval; exports leave it out too.
    ADD COLUMN inherits_interval boolean NOT NULL DEFAULT false;
UPDATE alert_rule
SET identity = sha256(convert_to(
    jsonb_build_array(namespace, rule_group, position, kind, name, expr, severity, labels)::text,
    'UTF8'
));
CREATE INDEX alert_rule_group ON alert_rule (tenant_id, namespace, rule_group);

-- The series that the last successful evaluation of a recording rule wrote: those that the next one
-- does not write end with a stale marker, whichever process evaluates it. `series` is JSON, compressed
-- with zlib; `digest` tells a process that it knows them already. The row outlives its rule until the
-- series have ended; `removed_at` is when a process noticed that the rule is gone or disabled.
CREATE TABLE recorded_series (
    rule_id bigint PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    namespace text COLLATE "C" NOT NULL,
    rule_group text COLLATE "C" NOT NULL,
    interval_ms bigint NOT NULL,
    query_offset_ms bigint NOT NULL,
    digest bytea NOT NULL,
    series bytea NOT NULL,
    removed_at timestamptz
);
CREATE INDEX recorded_series_group ON recorded_series (tenant_id, namespace, rule_group);
