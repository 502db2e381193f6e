"""Repositories of rules, alerts, silences, deliveries and watched thresholds."""
