-- What was done about breaches: one row for each workflow, one for each of its steps.

-- The workflow service forgets a workflow after its retention; this table does not, so that the
-- same breach starts nothing for ever. No foreign key to alerts: their history may be pruned.
-- `decision` is where an approval, a denial and the expiry of the question race: the first counts.
CREATE TABLE remediation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    workflow_id text COLLATE "C" NOT NULL UNIQUE CHECK (workflow_id <> ''),
    run_id text NOT NULL DEFAULT '',
    workflow_type text NOT NULL,
    task_queue text NOT NULL,
    alert_id bigint NOT NULL,
    rule_name text NOT NULL,
    query text NOT NULL,
    input jsonb NOT NULL,
    state text NOT NULL DEFAULT 'requested' CHECK (
        state IN (
            'requested', 'started', 'waiting_for_approval', 'running', 'succeeded', 'escalated',
            'rolled_back', 'denied', 'expired', 'cancelled', 'failed'
        )
    ),
    outcome text NOT NULL DEFAULT '',
    decision text CHECK (decision IN ('approved', 'denied', 'expired')),
    decided_by text NOT NULL DEFAULT '',
    decision_reason text NOT NULL DEFAULT '',
    approval_expires_at timestamptz,
    cancelled_by text NOT NULL DEFAULT '',
    cancel_reason text NOT NULL DEFAULT '',
    start_failures integer NOT NULL DEFAULT 0,
    last_error text NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX remediation_tenant ON remediation (tenant_id, id);
CREATE INDEX remediation_alert ON remediation (tenant_id, alert_id);
CREATE INDEX remediation_open ON remediation (state) WHERE finished_at IS NULL;

-- A step that is recorded as succeeded stays so: a repeated activity finds its effect here.
CREATE TABLE remediation_step (
    remediation_id bigint NOT NULL REFERENCES remediation (id) ON DELETE CASCADE,
    step text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'cancelled')),
    tries integer NOT NULL DEFAULT 1,
    detail jsonb NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (remediation_id, step, attempt)
);
