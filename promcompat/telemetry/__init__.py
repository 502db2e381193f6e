"""The metrics that the service has of itself, at /metrics."""
