"""Rules, thresholds, alerts and remediations as values, and the ports of their storage."""
