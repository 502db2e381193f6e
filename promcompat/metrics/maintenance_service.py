"""Maintains the database: retention, empty chunks, and the hours of `metrics_hourly`.

Every step is a transaction of its own. A step that fails is reported, and the others still run.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from promcompat.core.errors import ConnectionLostError, PromcompatError
from promcompat.core.maintenance import RetainedMetric, SampleChunk
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, SeriesSelection
from promcompat.core.ports import MaintenanceRepository, MaintenanceSteps, Store

StepResult = TypeVar("StepResult")

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS
_HOURS_PER_STEP: Final = 6


@dataclass(frozen=True, slots=True)
class MaintenanceFailure:
    """A step that failed: its task, its subject and the reason."""

    task: str
    subject: str
    reason: str


@dataclass(slots=True)
class MaintenanceReport:
    """The results of one run.

    `deleted`: the number of samples deleted of each metric with a shorter retention than the
    service's. `ignored`: metrics with a longer one. `is_skipped`: another process was doing
    maintenance, so this run did nothing.
    """

    deleted: list[tuple[RetainedMetric, int]] = field(default_factory=list)
    n_chunks_dropped: int = 0
    n_hours_computed: int = 0
    n_series_removed: int = 0
    ignored: list[RetainedMetric] = field(default_factory=list)
    failures: list[MaintenanceFailure] = field(default_factory=list)
    is_skipped: bool = False

    @property
    def n_deleted(self) -> int:
        """The number of samples deleted one by one, without those of dropped chunks."""
        return sum(count for _, count in self.deleted)


class MaintenanceService:
    """Runs maintenance in one process at a time."""

    def __init__(
        self,
        repository: MaintenanceRepository,
        store: Store,
        retention_days: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Samples are kept for `retention_days` (0: forever)."""
        self._repository = repository
        self._store = store
        self._retention_days = retention_days
        self._now_ms = now_ms
        self._is_first_run = True

    async def run_once(self) -> MaintenanceReport:
        """Do everything that is due. Raises StorageUnavailableError when the database fails."""
        async with self._repository.lock() as steps:
            if steps is None:
                return MaintenanceReport(is_skipped=True)
            run = _Run(steps, self._store, self._retention_days, self._now_ms())
            await run.do_everything(looks_for_orphans=self._is_first_run)
            self._is_first_run = False
            return run.report


class _Run:
    """One run of maintenance."""

    def __init__(
        self, steps: MaintenanceSteps, store: Store, retention_days: int, now_ms: int
    ) -> None:
        self.report = MaintenanceReport()
        self._steps = steps
        self._store = store
        self._retention_days = retention_days
        self._now_ms = now_ms
        self._keep_from_ms = now_ms - retention_days * _DAY_MS if retention_days else None

    async def do_everything(self, *, looks_for_orphans: bool) -> None:
        """Apply retention first, so that no hour is computed from samples that expire.

        A series is orphaned only when samples were deleted. Other processes may have deleted some,
        so `looks_for_orphans` forces the search.
        """
        await self._drop_expired_chunks()
        await self._delete_expired_samples()
        if await self._attempt("metrics_hourly", "policies", self._fit_edition()):
            await self._compute_hours()
        await self._drop_empty_chunks()
        if looks_for_orphans or self.report.n_chunks_dropped or self.report.n_deleted:
            await self._remove_orphan_series()

    async def _drop_expired_chunks(self) -> None:
        if self._keep_from_ms is None:
            return
        dropping = self._steps.drop_days_before(self._keep_from_ms)
        self.report.n_chunks_dropped += await self._attempt("retention", "days", dropping) or 0
        for chunk in await self._attempt("retention", "chunks", self._steps.chunks()) or ():
            if chunk.end_ms <= self._keep_from_ms:
                await self._drop(chunk, only_empty=False)

    async def _drop_empty_chunks(self) -> None:
        """Drop empty chunks, but not those of the last day, which writes are about to fill."""
        before_ms = self._now_ms - _DAY_MS
        found = self._steps.empty_chunks(before_ms)
        for chunk in await self._attempt("empty chunks", "chunks", found) or ():
            await self._drop(chunk, only_empty=True)

    async def _drop(self, chunk: SampleChunk, *, only_empty: bool) -> None:
        dropping = self._steps.drop_chunk(chunk, only_empty=only_empty)
        task = "empty chunks" if only_empty else "retention"
        if await self._attempt(task, f"chunk {chunk.name}", dropping):
            self.report.n_chunks_dropped += 1

    async def _delete_expired_samples(self) -> None:
        """Delete samples of metrics with a shorter retention than the service's."""
        metrics = await self._attempt("retention", "metrics", self._steps.retained_metrics())
        chunks = await self._attempt("retention", "chunks", self._steps.chunks())
        for metric in metrics or ():
            if self._retention_days and metric.retention_days > self._retention_days:
                self.report.ignored.append(metric)
            elif metric.retention_days != self._retention_days:
                await self._delete_expired(metric, chunks or ())

    async def _delete_expired(self, metric: RetainedMetric, chunks: Sequence[SampleChunk]) -> None:
        """Delete up to a full hour, so that `metrics_hourly` never shows a part of one."""
        before_ms = _hour_of(self._now_ms - metric.retention_days * _DAY_MS)
        subject = f"metric {metric.name} of tenant {metric.tenant}"
        n_deleted = 0
        for chunk in chunks:
            if chunk.start_ms < before_ms:
                end_ms = min(chunk.end_ms, before_ms)
                expired = _samples_between(metric, chunk.start_ms, end_ms)
                deleting = self._store.delete(metric.tenant, expired)
                n_deleted += await self._attempt("retention", subject, deleting) or 0
        if n_deleted:
            self.report.deleted.append((metric, n_deleted))

    async def _remove_orphan_series(self) -> None:
        """Remove series that have no samples left."""
        last_id = 0
        while page := await self._attempt("series", "orphans", self._steps.orphan_series(last_id)):
            last_id = page.last_id
            removing = self._steps.remove_series(page.ids)
            count = await self._attempt("series", f"orphans up to {last_id}", removing)
            self.report.n_series_removed += count or 0

    async def _fit_edition(self) -> bool:
        await self._steps.fit_edition()
        return True

    async def _compute_hours(self) -> None:
        chunks = await self._attempt("metrics_hourly", "chunks", self._steps.chunks())
        if chunks is not None:
            first_ms = self._first_kept_ms(chunks)
            await self._compute_stale_hours(first_ms)
            await self._compute_new_hours(first_ms, chunks)

    def _first_kept_ms(self, chunks: Sequence[SampleChunk]) -> int | None:
        """The time from which all samples are kept: the start of the oldest chunk that is kept.

        Earlier hours are not computed again, since their samples are partly deleted. None without
        retention.
        """
        keep_from_ms = self._keep_from_ms
        if keep_from_ms is None:
            return None
        kept = [chunk.start_ms for chunk in chunks if chunk.end_ms > keep_from_ms]
        return _hour_of(min([keep_from_ms, *kept]))

    async def _compute_stale_hours(self, first_ms: int | None) -> None:
        collecting = self._steps.collect_stale_hours(first_ms)
        for stale in await self._attempt("metrics_hourly", "late samples", collecting) or ():
            subject = f"hours {stale.hours[0]} to {stale.hours[-1]} of tenant {stale.tenant_id}"
            computing = self._counted(self._steps.compute_again(stale), len(stale.hours))
            await self._attempt("metrics_hourly", subject, computing)

    async def _compute_new_hours(self, first_ms: int | None, chunks: Sequence[SampleChunk]) -> None:
        """Compute the hours that ended an hour ago, chunk by chunk; readers compute later ones.

        Stops at the first hour that fails: readers compute everything after the last computed hour
        from samples, so there must be no gap.
        """
        end_ms = _hour_of(self._now_ms - _HOUR_MS)
        known_ms = await self._attempt("metrics_hourly", "progress", self._known_ms(first_ms))
        if known_ms is None:
            return
        for chunk in chunks:
            chunk_end_ms = min(_hour_after(chunk.end_ms), end_ms)
            start_ms = max(known_ms, _hour_of(chunk.start_ms))
            if not await self._compute_between(start_ms, chunk_end_ms):
                return
        if known_ms < end_ms:
            ending = self._steps.hours_are_computed(end_ms)
            await self._attempt("metrics_hourly", "progress", ending)

    async def _known_ms(self, first_ms: int | None) -> int:
        """The first hour to compute."""
        known_ms = await self._steps.hours_computed_before()
        return max(-(1 << 62) if bound is None else bound for bound in (known_ms, first_ms))

    async def _compute_between(self, start_ms: int, end_ms: int) -> bool:
        """Compute the hours of a time, one by one when several take too long; whether all are."""
        n_hours = _HOURS_PER_STEP
        while start_ms < end_ms:
            stop_ms = min(start_ms + n_hours * _HOUR_MS, end_ms)
            count = (stop_ms - start_ms) // _HOUR_MS
            computing = self._counted(self._steps.compute_hours(start_ms, stop_ms), count)
            if await self._attempt("metrics_hourly", f"hours from {start_ms} ms", computing):
                start_ms = stop_ms
            elif n_hours == 1:
                return False
            else:
                n_hours = 1
        return True

    async def _counted(self, computing: Awaitable[None], n_hours: int) -> bool:
        await computing
        self.report.n_hours_computed += n_hours
        return True

    async def _attempt(
        self, task: str, subject: str, step: Awaitable[StepResult]
    ) -> StepResult | None:
        """The result of a step; None after a failure, which is reported.

        A lost connection ends the run, since no other step could succeed on it.
        """
        try:
            return await step
        except ConnectionLostError:
            raise
        except PromcompatError as exc:
            self.report.failures.append(MaintenanceFailure(task, subject, str(exc)))
            return None


def _samples_between(metric: RetainedMetric, start_ms: int, end_ms: int) -> SeriesSelection:
    """The samples of a metric in `[start_ms, end_ms)`."""
    named = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, metric.name)
    return SeriesSelection(matchers=(named,), start_ms=start_ms - 1, end_ms=end_ms - 1)


def _hour_of(unix_ms: int) -> int:
    """The start of the hour of a time."""
    return unix_ms // _HOUR_MS * _HOUR_MS


def _hour_after(unix_ms: int) -> int:
    """The first whole hour that is not before a time."""
    return -(-unix_ms // _HOUR_MS) * _HOUR_MS
