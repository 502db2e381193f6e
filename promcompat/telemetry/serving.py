"""The metrics of the HTTP server: requests, refused credentials, the certificate."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from promcompat.telemetry.instruments import SECONDS, reload_gauge


class HttpMetrics:
    """Requests to every endpoint."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "promcompat_http_request_duration_seconds",
            "Time from the headers of a request to the end of its response.",
            ("handler", "code"),
            registry=registry,
            buckets=SECONDS,
        )
        self._observe: dict[tuple[str, int], Callable[[float], None]] = {}
        self.requests_in_flight = Gauge(
            "promcompat_http_requests_in_flight",
            "Requests currently being served.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def observe(self, handler: str, status: int, seconds: float) -> None:
        """Count one request. `handler` is the path of its route."""
        observe = self._observe.get((handler, status))
        if observe is None:
            observe = self.request_seconds.labels(handler, str(status)).observe
            self._observe[handler, status] = observe
        observe(seconds)


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


class TlsMetrics:
    """The certificate of the HTTP server; of several workers, the one that is worst off."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._loaded = Gauge(
            "promcompat_tls_certificate_loaded_timestamp_seconds",
            "When the certificate files in use were read; 0 without TLS.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._is_good = reload_gauge(
            "promcompat_tls_certificate_reload_successful",
            "1 if the certificate files could be used when they were last read.",
            registry,
        )

    def loaded(self, unix_seconds: float) -> None:
        """Note that the files are in use now."""
        self._loaded.set(unix_seconds)
        self._is_good.set(1)

    def failed(self) -> None:
        """Note that the files cannot be used, and older ones stay."""
        self._is_good.set(0)
