"""The metrics of access."""

from prometheus_client import CollectorRegistry, Counter


class AccessMetrics:
    """Credentials that were refused."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "promcompat_access_failures",
            "Credentials that were refused, by reason.",
            ("reason",),
            registry=registry,
        )

    def count_failure(self, reason: str) -> None:
        """Count a credential that was refused."""
        self._failures.labels(reason).inc()
