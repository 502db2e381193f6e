-- How large rules, definitions and versions of dashboards are, so that the limits of a tenant's bytes are
-- compared with a sum of numbers: to measure the texts themselves, each would have to be read and unpacked.
ALTER TABLE alert_rule ADD COLUMN n_bytes integer NOT NULL GENERATED ALWAYS AS (
    octet_length(namespace) + octet_length(rule_group) + octet_length(name) + octet_length(expr)
    + octet_length(severity) + octet_length(labels::text) + octet_length(annotations::text)
    + coalesce(octet_length(remediation::text), 0)
) STORED;
ALTER TABLE metric_definition ADD COLUMN n_bytes integer NOT NULL GENERATED ALWAYS AS (
    octet_length(name) + octet_length(display_name) + octet_length(description) + octet_length(unit)
    + coalesce(octet_length(alert_threshold::text), 0)
) STORED;
ALTER TABLE dashboard_version ADD COLUMN n_bytes integer NOT NULL GENERATED ALWAYS AS (
    octet_length(document::text)
) STORED;
