-- When a sender last said something new of a family: metadata may come before the first sample, so what has
-- no series is removed only some time after that.
ALTER TABLE metric_metadata ADD COLUMN stored_at timestamptz NOT NULL DEFAULT now();

-- The alerts of thresholds that wait for their `for`, which are looked for every few seconds.
CREATE INDEX alert_pending_threshold ON alert (noticed_at) WHERE state = 'pending' AND rule_id IS NULL;
