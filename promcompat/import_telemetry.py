"""Counters of what comes in other formats than remote write."""

from prometheus_client import CollectorRegistry, Counter

FORMATS = ("json", "exposition", "csv", "influx", "datadog", "graphite", "statsd")


class ImportMetrics:
    """Samples by the format they came in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stored = Counter(
            "promcompat_import_samples_stored",
            "Samples stored, by the format they came in.",
            ("format",),
            registry=registry,
        )
        self.refused = Counter(
            "promcompat_import_samples_refused",
            "Samples, or lines of them, that were not stored; their sender was told where it can.",
            ("format",),
            registry=registry,
        )
        self.skipped = Counter(
            "promcompat_import_values_skipped",
            "Valid values that cannot be samples, such as texts, events and service checks.",
            ("format",),
            registry=registry,
        )
        for counter in (self.stored, self.refused, self.skipped):
            for name in FORMATS:
                counter.labels(name)
