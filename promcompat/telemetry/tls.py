"""The service's metrics of its TLS certificate."""

from prometheus_client import CollectorRegistry, Gauge


class TlsMetrics:
    """The certificate of the HTTP server; of several workers, the one that is worst off."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._loaded = Gauge(
            "promcompat_tls_certificate_loaded_timestamp_seconds",
            "When the certificate files in use were read; 0 without TLS.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._is_good = Gauge(
            "promcompat_tls_certificate_reload_successful",
            "1 if the certificate files could be used when they were last read.",
            registry=registry,
            multiprocess_mode="livemin",
        )

    def loaded(self, unix_seconds: float) -> None:
        """Note that the files are in use now."""
        self._loaded.set(unix_seconds)
        self._is_good.set(1)

    def failed(self) -> None:
        """Note that the files cannot be used, and older ones stay."""
        self._is_good.set(0)
