-- What receivers are told: steps of alerts for webhooks, states of label sets for Alertmanagers.

-- Alertmanagers no longer take their work from alert_delivery; `alertmanager_alert` says what they
-- know, and what they should know is read from `alert`.
DELETE FROM alert_delivery WHERE receiver LIKE 'alertmanager-%';
ALTER TABLE alert DROP COLUMN sent_at;
CREATE INDEX alert_labels ON alert (tenant_id, fingerprint);

-- `subject` names what must be told in order: the steps of one series of a threshold, or of one
-- label set of a rule, even when they belong to several alerts. `begins` is true for the step that
-- tells a receiver of an alert for the first time.
ALTER TABLE alert_delivery ADD COLUMN tenant_id integer REFERENCES tenant (id);
ALTER TABLE alert_delivery ADD COLUMN subject text COLLATE "C";
ALTER TABLE alert_delivery ADD COLUMN begins boolean NOT NULL DEFAULT false;
UPDATE alert_delivery AS d
SET
    tenant_id = a.tenant_id,
    subject = coalesce('series ' || a.series_id, encode(a.fingerprint, 'hex')),
    begins = d.alert ->> 'state' = 'firing'
FROM alert AS a
WHERE a.id = d.alert_id;
ALTER TABLE alert_delivery ALTER COLUMN tenant_id SET NOT NULL;
ALTER TABLE alert_delivery ALTER COLUMN subject SET NOT NULL;
DROP INDEX alert_delivery_order;
CREATE INDEX alert_delivery_order ON alert_delivery (receiver, tenant_id, subject, id);
CREATE INDEX alert_delivery_alert ON alert_delivery (alert_id);

-- What each Alertmanager was last told of a label set, `alert`, and when. A row of state `untold`
-- is one that the receiver did not take yet. `next_attempt_at` is also the end of the lease of the
-- process that is sending. `ended_at` is when the label set stopped firing.
CREATE TABLE alertmanager_alert (
    receiver text COLLATE "C" NOT NULL,
    tenant_id integer NOT NULL REFERENCES tenant (id),
    fingerprint bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('untold', 'firing', 'resolved')),
    alert jsonb,
    told_at timestamptz,
    ended_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL,
    last_error text NOT NULL DEFAULT '',
    PRIMARY KEY (receiver, tenant_id, fingerprint),
    CHECK (state = 'untold' OR (alert IS NOT NULL AND told_at IS NOT NULL))
) WITH (fillfactor = 70);

-- Who did a step by hand: an acknowledgement, the end of an alert. Empty for the service itself.
ALTER TABLE alert_transition ADD COLUMN actor text NOT NULL DEFAULT '';
