"""Alerts, silences and receivers."""
