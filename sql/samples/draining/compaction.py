"""Merges runs into larger runs and blocks, one bounded step a transaction; see `compaction_plan`.

A step takes the samples of some series, in the order of series and time, from every run and block
of its job: it deletes those rows, counts them, folds them, and writes the result and what comes
after the step. The order of arrivals stays the same, so no reader's answer changes.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.clock import wall_clock_ms
from sql.database.connection_pool import Connection, Pool
from sql.samples.columns.fold import Deletion, Piece, count_conflicts, fold
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.draining.compaction_plan import Extent, FillingSlots, Job, Layer, due_jobs
from sql.samples.draining.deletion_work import work_off_deletion
from sql.samples.draining.drain_transaction import CONTENT_FAULTS, PASSING_FAULTS, drain_transaction
from sql.samples.draining.drainer import DrainStats
from sql.samples.draining.page_moves import (
    StoredPage,
    Written,
    deletions_of,
    samples_of,
    take_pages,
    write_pages,
)
from sql.samples.tables.block_groups import group_of
from sql.samples.tables.block_table import (
    FINAL_LEVEL,
    QUERIES,
    Origin,
    RunRow,
    block_rows,
    run_rows,
    worth_a_block,
)
from sql.samples.tables.slots import FAR_SLOT
from sql.times import MIN_TIMESTAMP_MS, MS_PER_DAY

_LOGGER: Final = logging.getLogger(__name__)
_MAX_SAMPLES: Final = 1_000_000
"""A step takes up to 125 bytes of memory for each. Ingest wrote a tenth more into the log when
steps and drains were half as large."""
_MAX_PAGES: Final = 20_000
_TAKEOVER_SECONDS: Final = 60.0
"""Another process takes over when the last one has not compacted for this long."""


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """What one step did; `is_done`: nothing is left to do, or another process does it."""

    n_samples: int = 0
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """The pages of one step, and the series and time where it ends, exclusively."""

    pages: list[StoredPage]
    end: tuple[int, int] | None


class Compactor:
    """Compacts. Any number of processes may try; one at a time succeeds."""

    def __init__(
        self,
        pool: Pool,
        stats: DrainStats,
        now_ms: Callable[[], int] = wall_clock_ms,
        max_samples: int = _MAX_SAMPLES,
        filling: FillingSlots | None = None,
    ) -> None:
        """`now_ms` is the clock that decides which days have ended.

        `filling` notes which slots samples still come to; it is this compactor's own.
        """
        self._pool = pool
        self._stats = stats
        self._now_ms = now_ms
        self.max_samples = max_samples
        """The samples of a step, approximately."""
        self._name = uuid.uuid4().hex
        self._job: Job | None = None
        self._from_series = 0
        self._subject: tuple[int, int | None] | None = None
        self._given_up: set[tuple[int, int | None]] = set()
        self._filling = filling or FillingSlots()

    async def compact(self, *, is_patient: bool = False) -> CompactionResult:
        """Do the next step, in one transaction.

        With `is_patient`, days that have ended wait for their merge while samples come to them.
        Raises StorageUnavailableError or QueryTimeoutError, and then a later call may succeed.
        """
        self._subject = None
        try:
            return await self._step(is_patient=is_patient)
        except PASSING_FAULTS:
            self._job = None
            raise
        except CONTENT_FAULTS as exc:
            return self._give_up(exc)
        except BaseException:
            self._job = None
            raise

    def leaves_deletions_of(self, tenant_id: int) -> bool:
        """Whether what is stored keeps the deletions of a tenant from being worked off."""
        return (tenant_id, None) in self._given_up

    def _give_up(self, exc: Exception) -> CompactionResult:
        """Leave a tenant's slot as it is until this process ends, so that others are compacted.

        Readers that need a page that cannot be decoded will fail; all else stays readable.
        """
        self._job = None
        if self._subject is None:
            raise exc
        tenant_id, slot = self._subject
        self._given_up.add(self._subject)
        self._stats.merges_given_up += 1
        fields = {"tenant_id": tenant_id, "slot": slot, "reason": str(exc)}
        _LOGGER.error("samples cannot be compacted", extra=fields)
        return CompactionResult()

    async def _step(self, *, is_patient: bool) -> CompactionResult:
        started = time.perf_counter()
        async with drain_transaction(self._pool) as connection:
            if connection is None or not await self._may_compact(connection):
                return CompactionResult(is_done=True)
            job = self._job or await self._begin_job(connection, is_patient=is_patient)
            if job is None:
                return await self._work_off_deletion(connection)
            self._subject = job.tenant_id, job.slot
            if job is not self._job and await _makes_partition(connection, job):
                self._job = job
                return CompactionResult()
            result, end = await self._merge(connection, job)
        if end is None and job.is_final:
            # Only once it is stored: a merge that failed is due again at once.
            self._filling.forget(job.tenant_id, job.slot)
        self._job = job if end is not None else None
        self._from_series = 0 if end is None else end[0]
        self._stats.merges += 1
        self._stats.samples_merged += result.n_samples
        self._stats.merge_seconds += time.perf_counter() - started
        return result

    async def _work_off_deletion(self, connection: Connection) -> CompactionResult:
        given_up = [tenant_id for tenant_id, slot in self._given_up if slot is None]
        deletion = await connection.fetchrow(QUERIES["oldest_deletion"], given_up)
        if deletion is None:
            return CompactionResult(is_done=True)
        self._subject = deletion["tenant_id"], None
        return CompactionResult(await work_off_deletion(connection, deletion, self.max_samples))

    async def _may_compact(self, connection: Connection) -> bool:
        """Whether no other process compacts; forgets its own job if one has done so meanwhile."""
        row = await connection.fetchrow(QUERIES["compactor"], self._name, _TAKEOVER_SECONDS)
        if row is None or row["is_new"]:
            self._job = None
        return row is not None

    async def count_due(self, connection: Connection) -> int:
        """How many merges are due."""
        return sum(1 for _ in await self._due_jobs(connection, is_patient=False))

    async def _due_jobs(self, connection: Connection, *, is_patient: bool) -> Iterator[Job]:
        layers = [Layer(*row) for row in await connection.fetch(QUERIES["run_layers"])]
        extents = [Extent(*row) for row in await connection.fetch(QUERIES["extents"])]
        filling = self._filling.see(layers, extents)
        # A merge gives samples the place of the last arrival that it takes. Later ones of the same
        # series may be in the slot that they are to be moved to, and would come before them there.
        left = {tuple(row) for row in await connection.fetch(QUERIES["slots_being_left"])}
        skipped = self._given_up | left
        return due_jobs(
            [one for one in layers if (one.tenant_id, one.slot) not in skipped],
            [one for one in extents if (one.tenant_id, one.slot) not in skipped],
            dict(await connection.fetch(QUERIES["tenants_with_arrivals_aside"])),
            self._now_ms(),
            filling if is_patient else (),
        )

    async def _begin_job(self, connection: Connection, *, is_patient: bool) -> Job | None:
        job = next(await self._due_jobs(connection, is_patient=is_patient), None)
        self._from_series = 0
        if job is None or not job.is_final:
            return job
        level = await connection.fetchval(QUERIES["begin_final_merge"], job.tenant_id, job.slot)
        through = await connection.fetchval(QUERIES["drained_through"])
        return replace(job, max_level=level - 1, through=through)

    async def _merge(
        self, connection: Connection, job: Job
    ) -> tuple[CompactionResult, tuple[int, int] | None]:
        """One step of a job, and where it ended; None at the end of the job."""
        step = await self._next_step(connection, job)
        pieces = await take_pages(connection, step.pages)
        deletions = await deletions_of(connection, job.tenant_id)
        through = await connection.fetchval(QUERIES["drained_through"])
        near_days = await connection.fetchval(QUERIES["block_days"])
        merge = _Merge(job, step, deletions, through, near_days)
        written = await asyncio.to_thread(merge.run, pieces)
        await write_pages(connection, step.pages, written)
        self._stats.conflicts_resolved += written.n_conflicts
        n_samples = sum(page.n_samples for page in step.pages)
        return CompactionResult(n_samples), step.end

    async def _next_step(self, connection: Connection, job: Job) -> _Step:
        group = (job.tenant_id, job.slot, job.max_level, job.through, _MAX_PAGES)
        runs = await connection.fetch(QUERIES["job_runs"], *group, job.after)
        blocks = []
        if job.is_final:
            first = group_of(self._from_series)
            blocks = await connection.fetch(QUERIES["job_blocks"], *group, first)
        pages = [
            *(StoredPage.of(row, is_block=False) for row in runs),
            *(StoredPage.of(row, is_block=True) for row in blocks),
        ]
        pages.sort(key=lambda page: page.key)
        # All that is known of the rows beyond the limit is that they come later.
        ends = [
            (rows[-1]["first_series"], rows[-1]["first_ms"])
            for rows in (runs, blocks)
            if len(rows) == _MAX_PAGES
        ]
        return bounded_step(pages, min(ends, default=None), self.max_samples)


async def _makes_partition(connection: Connection, job: Job) -> bool:
    """Whether the job's slot had no partition: a process stopped after it noted the slot."""
    made: bool = await connection.fetchval(QUERIES["create_block_partition"], job.slot)
    return made


def bounded_step(
    pages: Sequence[StoredPage], end: tuple[int, int] | None, max_samples: int
) -> _Step:
    """The first pages with about so many samples, and the key up to which they are taken.

    A step ends between two groups of series if it can, else between two series, or even between
    two times of one series. `pages` are sorted by key and complete before `end`.
    """
    n_samples = 0
    for page in pages:
        if end is not None and page.key >= end:
            break
        if n_samples and n_samples + page.weight > max_samples and page.key > pages[0].key:
            end = page.key
            break
        n_samples += page.weight
    if end is not None and pages and end[0] > pages[0].first_series:
        begin = group_of(end[0])
        end = (begin if begin > pages[0].first_series else end[0], MIN_TIMESTAMP_MS)
    return _Step([page for page in pages if end is None or page.key < end], end)


@dataclass(frozen=True, slots=True)
class _Merge:
    """The folding of a step, without the database."""

    job: Job
    step: _Step
    deletions: list[Deletion]
    deleted_through: int
    near_days: list[int]

    def run(self, taken: Sequence[tuple[StoredPage, bytes]]) -> Written:
        """The runs and blocks that replace the pages taken."""
        written = Written()
        pieces = []
        for (page, _), samples in zip(taken, samples_of(taken), strict=True):
            inside, beyond = self._cut(samples)
            origin = page.origin
            if self.job.slot == FAR_SLOT:
                inside, carried = self._without_near_days(inside)
                # Above the levels of the job, or its next step would take them again.
                level = max(FINAL_LEVEL, self.job.out_level)
                written.runs += run_rows(replace(origin, level=level), carried)
            if len(inside):
                first, last = origin.first_arrival, origin.last_arrival
                pieces.append(Piece(inside, first, last, origin.replaces))
            if page.is_block:
                # Apart, the key of a block is that of its first sample, like that of a run. With
                # the key of its group, the next step could end before that sample again.
                written.blocks += block_rows(origin, beyond, is_apart=True)
            else:
                written.runs += self._runs_beyond(origin, beyond)
        for replaces in (False, True):
            chosen = [piece for piece in pieces if piece.replaces is replaces]
            if chosen:
                self._fold(chosen, written, replaces=replaces)
        return written

    def _runs_beyond(self, origin: Origin, beyond: SeriesSamples) -> list[RunRow]:
        """What a run has beyond the end of the step.

        If that is within a series, the series gets pages of its own. Their first time is then that
        of its first sample; with one of another series, the next step could end before it again.
        """
        end = self.step.end
        if end is None or not len(beyond) or beyond.ids[0] != end[0]:
            return run_rows(origin, beyond)
        is_same = np.arange(len(beyond)) < beyond.offsets[1]
        return [
            *run_rows(origin, beyond.where(is_same)),
            *run_rows(origin, beyond.where(~is_same)),
        ]

    def _without_near_days(self, samples: SeriesSamples) -> tuple[SeriesSamples, SeriesSamples]:
        """Samples of far days, and of days that have become near since these were drained.

        The latter arrived before everything near of their day, and must not be merged with what
        arrived later.
        """
        if not len(samples):
            return samples, samples
        is_near = np.isin(samples.timestamps // MS_PER_DAY, self.near_days)
        return samples.where(~is_near), samples.where(is_near)

    def _cut(self, samples: SeriesSamples) -> tuple[SeriesSamples, SeriesSamples]:
        """The samples before the end of the step, and those beyond it."""
        end = self.step.end
        if end is None or int(samples.ids[-1]) < end[0]:
            return samples, NO_SAMPLES
        ids = np.repeat(samples.ids, np.diff(samples.offsets))
        is_inside = (ids < end[0]) | ((ids == end[0]) & (samples.timestamps < end[1]))
        return samples.where(is_inside), samples.where(~is_inside)

    def _fold(self, pieces: Sequence[Piece], written: Written, *, replaces: bool) -> None:
        samples = fold(pieces, self.deletions)
        written.n_conflicts += 0 if replaces else count_conflicts(pieces, samples)
        job = self.job
        first_arrival = min(piece.first_arrival for piece in pieces)
        origin = Origin(
            job.tenant_id,
            job.slot,
            job.out_level,
            replaces,
            first_arrival,
            job.through,
            self.deleted_through,
        )
        if job.makes_blocks and len(samples):
            is_large = worth_a_block(samples)
            level = job.out_level if job.is_final else 0
            written.blocks += block_rows(replace(origin, level=level), samples.where(is_large))
            samples = samples.where(~is_large)
        written.runs += run_rows(origin, samples)
