"""Dashboards of Grafana become dashboards of promcompat; what does not is listed."""
