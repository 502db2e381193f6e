"""Real programs for tests: databases, Prometheus, Temporal, a network that can be cut."""
