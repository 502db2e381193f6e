"""The service's own metrics, in a registry of its own, served on `/metrics`.

With one worker the numbers live in the process. With several, each worker keeps its numbers in
memory-mapped files (prometheus_client's multiprocess mode, chosen by PROMETHEUS_MULTIPROC_DIR,
which the supervisor sets) and whichever worker is scraped answers for all of them. The files have
the number of the worker, not that of its process: a worker that is started again goes on counting
where the one before it ended, and workers that end again and again leave no files behind.
"""

import os
import platform

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

from promcompat.telemetry.alerting import AlertingMetrics, RemediationMetrics
from promcompat.telemetry.ingest import (
    ImportMetrics,
    NativeIngestMetrics,
    OtlpMetrics,
    RemoteWriteMetrics,
)
from promcompat.telemetry.limits import LimitMetrics
from promcompat.telemetry.maintenance import LoopMetrics, MaintenanceMetrics
from promcompat.telemetry.queries import QueryMetrics
from promcompat.telemetry.scraping import ScrapeMetrics
from promcompat.telemetry.serving import AccessMetrics, HttpMetrics, TlsMetrics
from promcompat.telemetry.storage import SampleStoreMetrics, StorageMetrics
from promcompat.version import promcompat_version

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Telemetry:
    """Every metric of the service."""

    def __init__(self, worker: int | None = None) -> None:
        """`worker` is the number of this process among those that share a folder of files."""
        if worker is not None:
            values.ValueClass = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]
        # The creation time of each counter would come as a gauge in the text format.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._is_shared = MULTIPROCESS_VARIABLE in os.environ
        self.http = HttpMetrics(self.registry)
        self.tls = TlsMetrics(self.registry)
        self.access = AccessMetrics(self.registry)
        self.remote_write = RemoteWriteMetrics(self.registry)
        self.otlp = OtlpMetrics(self.registry)
        self.native_ingest = NativeIngestMetrics(self.registry)
        self.imports = ImportMetrics(self.registry)
        self.scrapes = ScrapeMetrics(self.registry)
        self.query = QueryMetrics(self.registry)
        self.storage = StorageMetrics(self.registry)
        self.sample_store = SampleStoreMetrics(self.registry)
        self.remediation = RemediationMetrics(self.registry)
        self.alerting = AlertingMetrics(self.registry)
        self.loops = LoopMetrics(self.registry)
        self.maintenance = MaintenanceMetrics(self.registry)
        self.limits = LimitMetrics(self.registry, is_shared=self._is_shared)
        _publish_build(self.registry)
        if not self._is_shared:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)

    def render(self) -> bytes:
        """The text exposition of every metric, of all workers when there are several."""
        if not self._is_shared:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)


def _publish_build(registry: CollectorRegistry) -> None:
    build = Gauge(
        "promcompat_build_info",
        "Constant 1; the labels describe the running version.",
        ("version", "python"),
        registry=registry,
        multiprocess_mode="max",
    )
    build.labels(promcompat_version(), platform.python_version()).set(1)
