"""Alert rules and thresholds: evaluation, states, silences, notifications."""
