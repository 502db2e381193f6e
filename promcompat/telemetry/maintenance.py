"""The metrics of background work: the loops, and the steps of maintenance."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from promcompat.core.maintenance import StepReport

_MAINTENANCE_STEPS: Final = (
    *("drain", "set aside", "merge", "rollup", "retention classes", "retain", "retain far days"),
    *("retain rollups", "delete expired", "hours", "empty chunks", "orphans", "partitions ahead"),
    *("exemplars", "starts", "metadata"),
)
"""Each has a counter from the beginning, so that the first failure is an increase."""


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


class MaintenanceMetrics:
    """What maintenance did, and what it could not do."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._failures = Counter(
            "promcompat_maintenance_failures",
            "Failures of maintenance, by the step (task); they are retried.",
            ("task",),
            registry=registry,
        )
        for task in _MAINTENANCE_STEPS:
            self._failures.labels(task)
        self._last_run = Gauge(
            "promcompat_maintenance_step_last_run_timestamp_seconds",
            "When a step of maintenance last ended, by step.",
            ("step",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        text = "How long steps of maintenance took, by step."
        name = "promcompat_maintenance_step_seconds"
        self._seconds = Counter(name, text, ("step",), registry=registry)
        text = "What steps of maintenance did, by step and by what is counted."
        name = "promcompat_maintenance_step_amount"
        self._amount = Counter(name, text, ("step", "unit"), registry=registry)
        self._samples_deleted = Counter(
            "promcompat_maintenance_samples_deleted",
            "Samples deleted because their metric's definition has a shorter retention.",
            registry=registry,
        )
        self._chunks_dropped = Counter(
            "promcompat_maintenance_chunks_dropped",
            "Chunks or partitions dropped because they were too old or empty.",
            registry=registry,
        )
        self._hours_computed = Counter(
            "promcompat_maintenance_hours_computed",
            "Hours computed for metrics_hourly.",
            registry=registry,
        )
        self._series_removed = Counter(
            "promcompat_maintenance_series_removed",
            "Series removed because they had no samples left.",
            registry=registry,
        )

    def add(
        self,
        *,
        samples_deleted: int,
        chunks_dropped: int,
        hours_computed: int,
        series_removed: int,
        failed_tasks: Iterable[str],
    ) -> None:
        """Count one run."""
        self._samples_deleted.inc(samples_deleted)
        self._chunks_dropped.inc(chunks_dropped)
        self._hours_computed.inc(hours_computed)
        self._series_removed.inc(series_removed)
        for task in failed_tasks:
            self._failures.labels(task).inc()

    def add_steps(self, steps: Iterable[StepReport]) -> None:
        """Count the steps of one run, which has just ended."""
        for step in steps:
            self._last_run.labels(step.name).set_to_current_time()
            self._seconds.labels(step.name).inc(step.seconds)
            self._amount.labels(step.name, step.unit).inc(step.amount)
