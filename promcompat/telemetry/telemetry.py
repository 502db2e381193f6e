"""The service's own metrics, in a registry of its own, served on `/metrics`.

With one worker the numbers live in the process. With several, each worker keeps its numbers in
memory-mapped files (prometheus_client's multiprocess mode, chosen by PROMETHEUS_MULTIPROC_DIR,
which the supervisor sets) and whichever worker is scraped answers for all of them.
"""

import os
import platform
from collections.abc import Callable, Mapping
from typing import Final, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from promcompat.telemetry.access import AccessMetrics
from promcompat.telemetry.ingest import (
    ImportMetrics,
    NativeIngestMetrics,
    OtlpMetrics,
    RemoteWriteMetrics,
)
from promcompat.telemetry.limits import LimitMetrics
from promcompat.telemetry.maintenance import MaintenanceMetrics
from promcompat.telemetry.scraping import ScrapeMetrics
from promcompat.telemetry.tls import TlsMetrics
from promcompat.version import promcompat_version

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class HttpMetrics:
    """Requests to every endpoint."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.request_seconds = Histogram(
            "promcompat_http_request_duration_seconds",
            "Time from the headers of a request to the end of its response.",
            ("handler", "code"),
            registry=registry,
            buckets=_SECONDS,
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


class QueryMetrics:
    """What queries cost."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stage_seconds = Histogram(
            "promcompat_query_stage_duration_seconds",
            "Query time by stage; the stages are those of the stats parameter.",
            ("stage",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._observe_stage: dict[str, Callable[[float], None]] = {}
        self.samples = Counter(
            "promcompat_query_samples", "Samples read by queries.", registry=registry
        )
        self.steps_reused = Counter(
            "promcompat_query_steps_reused",
            "Steps of range queries taken from the result cache.",
            registry=registry,
        )
        self.cache_hits = Counter(
            "promcompat_query_cache_hits",
            "Range queries answered in part or in full from the result cache.",
            registry=registry,
        )

    def observe(
        self, timings_seconds: Mapping[str, float], n_samples: int, n_steps_reused: int = 0
    ) -> None:
        """Count one query."""
        if n_steps_reused:
            self.steps_reused.inc(n_steps_reused)
            self.cache_hits.inc()
        self.samples.inc(n_samples)
        for stage, seconds in timings_seconds.items():
            observe = self._observe_stage.get(stage)
            if observe is None:
                observe = self._observe_stage[stage] = self.stage_seconds.labels(stage).observe
            observe(seconds)


_STORAGE_COUNTERS = {
    "rows_committed": "Sample rows in committed transactions, including repeated rows.",
    "commits": "Committed transactions with sample rows.",
    "commit_seconds": "Time spent in transactions with sample rows.",
    "failed_commits": "Failed transactions with sample rows; their senders got an error.",
    "rows_rejected": "Samples not stored because their series has a different value at the same "
    "time.",
    "series_cache_hits": "Rows whose series id was cached.",
    "series_cache_misses": "Rows whose series id was not cached.",
    "series_resolved": "Series ids looked up in the database.",
    "series_resolve_seconds": "Time spent looking up series ids.",
    "selections": "Selectors read for queries.",
    "samples_selected": "Samples read for selectors.",
    "select_seconds": "Time spent reading selectors.",
    "selector_cache_hits": "Selectors whose series were cached.",
    "selector_cache_misses": "Selectors whose series were not cached.",
    "rollup_cache_hits": "Selectors whose rollups were still in memory.",
    "rollup_cache_misses": "Selectors whose rollups had to be read.",
}


class _Totals:
    """Counters that follow totals which other code keeps, by their names.

    They are increased from time to time: a collector that read the totals when it is scraped would
    not be seen by the other workers.
    """

    def __init__(self, prefix: str, texts: Mapping[str, str], registry: CollectorRegistry) -> None:
        """`texts` has the help text of each total."""
        self._counters = {
            name: Counter(f"{prefix}_{name}", text, registry=registry)
            for name, text in texts.items()
        }
        self._last: dict[str, float] = {}

    def follow(self, totals: Mapping[str, float]) -> None:
        """Increase each counter to its total."""
        for name, counter in self._counters.items():
            total = totals.get(name, 0.0)
            counter.inc(max(0.0, total - self._last.get(name, 0.0)))
            self._last[name] = total


class StorageCounters:
    """What the storage adapter did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = _Totals("promcompat_storage", _STORAGE_COUNTERS, registry)
        self._undrained_bytes = Gauge(
            "promcompat_storage_undrained_bytes",
            "Memory that samples need which are not in blocks or rows yet, as last measured for a "
            "write; the maximum over all workers.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._rows_waiting = Gauge(
            "promcompat_storage_rows_waiting",
            "Rows accepted but not yet committed.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._rollup_cache_bytes = Gauge(
            "promcompat_storage_rollup_cache_bytes",
            "Bytes of memory that rollups take that were read lately.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def update(self, totals: Mapping[str, float]) -> None:
        """Publish totals that only grow, and what the others are now."""
        self._totals.follow(totals)
        self._rollup_cache_bytes.set(totals.get("rollup_cache_bytes", 0.0))
        self._rows_waiting.set(totals.get("rows_waiting", 0.0))
        self._undrained_bytes.set(totals.get("undrained_bytes", 0.0))


_HEAD_COUNTERS = {
    "syncs": "Times the head asked the database what had arrived.",
    "sync_seconds": "Time spent on that, decoding included.",
    "arrivals": "Arrivals read by the head.",
    "merges": "Merges of segments of the head.",
    "evictions": "Segments given up because the head was full; queries read their samples from the "
    "database.",
    "resets": "Times the head was dropped because the database was restarted or restored.",
    "unreadable": "Arrivals whose samples the head could not decode.",
    "cache_hits": "Reads of drained samples that were still in memory.",
    "cache_misses": "Reads of drained samples that had to ask the database.",
}
_HEAD_GAUGES: Final[Mapping[str, tuple[str, Literal["livesum", "livemax"]]]] = {
    "segments": ("Segments of samples in the head.", "livesum"),
    "samples": ("Samples in the head.", "livesum"),
    "bytes_held": ("Bytes of memory that the samples in the head take.", "livesum"),
    "cache_bytes": ("Bytes of memory that drained samples take that were read lately.", "livesum"),
    "lag_arrivals": ("Arrivals that the last sync brought.", "livemax"),
    "lag_seconds": ("Time since the last sync; the maximum over all workers.", "livemax"),
}
_DRAIN_COUNTERS = {
    "drains": "Transactions that moved arrivals into runs or rows.",
    "arrivals_drained": "Arrivals moved into runs or rows.",
    "samples_drained": "Samples of these arrivals.",
    "conflicts_resolved": "Samples dropped because another value arrived for the same time.",
    "arrivals_set_aside": "Arrivals that could not be moved; queries still read them.",
    "arrivals_moved_later": "Arrivals that were set aside and have been moved since.",
    "drain_seconds": "Time spent in drains.",
    "merges": "Merges of runs and blocks.",
    "merges_given_up": "Tenants and days that cannot be merged; queries still read them.",
    "rollup_steps": "Transactions that computed rollups.",
    "rollups_given_up": "Days that cannot be rolled up; queries read their samples.",
    "samples_rolled_up": "Samples that rollups were computed from.",
    "rollup_seconds": "Seconds spent on computing rollups.",
    "samples_merged": "Samples written by merges.",
    "merge_seconds": "Time spent in merges.",
    "pages_unreadable": "Queries that failed because a stored page is damaged.",
}


class SampleStoreMetrics:
    """What the store holds in memory, and what it moves from arrivals into blocks or rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._head = _Totals("promcompat_head", _HEAD_COUNTERS, registry)
        self._drains = _Totals("promcompat_blocks", _DRAIN_COUNTERS, registry)
        self._gauges = {
            name: Gauge(f"promcompat_head_{name}", text, registry=registry, multiprocess_mode=mode)
            for name, (text, mode) in _HEAD_GAUGES.items()
        }

    def update_head(self, stats: Mapping[str, float]) -> None:
        """Publish the totals of the head, and what it holds at this moment."""
        self._head.follow(stats)
        for name, gauge in self._gauges.items():
            gauge.set(stats[name])

    def update_drains(self, totals: Mapping[str, float]) -> None:
        """Publish totals of drains and merges."""
        self._drains.follow(totals)


_REMEDIATION_COUNTERS = {
    "started": "Remediation workflows started.",
    "already_started": "Starts of workflows that were already running.",
    "unavailable": "Starts that failed because Temporal could not be reached; they are retried.",
    "refused": "Starts that Temporal rejected for good; their remediations have failed.",
}


class RemediationMetrics:
    """Starts of remediation workflows, and how many remediations are open."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = _Totals("promcompat_remediation", _REMEDIATION_COUNTERS, registry)
        self._is_reachable = Gauge(
            "promcompat_remediation_temporal_reachable",
            "Whether the last call to Temporal succeeded.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._open = Gauge(
            "promcompat_remediations_open",
            "Remediations that have not ended, by state.",
            ("state",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def update(self, totals: Mapping[str, float], open_by_state: Mapping[str, int]) -> None:
        """Publish the launcher's totals, which only grow, and the counts of this moment."""
        self._totals.follow(totals)
        self._is_reachable.set(totals.get("is_reachable", 0.0))
        for state, n_remediations in open_by_state.items():
            self._open.labels(state).set(n_remediations)


_ALERTING_COUNTERS = {
    "rule_evaluations": "Evaluations of rules.",
    "rule_evaluation_failures": "Evaluations that ended in an error.",
    "rule_evaluations_missed": "Evaluations that were skipped because earlier ones took too long "
    "or no process ran.",
    "rule_evaluation_seconds": "Time spent evaluating rules.",
    "rule_file_loads": "Times that changed rule files were loaded.",
    "rule_file_failures": "Times that changed rule files were refused, so that the old rules stay.",
    "breaches_handled": "Changes of breach levels read from the outbox.",
    "notifications_sent": "Alerts that receivers accepted.",
    "notifications_failed": "Alerts that receivers did not accept; they are sent again.",
    "notifications_outdated": "Firing notifications not sent because the alert had already ended.",
    "notifications_given_up": "Notifications given up because they were too old or too many were "
    "waiting.",
    "remediations_requested": "Remediations started on the workflow service.",
    "remediations_failed": "Remediations that the workflow service did not accept.",
}


class AlertingMetrics:
    """Rules, alerts, and what waits for receivers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = _Totals("promcompat_alerting", _ALERTING_COUNTERS, registry)
        self._alerts = Gauge(
            "promcompat_alerts",
            "Open alerts by state.",
            ("state",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._depth = Gauge(
            "promcompat_alerting_outbox_rows",
            "Waiting entries, by outbox.",
            ("outbox",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def update(
        self,
        totals: Mapping[str, float],
        alerts_by_state: Mapping[str, int],
        rows_by_outbox: Mapping[str, int],
    ) -> None:
        """Publish totals, which only grow, and the counts of this moment."""
        self._totals.follow(totals)
        for state in ("pending", "firing"):
            self._alerts.labels(state).set(alerts_by_state.get(state, 0))
        for outbox, n_rows in rows_by_outbox.items():
            self._depth.labels(outbox).set(n_rows)


class LoopMetrics:
    """The loops of `promcompat.loops`, by name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.last_success = Gauge(
            "promcompat_loop_last_success_timestamp_seconds",
            "Time of the last successful run, in the worker where it was longest ago.",
            ("loop",),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.late_seconds = Gauge(
            "promcompat_loop_late_seconds",
            "How long ago the next successful run was due; the maximum over all workers.",
            ("loop",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.failures = Counter(
            "promcompat_loop_failures",
            "Runs that failed.",
            ("loop",),
            registry=registry,
        )


class Telemetry:
    """Every metric of the service."""

    def __init__(self) -> None:
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
        self.storage = StorageCounters(self.registry)
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
