-- Metrics whose threshold changed, in the transaction of the change. The dispatcher of alerts holds
-- the newest sample of each of their series against the threshold of now, a page of series at a
-- time. It does so at once, and once more when every writer knows the new threshold: what was
-- written in between under the old one is found then.
CREATE TABLE threshold_review (
    tenant_id integer NOT NULL REFERENCES tenant (id),
    metric_name text COLLATE "C" NOT NULL,
    after_series_id bigint NOT NULL DEFAULT 0,
    is_repeated boolean NOT NULL DEFAULT false,
    due_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, metric_name)
);
