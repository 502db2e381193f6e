"""Dashboards: their document, storage, provisioning, and the import of those of Grafana."""
