"""Everything a serving process does again and again, in one list, and what runs it.

Several processes may work on one database. Locks in it see to it that only one at a time does
maintenance, evaluates a group of rules, or notifies.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from promcompat.access.access import Access
from promcompat.composition.listeners import Listeners
from promcompat.composition.services import Backend
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.remediation import OPEN_STATES
from promcompat.core.cancellation import is_cancelled
from promcompat.core.errors import PromcompatError
from promcompat.http.tls import ServerTls
from promcompat.services import Receivers, Services
from promcompat.telemetry.maintenance import LoopMetrics
from promcompat.telemetry.telemetry import Telemetry
from sql.database.metric_views import refresh_metric_views

_LOGGER = logging.getLogger(__name__)
_HOUR_SECONDS = 3600.0
_PUBLISH_SECONDS = 5.0
_MAX_PAUSE_SECONDS = 5.0
"""Between failures: alerts must not be late because the database was away for long."""
_WATCH_SECONDS = 1.0
_REPORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PeriodicLoop:
    """What is done, and the pause between the end of one run and the beginning of the next.

    A run should have succeeded `late_after_seconds` after it was due; otherwise the loop is
    reported as late, whether its runs fail or do not end.
    """

    name: str
    pause_seconds: float
    run: Callable[[], Awaitable[object]]
    late_after_seconds: float = 60.0


def every_loop(
    settings: Settings,
    telemetry: Telemetry,
    backend: Backend,
    give_back_memory: Callable[[], Awaitable[object]],
) -> list[PeriodicLoop]:
    """Every loop of a serving process: its name, its pause in seconds, and what it runs."""
    services, storage = backend.services, backend.storage
    loops = [
        PeriodicLoop("heartbeat", 5.0, storage.database.heartbeat.beat),
        PeriodicLoop("free memory", 5.0, give_back_memory),
        PeriodicLoop("maintenance", _HOUR_SECONDS, services.maintenance.run_once, _HOUR_SECONDS),
        PeriodicLoop(
            "metric views", 60.0, partial(refresh_metric_views, storage.database), _HOUR_SECONDS
        ),
        PeriodicLoop(
            "storage metrics", _PUBLISH_SECONDS, partial(_publish_storage, telemetry, backend)
        ),
        PeriodicLoop(
            "remediation metrics",
            _PUBLISH_SECONDS,
            partial(_publish_remediations, telemetry, backend),
        ),
    ]
    if settings.access == "tokens":
        loops += access_loops(services.access)
    drains = storage.metrics.drains
    loops += [
        PeriodicLoop("limits", 1.0, partial(_refresh_limits, telemetry, services)),
        PeriodicLoop("head", 0.5, storage.metrics.head.catch_up),
        PeriodicLoop("drain", 0.5, drains.drainer.drain_due),
        PeriodicLoop("corrections", 2.0, services.corrections.run_due),
    ]
    if drains.compactor is not None:
        loops.append(
            PeriodicLoop("compaction", 5.0, partial(drains.compact, is_patient=True), _HOUR_SECONDS)
        )
    if services.dashboard_folder.is_wanted:
        loops.append(PeriodicLoop("dashboard files", 5.0, services.dashboard_folder.refresh))
    if services.scraping.is_wanted:
        loops.append(PeriodicLoop("scraping", 1.0, services.scraping.run_once))
    if not settings.alerting:
        return loops
    return [
        *loops,
        PeriodicLoop("thresholds", 2.0, storage.metrics.threshold_watch.refresh),
        PeriodicLoop("rules", 0.5, services.rule_evaluator.start_due),
        PeriodicLoop("rule files", 5.0, services.rule_files.refresh),
        PeriodicLoop("removed rules", 5.0, services.rule_evaluator.end_removed),
        PeriodicLoop("breaches", 0.5, services.thresholds.dispatch_breaches),
        PeriodicLoop("levels", 3.0, services.thresholds.verify),
        PeriodicLoop("remediations", 0.5, services.remediation_starts.start_due),
        PeriodicLoop(
            "alert metrics", _PUBLISH_SECONDS, partial(_publish_alerts, telemetry, backend)
        ),
        PeriodicLoop("alert retention", 300.0, partial(_prune_alerts, settings, backend)),
        *receiver_loops(services.receivers),
    ]


def access_loops(access: Access) -> Iterator[PeriodicLoop]:
    """The loops that keep fresh what credentials are checked with."""
    yield PeriodicLoop("tokens", 1.0, access.table.refresh)
    yield PeriodicLoop("token uses", 60.0, access.uses.write)
    if access.refresh_issuer is not None:
        yield PeriodicLoop("issuer keys", 10.0, access.refresh_issuer)


def listener_loops(settings: Settings, listeners: Listeners) -> Iterator[PeriodicLoop]:
    """The loops that store what the listeners have received."""
    if listeners.graphite is not None:
        yield PeriodicLoop("graphite", 1.0, listeners.graphite.flush)
    if listeners.statsd is not None:
        yield PeriodicLoop("statsd lines", 0.25, listeners.statsd.aggregate)
        yield PeriodicLoop("statsd", settings.statsd_flush_interval / 1000, listeners.statsd.flush)


def certificate_loops(tls: ServerTls | None) -> Iterator[PeriodicLoop]:
    """The loop that looks for a new certificate, also while the old one is still good."""
    if tls is not None:
        yield PeriodicLoop("certificate", 2.0, partial(asyncio.to_thread, tls.refresh))


def receiver_loops(receivers: Receivers) -> Iterator[PeriodicLoop]:
    """The loops of each receiver, so that none waits for another."""
    for alertmanager in receivers.alertmanagers:
        deliver = partial(receivers.states.deliver, alertmanager)
        yield PeriodicLoop(f"notify {alertmanager.name}", 0.5, deliver)
    for webhook in receivers.webhooks:
        yield PeriodicLoop(f"notify {webhook.name}", 0.5, partial(receivers.steps.deliver, webhook))
        yield PeriodicLoop(f"bound {webhook.name}", 10.0, partial(receivers.steps.bound, webhook))


async def _refresh_limits(telemetry: Telemetry, services: Services) -> None:
    limits = services.limits
    await limits.refresh()
    telemetry.limits.show(limits.all_overrides(), file_is_good=not limits.file_fault)


async def _publish_storage(telemetry: Telemetry, backend: Backend) -> None:
    metrics = backend.storage.metrics
    telemetry.storage.update(dataclasses.asdict(metrics.stats))
    totals = dataclasses.asdict(metrics.head.stats)
    cache = dataclasses.asdict(metrics.drained_cache)
    totals |= {f"cache_{name}": value for name, value in cache.items()}
    telemetry.sample_store.update_head(totals | {"lag_seconds": metrics.head.lag_seconds})
    telemetry.sample_store.update_drains(dataclasses.asdict(metrics.drains.stats))


async def _publish_remediations(telemetry: Telemetry, backend: Backend) -> None:
    n_open = await backend.storage.remediations.count_open()
    by_state = {state.value: n_open.get(state, 0) for state in OPEN_STATES}
    telemetry.remediation.update(dataclasses.asdict(backend.services.launcher_stats), by_state)


async def _publish_alerts(telemetry: Telemetry, backend: Backend) -> None:
    states, depths = await backend.storage.alerts.counts()
    telemetry.alerting.update(dataclasses.asdict(backend.services.alerting_stats), states, depths)


async def _prune_alerts(settings: Settings, backend: Backend) -> None:
    now_ms = backend.services.metrics.now_ms()
    before_ms = now_ms - settings.alert_retention
    await backend.storage.alerts.prune(before_ms, backend.services.receivers.names, now_ms)


class _Progress:
    """When a loop last succeeded."""

    def __init__(self, loop: PeriodicLoop, metrics: LoopMetrics) -> None:
        self.loop = loop
        self._metrics = metrics
        self._due_at = time.monotonic() + loop.pause_seconds
        self._reported_at: float | None = None

    def succeeded(self) -> None:
        """Note that a run succeeded."""
        self._due_at = time.monotonic() + self.loop.pause_seconds
        self._metrics.last_success.labels(self.loop.name).set_to_current_time()

    def failed(self) -> None:
        """Count a run that failed."""
        self._metrics.failures.labels(self.loop.name).inc()

    def check(self) -> None:
        """Publish how late the loop is, and log it once a minute while it is too late."""
        now = time.monotonic()
        late_seconds = max(0.0, now - self._due_at)
        self._metrics.late_seconds.labels(self.loop.name).set(late_seconds)
        if late_seconds <= self.loop.late_after_seconds:
            if self._reported_at is not None:
                _LOGGER.info("loop is on time again", extra={"loop": self.loop.name})
            self._reported_at = None
        elif self._reported_at is None or now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            fields = {"loop": self.loop.name, "late_seconds": round(late_seconds)}
            _LOGGER.warning("loop is late", extra=fields)


async def _run_periodically(progress: _Progress) -> None:
    """Run a loop until cancelled. A failure is logged; pauses are longer until a run succeeds."""
    loop, n_failures = progress.loop, 0
    while True:
        try:
            await loop.run()
        except PromcompatError as exc:
            n_failures += 1
            if n_failures == 1:
                _LOGGER.warning("loop failed", extra={"loop": loop.name, "reason": str(exc)})
        except Exception:
            # The boundary of a loop: a run that fails must not prevent later ones.
            n_failures += 1
            _LOGGER.exception("loop failed", extra={"loop": loop.name})
        else:
            n_failures = 0
            progress.succeeded()
        if is_cancelled():
            return
        if n_failures:
            progress.failed()
        longer = min(loop.pause_seconds * 2 ** min(n_failures, 8), _MAX_PAUSE_SECONDS)
        await asyncio.sleep(max(loop.pause_seconds, longer))


async def _watch(watched: Sequence[_Progress]) -> None:
    """Look at all loops again and again, until cancelled."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        for progress in watched:
            progress.check()


@asynccontextmanager
async def running(loops: Sequence[PeriodicLoop], metrics: LoopMetrics) -> AsyncIterator[None]:
    """Run the loops, and one that watches them, as long as the block lasts."""
    watched = [_Progress(loop, metrics) for loop in loops]
    tasks = [
        asyncio.create_task(_run_periodically(progress), name=progress.loop.name)
        for progress in watched
    ]
    tasks.append(asyncio.create_task(_watch(watched), name="watch loops"))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
