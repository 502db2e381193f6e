-- Rules of a group may share a name when their labels or expressions differ, as in Prometheus. What a
-- rule is known by is hashed: an index entry has no room for long names.
ALTER TABLE alert_rule ADD COLUMN identity bytea;
UPDATE alert_rule
SET identity = sha256(convert_to(
    jsonb_build_array(rule_group, name, expr, severity, labels)::text, 'UTF8'
));
ALTER TABLE alert_rule
    ALTER COLUMN identity SET NOT NULL,
    DROP CONSTRAINT alert_rule_tenant_id_rule_group_name_key,
    ADD CONSTRAINT alert_rule_identity UNIQUE (tenant_id, identity);
