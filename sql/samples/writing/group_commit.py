"""Group commit: concurrent writes share one commit, each waits for its own rows."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Protocol

import numpy as np

from promcompat.core.alerting.thresholds import LevelChange
from promcompat.core.errors import (
    PromcompatError,
    QueryTimeoutError,
    StaleKnowledgeError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.texts.strconv import format_g
from sql.database.copy_format import SampleRows
from sql.database.storage_stats import StorageStats
from sql.samples.writing.sorted_rows import Conflict
from sql.samples.writing.write_queue import Write, WriteQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCommitOptions:
    """How writes are grouped.

    A write with nobody committing starts at once. Others collect until `max_rows` wait, or
    `delay_seconds` pass, or a running commit ends; at most `max_parallel` commits run.
    """

    max_rows: int = 100_000
    delay_seconds: float = 0.003
    max_parallel: int = 2


class Committer(Protocol):
    """Stores the rows of a group."""

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange] = ()) -> list[Conflict]:
        """Store rows and level changes; returns the rows whose place held other bits."""
        ...


_CLOSE_SECONDS: Final = 10.0
"""How long a commit may take while everything ends: nobody waits for its answer any more."""
_SHUTTING_DOWN: Final = "the service is shutting down; try again"


class GroupCommit:
    """The queue of writes in front of the committer."""

    def __init__(
        self, committer: Committer, options: GroupCommitOptions, stats: StorageStats
    ) -> None:
        self._committer = committer
        self._options = options
        self._stats = stats
        self._waiting = WriteQueue(options.max_rows)
        self._commits: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._is_closed = False

    async def write(
        self, rows: SampleRows, changes: Sequence[LevelChange] = (), weight: int = 1
    ) -> None:
        """Store rows and the level changes they cause; returns after all are committed.

        `weight` is that of the tenant. Raises WriteRejectedError for rows whose place held other
        bits (all others are stored) and StorageUnavailableError when nothing is known to be stored.
        """
        if self._is_closed:
            raise StorageUnavailableError(_SHUTTING_DOWN)
        write = Write(rows, changes, asyncio.get_running_loop().create_future(), weight)
        self._waiting.put(write)
        self._schedule()
        conflicts = await write.done
        if conflicts:
            self._stats.rows_rejected += len(conflicts)
            raise WriteRejectedError(
                duplicate_message(rows, conflicts),
                tuple(sorted(conflict.row for conflict in conflicts)),
            )

    async def close(self) -> None:
        """Refuse new writes, and wait until all waiting ones are answered.

        Those that the database does not answer soon are given up.
        """
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                while self._waiting or self._commits:
                    self._start_commit()
                    await asyncio.gather(*self._commits, return_exceptions=True)
        while self._waiting:
            _fail(self._waiting.take_group(), StorageUnavailableError(_SHUTTING_DOWN))
        for task in self._commits:
            task.cancel()
        await asyncio.gather(*self._commits, return_exceptions=True)

    def _schedule(self) -> None:
        """Start a commit now, or schedule one.

        `call_soon` lets the other writes that are ready in this turn of the loop join the first.
        """
        if not self._waiting or len(self._commits) >= self._options.max_parallel:
            return
        loop = asyncio.get_running_loop()
        is_due = not self._commits or self._waiting.n_rows >= self._options.max_rows
        if is_due:
            self._cancel_timer()
            self._timer = loop.call_soon(self._start_commit)
        elif self._timer is None:
            self._timer = loop.call_later(self._options.delay_seconds, self._start_commit)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_commit(self) -> None:
        self._cancel_timer()
        group = self._waiting.take_group()
        if group:
            task = asyncio.get_running_loop().create_task(self._commit(group))
            self._commits.add(task)
            task.add_done_callback(self._commit_ended)
        self._schedule()

    def _commit_ended(self, task: asyncio.Task[None]) -> None:
        self._commits.discard(task)
        self._schedule()

    async def _commit(self, group: list[Write]) -> None:
        """Commit a group; if it fails for a reason other than the database, each write separately.

        What is wrong with one caller's rows must not fail the others. However this ends, every
        caller is answered.
        """
        try:
            await self._commit_together(group)
        except StaleKnowledgeError as exc:
            # Those that looked up their ids first have stale ones; the others may not.
            oldest = min(write.rows.known_version for write in group)
            _fail([write for write in group if write.rows.known_version == oldest], exc)
            others = [write for write in group if write.rows.known_version > oldest]
            if others:
                await self._commit(others)
        except QueryTimeoutError:
            _fail(group, StorageUnavailableError("the database did not finish the write in time"))
        except StorageUnavailableError as exc:
            _fail(group, StorageUnavailableError(str(exc)))
        except PromcompatError as exc:
            if len(group) == 1:
                _fail(group, exc)
                return
            for write in group:
                await self._commit([write])
        finally:
            _fail(group, StorageUnavailableError("the commit was interrupted; try again"))

    async def _commit_together(self, group: list[Write]) -> None:
        group = _by_series(group)
        rows = SampleRows.concatenate([write.rows for write in group])
        changes = _join_changes(group)
        started = time.perf_counter()
        try:
            conflicts = await self._committer.commit(rows, changes)
        except PromcompatError:
            self._stats.failed_commits += 1
            raise
        self._stats.commits += 1
        self._stats.commit_seconds += time.perf_counter() - started
        self._stats.rows_committed += len(rows) - len(conflicts)
        _answer(group, conflicts)


def _by_series(group: list[Write]) -> list[Write]:
    """The writes by tenant and series, so that their rows need not be sorted.

    Where two of them may have a sample of one series, they stay as they came: the first counts.
    """
    if len(group) < 2 or not all(len(write.rows) for write in group):
        return group
    spans = [
        (write.tenant_id, int(write.rows.series_ids.min()), int(write.rows.series_ids.max()), at)
        for at, write in enumerate(group)
    ]
    spans.sort()
    for (tenant_id, _, last, _), (next_tenant_id, first, _, _) in pairwise(spans):
        if tenant_id == next_tenant_id and first <= last:
            return group
    return [group[at] for *_, at in spans]


def _join_changes(group: list[Write]) -> list[LevelChange]:
    """The changes of all writes, their rows numbered as in the joined rows."""
    changes: list[LevelChange] = []
    first_row = 0
    for write in group:
        if write.changes:
            changes += [replace(change, row=change.row + first_row) for change in write.changes]
        first_row += len(write.rows)
    return changes


def _answer(group: list[Write], conflicts: list[Conflict]) -> None:
    """Give each caller the conflicts of its own rows, numbered as it gave them."""
    if not conflicts:
        for write in group:
            if not write.done.done():
                write.done.set_result([])
        return
    ends = np.cumsum([len(write.rows) for write in group])
    owned: list[list[Conflict]] = [[] for _ in group]
    for conflict in conflicts:
        owner = int(np.searchsorted(ends, conflict.row, side="right"))
        start = int(ends[owner]) - len(group[owner].rows)
        owned[owner].append(Conflict(conflict.row - start, conflict.existing))
    for write, own in zip(group, owned, strict=True):
        if not write.done.done():
            write.done.set_result(own)


def _fail(group: list[Write], exc: PromcompatError) -> None:
    for write in group:
        if not write.done.done():
            write.done.set_exception(exc)


def duplicate_message(rows: SampleRows, conflicts: list[Conflict]) -> str:
    """What Prometheus answers for the first row that would override a stored one."""
    first = min(conflicts, key=lambda conflict: conflict.row)
    new_value = rows.bits[first.row : first.row + 1].view(np.float64)
    if rows.histograms is not None and is_histogram(new_value)[0]:
        return "duplicate sample for timestamp"
    existing = "is a histogram" if first.existing is None else format_g(first.existing)
    return (
        f"duplicate sample for timestamp {int(rows.timestamps[first.row])}; overrides not allowed: "
        f"existing {existing}, new value {format_g(float(new_value[0]))}"
    )
