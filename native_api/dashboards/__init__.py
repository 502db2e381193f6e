"""The resource `dashboards`."""
