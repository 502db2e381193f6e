"""Computes rollups from the folded samples of days that have ended, one bounded step a transaction.

A step takes some series of some days of a tenant. What is marked comes first: days that were rolled
up before their samples changed. How far a day is rolled up is in the table `rollup_day`, so after a
crash the next step goes on where the last one was committed.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

import numpy as np

from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import ExecutionError
from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.columns.fold import fold
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.drain_transaction import CONTENT_FAULTS, PASSING_FAULTS, drain_transaction
from sql.samples.draining.drainer import Drainer, DrainStats
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.block_reader import BlockReader
from sql.samples.reading.drained_reader import DrainedQuestion
from sql.samples.reading.kept_times import Retentions
from sql.samples.reading.newest import MAX_HISTOGRAM_BYTES
from sql.samples.rollups.outlived import Deleted, Outlived, counted
from sql.samples.rollups.rollup_pages import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    LEVELS,
    PAYLOADS,
    Column,
    Columns,
    HourRow,
    Level,
    RollupRow,
    decoded,
    hours_of,
    rolled_up,
    rollup_rows,
)
from sql.samples.tables.rollup_marks import QUERIES
from sql.samples.tables.slots import first_whole_days
from sql.times import MS_PER_DAY, MS_PER_HOUR

_LOGGER: Final = logging.getLogger(__name__)
_GRACE_MS: Final = MS_PER_HOUR
"""How long after its end a day is rolled up: nearly all of its samples have arrived by then."""
_STEP_SAMPLES: Final = 2_000_000
_MOST_SAMPLES: Final = 8_000_000
"""A step with more samples is given up, and repeated with fewer series."""
_FIRST_SERIES: Final = 64
_MOST_SERIES: Final = 10_000
_DELETED_AT_ONCE: Final = 1_000
"""Rows of rollups. With each row of 5 minutes, up to 24 rows of hours are deleted."""
_HOURS_AT_ONCE: Final = 20_000
_EVERYTHING: Final = (1 << 63) - 1
_HOURS_PER_DAY: Final = 24
_HOUR_SECONDS: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class _Job:
    """Some series of adjacent days of a tenant, and how far these are rolled up then."""

    tenant_id: int
    days: Sequence[int]
    ids: Sequence[int]
    is_marked: bool
    rolled_through: int

    @property
    def bounds_ms(self) -> tuple[int, int]:
        """The times from the first to the last day, `(start_ms, end_ms]`."""
        return self.days[0] * MS_PER_DAY - 1, (self.days[-1] + 1) * MS_PER_DAY - 1


@dataclass(frozen=True, slots=True)
class _Result:
    """The rows that a step writes, by level, and the hours; `outlived` says what stays."""

    rows: Sequence[tuple[Level, Sequence[RollupRow]]]
    hours: Sequence[HourRow]
    outlived: Outlived


class Rollups:
    """Rolls up. Any number of processes may try; one step at a time is done."""

    def __init__(
        self,
        pool: Pool,
        drainer: Drainer,
        stats: DrainStats,
        now_ms: Callable[[], int] = wall_clock_ms,
        step_samples: int = _STEP_SAMPLES,
        retentions: Retentions | None = None,
    ) -> None:
        """`now_ms` is the clock that decides which days have ended.

        `retentions` are given where rollups are kept longer than their samples.
        """
        self._pool = pool
        self._drainer = drainer
        self._now_ms = now_ms
        self._step_samples = step_samples
        self._retentions = retentions
        self.n_series = _FIRST_SERIES
        """Series of the next step: fewer after one with many samples, more after one with few."""
        self._deletes_at = 0.0
        self._given_up: set[tuple[int, int]] = set()
        self._subject: _Job | None = None
        self._reader = BlockReader(stats)
        self._stats = stats

    async def run(self, step_limit: int) -> bool:
        """Do up to so many steps, each in a transaction of its own.

        Returns whether nothing is left to do now, or another process does it. Raises
        StorageUnavailableError or QueryTimeoutError; what was done until then stays done.
        """
        await self._drain_ended_days()
        for _ in range(step_limit):
            if await self.step() is None and not await self._delete_left_rows():
                return True
        return False

    async def count_due(self) -> int:
        """How many days of tenants have to be rolled up now, for the first time or again."""
        async with acquired(self._pool) as connection:
            n_days: int = await connection.fetchval(QUERIES["due_days"], self._ended_day)
        return n_days

    async def step(self) -> int | None:
        """Do the next step; returns how many samples it rolled up, None if there was none to do."""
        started = time.perf_counter()
        self._subject = None
        try:
            n_samples = await self._step()
        except PASSING_FAULTS:
            raise
        except ExecutionError:
            # Too many samples: fewer series may do.
            if self.n_series == 1:
                return self._give_up("a series has too many samples in a day")
            self.n_series = max(1, self.n_series // 8)
            return 0
        except CONTENT_FAULTS as exc:
            return self._give_up(str(exc))
        if n_samples is not None:
            self._stats.rollup_steps += 1
            self._stats.samples_rolled_up += n_samples
            self._stats.rollup_seconds += time.perf_counter() - started
        return n_samples

    def _give_up(self, reason: str) -> int:
        """Leave days as they are until this process ends, so that others are rolled up."""
        assert self._subject is not None
        tenant_id, days = self._subject.tenant_id, self._subject.days
        self._given_up.update((tenant_id, day) for day in days)
        self._stats.rollups_given_up += len(days)
        fields = {"tenant_id": tenant_id, "days": list(days), "reason": reason}
        _LOGGER.error("samples cannot be rolled up", extra=fields)
        return 0

    @property
    def _ended_day(self) -> int:
        """Days before it have ended."""
        return (self._now_ms() - _GRACE_MS) // MS_PER_DAY

    async def _drain_ended_days(self) -> None:
        """Drain what has arrived of days that are to be rolled up."""
        async with acquired(self._pool) as connection:
            day = await connection.fetchrow(QUERIES["open_day"], self._ended_day, [], [])
        if day is not None:
            await self._drainer.drain_all(self._ended_day * MS_PER_DAY)

    async def _step(self) -> int | None:
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                return None
            job = await self._next_job(connection)
            if job is None:
                return None
            self._subject = job
            n_samples = await self._roll_up(connection, job)
            await self._note_done(connection, job)
        self._fit_batch(job, n_samples)
        return n_samples

    async def _next_job(self, connection: Connection) -> _Job | None:
        given_up = [list(part) for part in zip(*self._given_up, strict=True)] or [[], []]
        marked = await connection.fetchrow(QUERIES["marked_day"], *given_up)
        if marked is not None:
            return await self._marked_job(connection, *marked)
        opened = await connection.fetchrow(QUERIES["open_day"], self._ended_day, *given_up)
        if opened is not None:
            return await self._opened_job(connection, *opened)
        return None

    async def _marked_job(self, connection: Connection, tenant_id: int, day: int) -> _Job:
        limit = min(_MOST_SERIES, self.n_series * HOUR.period_days)
        ids = await connection.fetchval(QUERIES["marked_series"], tenant_id, day, limit)
        through = ids[-1] if len(ids) == limit else _EVERYTHING
        return _Job(tenant_id, [day], ids, True, through)

    async def _opened_job(self, connection: Connection, tenant_id: int, day: int) -> _Job:
        """The next series of a day, and of the days after it that are as far."""
        last_day = (day // HOUR.period_days + 1) * HOUR.period_days - 1
        last_day = min(last_day, self._ended_day - 1)
        row = await connection.fetchrow(QUERIES["days_as_open_as"], tenant_id, day, last_day)
        open_days = {one for one in row["days"] if (tenant_id, one) not in self._given_up}
        days = list(takewhile(open_days.__contains__, range(day, last_day + 1)))
        limit = min(_MOST_SERIES, max(1, self.n_series * HOUR.period_days // len(days)))
        after = row["rolled_through"]
        ids = await connection.fetchval(QUERIES["series_to_roll_up"], tenant_id, after, limit)
        through = ids[-1] if len(ids) == limit else _EVERYTHING
        return _Job(tenant_id, days, ids, False, through)

    def _fit_batch(self, job: _Job, n_samples: int) -> None:
        """Choose how many series the next step takes, by the samples that this one had."""
        if job.rolled_through == _EVERYTHING:
            return
        if n_samples > self._step_samples:
            self.n_series = max(1, self.n_series // 2)
        elif n_samples < self._step_samples // 4:
            self.n_series = min(_MOST_SERIES, self.n_series * 2)

    async def _note_done(self, connection: Connection, job: _Job) -> None:
        if job.is_marked:
            scope = job.tenant_id, job.days[0], job.rolled_through
            await connection.execute(QUERIES["erase_marks"], *scope)
            await connection.execute(QUERIES["delete_left_deletions"])
        else:
            await connection.execute(
                QUERIES["advance_days"], job.tenant_id, job.days, job.rolled_through
            )

    async def _roll_up(self, connection: Connection, job: _Job) -> int:
        """Replace the rollups of a job by new ones; returns of how many samples these are."""
        if not job.ids:
            return 0
        ids, bounds = np.array(job.ids, np.int64), job.bounds_ms
        # A single series is read whole.
        max_bytes = MAX_HISTOGRAM_BYTES if self.n_series > 1 else 0
        allowance = SampleAllowance(_MOST_SAMPLES, max_histogram_bytes=max_bytes)
        # Blocks say themselves which arrivals they are of.
        question = DrainedQuestion(job.tenant_id, ids, *bounds, drained_through=0)
        stored = await self._reader.read(connection, question, allowance)
        samples = await asyncio.to_thread(fold, stored.pieces, stored.deletions)
        old = {HOUR: await self._stored(connection, HOUR, job, ids)}
        outlived = await self._outlived(connection, job, ids, samples, old[HOUR])
        if outlived.is_kept.any():
            old[FIVE_MINUTES] = await self._stored(connection, FIVE_MINUTES, job, ids)
        old[DAY] = await self._stored(connection, DAY, job, ids)
        result = await asyncio.to_thread(_computed, samples, outlived, old)
        await self._replace(connection, job, result)
        return len(samples)

    async def _outlived(
        self,
        connection: Connection,
        job: _Job,
        ids: IntArray,
        samples: SeriesSamples,
        old: Columns,
    ) -> Outlived:
        """What the job leaves as it is; `old` are the columns of hours."""
        days = np.array(job.days, np.int64)
        if self._retentions is None:
            return Outlived(ids, days, np.zeros((len(ids), len(days)), np.bool_))
        marks = await connection.fetch(QUERIES["deletion_marks"], job.tenant_id, job.days)
        self._retentions.forget()
        kept = await self._retentions.of(job.tenant_id, 0, connection)
        first_whole = first_whole_days(await kept.from_ms(ids, connection))
        # A stale marker too: it may have taken the place of a sample.
        there = {Column.COUNT: replace(samples, values=np.ones(len(samples)))}
        counts = counted(old, ids, days), counted(there, ids, days)
        return Outlived.of(counts, first_whole, ids, days, [Deleted.of(mark) for mark in marks])

    async def _stored(
        self, connection: Connection, level: Level, job: _Job, ids: IntArray
    ) -> Columns:
        """The columns of the rows that cover the days of a job, and of other days too."""
        rows = await connection.fetch(QUERIES["rollups_of"], *_scope(level, job))
        columns: dict[Column, SeriesSamples] = {}
        periods = job.days[0] // level.period_days, job.days[-1] // level.period_days
        for payload, names in PAYLOADS.items():
            payloads = [row[payload] for row in rows]
            columns.update(await asyncio.to_thread(decoded, payloads, ids, names, level, periods))
        return columns

    async def _replace(self, connection: Connection, job: _Job, result: _Result) -> None:
        for level, rows in result.rows:
            await connection.execute(QUERIES["delete_rollups"], *_scope(level, job))
            if rows:
                payloads = zip(*(row.payloads for row in rows), strict=True)
                await connection.execute(
                    QUERIES["insert_rollups"],
                    level.bucket_seconds,
                    job.tenant_id,
                    [row.series_id for row in rows],
                    [row.period for row in rows],
                    *payloads,
                )
        for number, day in enumerate(job.days):
            hours = day * _HOURS_PER_DAY, (day + 1) * _HOURS_PER_DAY
            ids = result.outlived.ids[~result.outlived.is_kept[:, number]]
            await connection.execute(QUERIES["delete_hours"], ids.tolist(), *hours)
        left = [column.tolist() for column in result.outlived.left_hours()]
        if left[0]:
            await connection.execute(QUERIES["delete_hours_of_series"], *left)
        if result.hours:
            columns = zip(*result.hours, strict=True)
            await connection.execute(QUERIES["insert_hours"], job.tenant_id, *columns)
        await connection.execute(QUERIES["renew_version"], job.tenant_id)

    async def _delete_left_rows(self) -> bool:
        """Delete some rows of days that were forgotten, if there are any (`forget_rolled_days`).

        Returns whether there may be more. Once there are none, the next look is in an hour.
        """
        if time.monotonic() < self._deletes_at:
            return False
        async with drain_transaction(self._pool) as connection:
            if connection is None:
                return False
            for level in LEVELS:
                scope = level.bucket_seconds, _DELETED_AT_ONCE, level.period_days
                if await connection.fetchval(QUERIES["delete_left_rollups"], *scope):
                    return True
            if await connection.fetchval(QUERIES["delete_left_hours"], _HOURS_AT_ONCE):
                return True
        self._deletes_at = time.monotonic() + _HOUR_SECONDS
        return False


def _scope(level: Level, job: _Job) -> tuple[int, Sequence[int], int, int]:
    """The parameters of statements that find the rows of a job."""
    first, last = job.days[0] // level.period_days, job.days[-1] // level.period_days
    return level.bucket_seconds, job.ids, first, last


def _computed(samples: SeriesSamples, outlived: Outlived, old: Mapping[Level, Columns]) -> _Result:
    """What a step writes: its days from the samples, other days of the same rows as they were."""
    rows = []
    for level in LEVELS:
        columns = outlived.merged(old.get(level, {}), rolled_up(samples, level), level)
        rows.append((level, rollup_rows(columns, level)))
    hours = hours_of(samples.where(~outlived.covers(samples)) if len(samples) else samples)
    return _Result(rows, hours, outlived)
