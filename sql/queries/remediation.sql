-- insert_remediation --
-- Records a request, once.
INSERT INTO remediation (
    tenant_id, workflow_id, workflow_type, task_queue, alert_id, rule_name, query, input
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::jsonb)
ON CONFLICT (workflow_id) DO NOTHING

-- remediation_state --
-- The state of a workflow's remediation.
SELECT state FROM remediation WHERE workflow_id = $1

-- mark_started --
-- Records that the workflow exists; it may already have recorded a later state.
UPDATE remediation
SET
    run_id = $2,
    state = CASE WHEN state = 'requested' THEN 'started' ELSE state END,
    started_at = COALESCE(started_at, now()),
    last_error = ''
WHERE workflow_id = $1
RETURNING state

-- mark_start_failed --
-- Records that the workflow could not be started, now ($3 false) or ever (true).
UPDATE remediation
SET
    start_failures = start_failures + 1,
    last_error = $2,
    state = CASE WHEN $3 THEN 'failed' ELSE state END,
    outcome = CASE WHEN $3 THEN $2 ELSE outcome END,
    finished_at = CASE WHEN $3 THEN now() END
WHERE workflow_id = $1 AND state = 'requested'

-- withdraw --
-- Cancels a request whose workflow has not been started.
UPDATE remediation
SET state = 'cancelled', outcome = $2, finished_at = now()
WHERE workflow_id = $1 AND state = 'requested'

-- mark_state --
-- Changes the state unless it is final; $4 says whether the new state is final.
UPDATE remediation
SET
    state = CASE WHEN finished_at IS NULL THEN $2 ELSE state END,
    outcome = CASE WHEN finished_at IS NULL THEN $3 ELSE outcome END,
    started_at = COALESCE(started_at, now()),
    finished_at = COALESCE(finished_at, CASE WHEN $4 THEN now() END)
WHERE workflow_id = $1
RETURNING state

-- await_approval --
-- Records that the workflow waits for a decision until a time.
UPDATE remediation
SET
    state = CASE WHEN finished_at IS NULL THEN 'waiting_for_approval' ELSE state END,
    approval_expires_at = $2
WHERE workflow_id = $1
RETURNING state

-- settle --
-- Records a decision unless there is one; returns the one that counts.
UPDATE remediation
SET
    decided_by = CASE WHEN decision IS NULL THEN $3 ELSE decided_by END,
    decision_reason = CASE WHEN decision IS NULL THEN $4 ELSE decision_reason END,
    decision = COALESCE(decision, $2)
WHERE workflow_id = $1
RETURNING decision, decided_by, decision_reason

-- decide --
-- Records a decision if the remediation waits for one and has none.
UPDATE remediation AS r
SET decision = $3, decided_by = $4, decision_reason = $5
FROM tenant AS t
WHERE r.tenant_id = $1 AND r.id = $2 AND t.id = r.tenant_id
    AND r.state = 'waiting_for_approval' AND r.decision IS NULL
RETURNING r.*, t.name AS tenant

-- record_cancel --
-- Records who cancels first; a remediation that was never started ends here.
UPDATE remediation AS r
SET
    cancel_reason = CASE WHEN cancelled_by = '' THEN $4 ELSE cancel_reason END,
    cancelled_by = CASE WHEN cancelled_by = '' THEN $3 ELSE cancelled_by END,
    outcome = CASE WHEN state = 'requested' THEN 'cancelled before it started' ELSE outcome END,
    finished_at = CASE WHEN state = 'requested' THEN now() END,
    state = CASE WHEN state = 'requested' THEN 'cancelled' ELSE state END
FROM tenant AS t
WHERE r.tenant_id = $1 AND r.id = $2 AND t.id = r.tenant_id AND r.finished_at IS NULL
RETURNING r.*, t.name AS tenant

-- find_remediation --
-- One remediation of a tenant.
SELECT r.*, t.name AS tenant
FROM remediation AS r
JOIN tenant AS t ON t.id = r.tenant_id
WHERE r.tenant_id = $1 AND r.id = $2

-- list_remediations --
-- Remediations of a tenant, newest first; a NULL condition holds for all.
SELECT r.*, t.name AS tenant
FROM remediation AS r
JOIN tenant AS t ON t.id = r.tenant_id
WHERE r.tenant_id = $1
    AND ($2::text IS NULL OR r.state = $2)
    AND ($3::text IS NULL OR r.rule_name = $3)
    AND ($4::bigint IS NULL OR r.alert_id = $4)
    AND ($5::bigint = 0 OR r.id < $5)
ORDER BY r.id DESC
LIMIT $6

-- begin_step --
-- Records the start of a step unless it has succeeded.
INSERT INTO remediation_step AS s (remediation_id, step, attempt, state)
SELECT r.id, $2, $3, 'running'
FROM remediation AS r
WHERE r.workflow_id = $1
ON CONFLICT (remediation_id, step, attempt) DO UPDATE
SET
    tries = s.tries + (s.state <> 'succeeded')::integer,
    finished_at = CASE WHEN s.state = 'succeeded' THEN s.finished_at END,
    state = CASE WHEN s.state = 'succeeded' THEN s.state ELSE 'running' END
RETURNING *

-- finish_step --
-- Records the end of a step; a step that succeeded does not change.
INSERT INTO remediation_step AS s (
    remediation_id, step, attempt, state, detail, finished_at
)
SELECT r.id, $2, $3, $4, $5::jsonb, clock_timestamp()
FROM remediation AS r
WHERE r.workflow_id = $1
ON CONFLICT (remediation_id, step, attempt) DO UPDATE
SET state = EXCLUDED.state, detail = EXCLUDED.detail, finished_at = EXCLUDED.finished_at
WHERE s.state <> 'succeeded'

-- lock_step --
-- A step, locked until the transaction ends.
SELECT s.*
FROM remediation_step AS s
JOIN remediation AS r ON r.id = s.remediation_id
WHERE r.workflow_id = $1 AND s.step = $2 AND s.attempt = $3
FOR UPDATE OF s

-- limit_statement_time --
-- Limits how long a statement may take, until the transaction ends.
SELECT set_config('statement_timeout', $1, true)

-- call_function --
-- Calls a function of one jsonb; the routine looks the name up.
SELECT call_remediation_function($1, $2::jsonb)

-- steps_of_remediation --
-- The steps of a remediation in the order of their first start.
SELECT * FROM remediation_step WHERE remediation_id = $1 ORDER BY started_at, step, attempt

-- count_open --
-- The number of remediations in each state that is not final.
SELECT state, count(*) AS n FROM remediation WHERE finished_at IS NULL GROUP BY state
