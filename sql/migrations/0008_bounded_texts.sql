-- Hard bounds of what a series and its metadata may hold, far above the settings of the service
-- (max_label_names_per_series and the like). NOT VALID: rows that are there already stay as they are.

ALTER TABLE series
    ADD CONSTRAINT series_metric_name_bytes CHECK (octet_length(metric_name) <= 2000) NOT VALID,
    ADD CONSTRAINT series_labels_bytes CHECK (octet_length(labels::text) <= 4194304) NOT VALID;

ALTER TABLE metric_metadata
    ADD CONSTRAINT metric_metadata_bytes CHECK (
        octet_length(family) <= 2000 AND octet_length(unit) <= 2000 AND octet_length(help) <= 65536
    ) NOT VALID;

ALTER TABLE tenant
    ADD CONSTRAINT tenant_name_bytes CHECK (octet_length(name) <= 1000) NOT VALID;
