"""The steps of maintenance of the store `rows`, in their order; see `MaintenanceStep`.

Each is made of transactions of its own, and may be stopped at any moment: the next run goes on with
what is left.
"""

import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.maintenance import MaintenanceTask, StepNotes
from promcompat.core.ports import MaintenanceStep
from sql.database.connection_pool import Pool, acquired
from sql.samples.draining.drains import Drains
from sql.samples.draining.row_retention import RowRetention
from sql.samples.stores.row_chunks import RowChunks, SampleChunk
from sql.samples.stores.store_steps import AsideStep, OrphanStep, SeriesRemoval
from sql.samples.tables.retention_classes import FOREVER
from sql.times import MS_PER_DAY, MS_PER_HOUR

_LOGGER: Final = logging.getLogger(__name__)
_HOURS_PER_STEP: Final = 6


@dataclass(frozen=True, slots=True)
class RowDrainStep(MaintenanceStep):
    """Moves what has arrived into rows, before chunks go and hours are computed."""

    pool: Pool
    drains: Drains
    name: str = "drain"
    unit: str = "samples"

    async def plan(self) -> int:
        """How many samples wait for a drain."""
        async with acquired(self.pool) as connection:
            return await self.drains.count_undrained(connection)

    async def run(self, notes: StepNotes) -> int:
        """Drain; returns how many samples."""
        return await self.drains.drainer.drain_all()


@dataclass(frozen=True, slots=True)
class ChunkStep(MaintenanceStep):
    """Drops the chunks whose samples no metric keeps any longer."""

    chunks: RowChunks
    retention: RowRetention
    name: str = "retain"
    unit: str = "chunks"

    async def plan(self) -> int:
        """How many chunks are due."""
        return len(await self._expired())

    async def run(self, notes: StepNotes) -> int:
        """Drop them one by one; returns how many."""
        return await _drop(self.chunks, await self._expired(), notes, only_empty=False)

    async def _expired(self) -> list[SampleChunk]:
        days = await self.retention.longest_days()
        if days == FOREVER:
            return []
        keep_from_ms = self.retention.now_ms - days * MS_PER_DAY
        return [chunk for chunk in await self.chunks.all() if chunk.end_ms <= keep_from_ms]


@dataclass(frozen=True, slots=True)
class ExpiredRowStep(MaintenanceStep):
    """Deletes the rows of metrics that are kept for a shorter time than the chunks."""

    retention: RowRetention
    name: str = "delete expired"
    unit: str = "samples"

    async def plan(self) -> int:
        """How many rows are due."""
        return sum([await self.retention.count(expired) for expired in await self.retention.due()])

    async def run(self, notes: StepNotes) -> int:
        """Delete them, metric by metric; returns how many."""
        n_deleted = 0
        for expired in await self.retention.due():
            deleting = self.retention.delete(expired)
            n_rows = await notes.attempt(expired.subject, deleting) or 0
            if n_rows:
                fields = {"subject": expired.subject, "samples": n_rows}
                _LOGGER.info("deleted samples that are no longer kept", extra=fields)
            n_deleted += n_rows
        return n_deleted


@dataclass(frozen=True, slots=True)
class EmptyChunkStep(MaintenanceStep):
    """Drops empty chunks, but not those of the last day, which writes are about to fill."""

    chunks: RowChunks
    task: MaintenanceTask
    name: str = "empty chunks"
    unit: str = "chunks"

    async def plan(self) -> int:
        """How many chunks are empty."""
        return len(await self.chunks.empty(self.task.now_ms - MS_PER_DAY))

    async def run(self, notes: StepNotes) -> int:
        """Drop them one by one; returns how many."""
        empty = await self.chunks.empty(self.task.now_ms - MS_PER_DAY)
        return await _drop(self.chunks, empty, notes, only_empty=True)


async def _drop(
    chunks: RowChunks, dropped: Sequence[SampleChunk], notes: StepNotes, *, only_empty: bool
) -> int:
    """Drop chunks one by one; returns how many."""
    n_dropped = 0
    for chunk in dropped:
        dropping = chunks.drop(chunk, only_empty=only_empty)
        n_dropped += await notes.attempt(f"chunk {chunk.name}", dropping) or 0
    return n_dropped


@dataclass(frozen=True, slots=True)
class HourStep(MaintenanceStep):
    """Computes the hours of `metrics_hourly`, first of all those whose samples have changed."""

    chunks: RowChunks
    task: MaintenanceTask
    name: str = "hours"
    unit: str = "hours"

    async def plan(self) -> int:
        """How many hours are computed for the first time."""
        chunks = await self.chunks.all()
        known_ms = await self._known_ms(self._first_kept_ms(chunks))
        end_ms = _hour_of(self.task.now_ms - MS_PER_HOUR)
        spans = (
            min(_hour_after(chunk.end_ms), end_ms) - max(known_ms, _hour_of(chunk.start_ms))
            for chunk in chunks
        )
        return sum(max(0, span) // MS_PER_HOUR for span in spans)

    async def run(self, notes: StepNotes) -> int:
        """Compute; returns how many hours."""
        await self.chunks.fit_edition()
        chunks = await self.chunks.all()
        first_ms = self._first_kept_ms(chunks)
        n_again = await self._compute_stale(first_ms, notes)
        return n_again + await self._compute_new(first_ms, chunks, notes)

    def _first_kept_ms(self, chunks: Sequence[SampleChunk]) -> int | None:
        """The time from which the service keeps all samples: the start of the oldest such chunk.

        Earlier hours are not computed again, since their samples are partly deleted. None without
        retention.
        """
        task = self.task
        if task.retention_days == FOREVER:
            return None
        keep_from_ms = task.now_ms - task.retention_days * MS_PER_DAY
        kept = [chunk.start_ms for chunk in chunks if chunk.end_ms > keep_from_ms]
        return _hour_of(min([keep_from_ms, *kept]))

    async def _compute_stale(self, first_ms: int | None, notes: StepNotes) -> int:
        n_hours, collecting = 0, self.chunks.collect_stale_hours(first_ms)
        for stale in await notes.attempt("late samples", collecting) or ():
            subject = f"hours {stale.hours[0]} to {stale.hours[-1]} of tenant {stale.tenant_id}"
            if await notes.attempt(subject, _is_done(self.chunks.compute_again(stale))):
                n_hours += len(stale.hours)
        return n_hours

    async def _compute_new(
        self, first_ms: int | None, chunks: Sequence[SampleChunk], notes: StepNotes
    ) -> int:
        """Compute the hours that ended an hour ago, chunk by chunk; readers compute later ones.

        Stops at the first hour that fails: readers compute everything after the last computed hour
        from samples, so there must be no gap.
        """
        end_ms = _hour_of(self.task.now_ms - MS_PER_HOUR)
        known_ms, n_computed = await self._known_ms(first_ms), 0
        for chunk in chunks:
            start_ms = max(known_ms, _hour_of(chunk.start_ms))
            chunk_end_ms = min(_hour_after(chunk.end_ms), end_ms)
            n_hours, is_whole = await self._compute_between(start_ms, chunk_end_ms, notes)
            n_computed += n_hours
            if not is_whole:
                return n_computed
        if known_ms != end_ms:
            # Also back, after a step of the clock: readers compute the hours of now.
            await self.chunks.hours_are_computed(end_ms)
        return n_computed

    async def _known_ms(self, first_ms: int | None) -> int:
        """The first hour to compute."""
        known_ms = await self.chunks.hours_computed_before()
        return max(-(1 << 62) if bound is None else bound for bound in (known_ms, first_ms))

    async def _compute_between(
        self, start_ms: int, end_ms: int, notes: StepNotes
    ) -> tuple[int, bool]:
        """Compute the hours of a time, one by one when several take too long.

        Returns how many are computed, and whether all are.
        """
        n_hours, n_computed = _HOURS_PER_STEP, 0
        while start_ms < end_ms:
            stop_ms = min(start_ms + n_hours * MS_PER_HOUR, end_ms)
            computing = _is_done(self.chunks.compute_hours(start_ms, stop_ms))
            if await notes.attempt(f"hours from {start_ms} ms", computing):
                n_computed += (stop_ms - start_ms) // MS_PER_HOUR
                start_ms = stop_ms
            elif n_hours == 1:
                return n_computed, False
            else:
                n_hours = 1
        return n_computed, True


async def _is_done(work: Awaitable[None]) -> bool:
    """True when the work is done."""
    await work
    return True


def _hour_of(unix_ms: int) -> int:
    """The start of the hour of a time."""
    return unix_ms // MS_PER_HOUR * MS_PER_HOUR


def _hour_after(unix_ms: int) -> int:
    """The first whole hour that is not before a time."""
    return -(-unix_ms // MS_PER_HOUR) * MS_PER_HOUR


def row_steps(
    pool: Pool, drains: Drains, removal: SeriesRemoval, task: MaintenanceTask
) -> Sequence[MaintenanceStep]:
    """Every step. `pool` is for writing."""
    return (RowDrainStep(pool, drains), AsideStep(pool, drains), *chunk_steps(removal, task))


def chunk_steps(removal: SeriesRemoval, task: MaintenanceTask) -> Sequence[MaintenanceStep]:
    """The steps that work on rows, after arrivals were moved into them.

    Retention comes first, so that no hour is computed from samples that expire.
    """
    chunks = RowChunks(removal.connection)
    retention = RowRetention(removal.connection, task.retention_days, task.now_ms)
    return (
        ChunkStep(chunks, retention),
        ExpiredRowStep(retention),
        HourStep(chunks, task),
        EmptyChunkStep(chunks, task),
        OrphanStep(removal, is_forced=task.is_first),
    )
