"""What the service counts of what senders send."""

from prometheus_client import CollectorRegistry, Counter

_IMPORT_FORMATS = ("json", "exposition", "csv", "influx", "datadog", "graphite", "statsd")


class RemoteWriteMetrics:
    """What senders sent, and what was not stored of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.samples_received = Counter(
            "promcompat_remote_write_samples_received",
            "Float samples in decoded remote-write requests.",
            registry=registry,
        )
        self.requests_rejected = Counter(
            "promcompat_remote_write_requests_rejected",
            "Remote-write requests not answered with 204, by status code.",
            ("code",),
            registry=registry,
        )
        self.series_invalid = Counter(
            "promcompat_remote_write_series_invalid",
            "Series skipped because of invalid labels, as Prometheus skips them.",
            registry=registry,
        )
        self.exemplars_stored = Counter(
            "promcompat_remote_write_exemplars_stored",
            "Exemplars stored, and repeats of stored ones.",
            registry=registry,
        )
        self.exemplars_ignored = Counter(
            "promcompat_remote_write_exemplars_ignored",
            "Exemplars not stored: out of order, invalid, too many, or of no storable series.",
            registry=registry,
        )
        self.histograms_received = Counter(
            "promcompat_remote_write_histograms_received",
            "Native histograms in decoded remote-write requests.",
            registry=registry,
        )
        self.histograms_rejected = Counter(
            "promcompat_remote_write_histograms_rejected",
            "Native histograms that are not valid, and were rejected with 400.",
            registry=registry,
        )
        self.start_timestamps_received = Counter(
            "promcompat_remote_write_start_timestamps_received",
            "Start timestamps received by remote write 2.0; those that differ are stored.",
            registry=registry,
        )
        self.metadata_received = Counter(
            "promcompat_remote_write_metadata_received",
            "Metadata entries in decoded remote-write requests.",
            registry=registry,
        )


class OtlpMetrics:
    """What exporters sent, and what was not stored of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.points_received = Counter(
            "promcompat_otlp_points_received",
            "Data points in OTLP requests that could be decoded.",
            registry=registry,
        )
        self.points_rejected = Counter(
            "promcompat_otlp_points_rejected",
            "Data points reported as rejected in partial successes.",
            registry=registry,
        )
        self.requests_rejected = Counter(
            "promcompat_otlp_requests_rejected",
            "OTLP requests not answered with 200, by status code.",
            ("code",),
            registry=registry,
        )


class NativeIngestMetrics:
    """What applications post as JSON, and what was not stored of it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "promcompat_native_ingest_requests",
            "JSON ingest requests whose body could be parsed as samples.",
            registry=registry,
        )
        self.samples_accepted = Counter(
            "promcompat_native_ingest_samples_accepted",
            "Samples stored.",
            registry=registry,
        )
        self.samples_refused = Counter(
            "promcompat_native_ingest_samples_refused",
            "Samples not stored. invalid: the sample is invalid; withheld: another sample of the "
            "batch is invalid; conflict: a different value is stored for the same time; failed: "
            "the whole write failed.",
            ("reason",),
            registry=registry,
        )
        for reason in ("invalid", "withheld", "conflict", "failed"):
            self.samples_refused.labels(reason)

    def refuse(self, reason: str, n_samples: int) -> None:
        """Count samples that are not stored."""
        self.samples_refused.labels(reason).inc(n_samples)


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
            for name in _IMPORT_FORMATS:
                counter.labels(name)
