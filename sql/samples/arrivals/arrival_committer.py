"""One commit of the block store: rows of any order and age become pages, and are appended at once.

Duplicates, for which docs/architecture.md gives the reasons:
* A row whose series and time already have the same sample is dropped; the fold would drop it
  anyway.
* Another one is a conflict if the sample is still in the head, or in the same commit. Elsewhere
  they are appended, and the fold decides: the first to arrive counts.
* Rows of a metric that keeps the last sample are appended as replacements.
* Rows timed by the server get a free millisecond of their series. Their append is refused if
  something may have taken it in the meantime.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np

from promcompat.core.alerting.thresholds import LevelChange
from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import QueryTimeoutError, StorageUnavailableError
from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.model import BoolArray, IntArray
from promcompat.core.offloading import in_thread_if
from sql.caching.series_column import SeriesColumn
from sql.database.copy_format import SampleRows
from sql.samples.arrivals.arrival_log import (
    AppendConditions,
    ArrivalKind,
    ArrivalLog,
    DefinitionsChangedError,
    NewArrival,
    OvertakenError,
    pages_of,
)
from sql.samples.codec.page_encoding import MAX_PAGE_SAMPLES
from sql.samples.columns.histogram_pools import HistogramPools, raise_numbers
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.group_commit import Committer
from sql.samples.writing.server_timestamps import move_past_taken
from sql.samples.writing.sorted_rows import Conflict, SortedRows, as_series, of_tenants

_MAX_ATTEMPTS: Final = 4
_MAX_MOVES: Final = 20
"""How often rows timed by the server may be refused because of samples that just arrived."""
_LOOKED_AHEAD_MS: Final = 60_000
"""How far from its time a free millisecond is searched in one step."""
_HEAD_SECONDS: Final = 1.0
_HEAD_PAUSE_SECONDS: Final = 5.0
"""How long a commit waits for the head, and for how long others do not ask it afterwards."""
_INLINE_ROWS: Final = 2 * MAX_PAGE_SAMPLES
"""Up to so many rows are sorted and encoded on the event loop, in 1.3 ms. With a thread, a commit
waits twice for the interpreter, which takes longer."""
_MAX_NEWEST: Final = 4_000_000
_NEVER_SEEN: Final = (1 << 63) - 1
_NONE: Final = np.empty(0, np.int64)


class EarlierSamples(Protocol):
    """What a commit asks about samples that arrived before it."""

    async def bits_in_head(
        self, tenant_id: int, series_ids: IntArray, timestamps: IntArray
    ) -> tuple[BoolArray, HistogramCells]:
        """The samples that the head has of these keys, sorted by series and time.

        Everything that was acknowledged before the call is taken into account.
        """
        ...

    async def times_between(
        self, wanted: Sequence[tuple[int, IntArray]], start_ms: int, end_ms: int
    ) -> tuple[int, list[SeriesSamples]]:
        """The samples of each tenant's series (ascending ids) from one time to another, inclusive.

        All are of one snapshot; the number is that of the last arrival in it.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of sorted rows: whether the last sample of each counts, and what the head has."""

    keeps_last: BoolArray
    is_stored: BoolArray
    stored: HistogramCells

    @property
    def is_any(self) -> bool:
        """Whether anything but the first row of each key is to be stored."""
        return bool(self.keeps_last.any() or self.is_stored.any())


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Sorted rows, the first one of each key by tenant, and the pages of these.

    Nearly always these are what is stored, so that one call in a thread sorts and encodes.
    """

    ordered: SortedRows
    keys: list[tuple[int, SeriesSamples]]
    arrivals: list[NewArrival]

    @classmethod
    def of(cls, rows: SampleRows) -> "_Prepared":
        ordered = SortedRows.of(rows)
        keys = _by_tenant(ordered.first_of_keys())
        return cls(ordered, keys, _pages(keys, ArrivalKind.SAMPLES))


class ArrivalCommitter(Committer):
    """Appends rows so that they are committed when `commit` returns."""

    def __init__(
        self, log: ArrivalLog, policies: DuplicatePolicies, stored: EarlierSamples
    ) -> None:
        self._log = log
        self._policies = policies
        self._stored = stored
        self._newest = SeriesColumn(_MAX_NEWEST)
        self._asks_again_at = 0.0

    async def commit(self, rows: SampleRows, changes: Sequence[LevelChange] = ()) -> list[Conflict]:
        """Store rows of any order and age; returns those whose place held other bits.

        Each of `changes` goes into the outbox in the transaction of its row. Rows timed by the
        server never conflict. They go last, so that a retry after a failure of the others does not
        store them twice.
        Raises StorageUnavailableError, and StaleKnowledgeError when the ids may be gone.
        """
        if rows.server_timed is None or not rows.server_timed.any():
            return await self._commit_sent(rows, changes)
        conflicts: list[Conflict] = []
        at = np.flatnonzero(~rows.server_timed)
        if len(at):
            found = await self._commit_sent(rows.take(at), _changes_of(at, changes))
            conflicts = [Conflict(int(at[c.row]), c.existing) for c in found]
        at = np.flatnonzero(rows.server_timed)
        await self._commit_server_timed(rows.take(at), _changes_of(at, changes))
        return conflicts

    async def _commit_sent(
        self, rows: SampleRows, changes: Sequence[LevelChange]
    ) -> list[Conflict]:
        prepared = await in_thread_if(len(rows) >= _INLINE_ROWS, _Prepared.of, rows)
        ordered = prepared.ordered
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            conditions = await self._conditions(prepared.keys, rows.known_version)
            found = await self._look_up(prepared.keys)
            arrivals = prepared.arrivals
            if found.is_any:
                arrivals = await in_thread_if(len(rows) >= _INLINE_ROWS, _arrivals, ordered, found)
            try:
                await self._log.append(arrivals, conditions, changes)
            except DefinitionsChangedError:
                self._policies.forget([*conditions.definitions])
                if attempt == _MAX_ATTEMPTS:
                    raise
            else:
                bits, histograms = found.stored.values.view(np.uint64), found.stored.histograms
                return ordered.conflicts(found.keeps_last, found.is_stored, bits, histograms)
        raise AssertionError("unreachable")

    async def _conditions(
        self,
        samples: Sequence[tuple[int, SeriesSamples]],
        version: int,
        read_through: int | None = None,
    ) -> AppendConditions:
        """What appending samples of these tenants relies on."""
        definitions = await self._policies.versions([tenant for tenant, _ in samples])
        return AppendConditions(version=version, definitions=definitions, read_through=read_through)

    async def _look_up(self, keys: Sequence[tuple[int, SeriesSamples]]) -> _Keys:
        """What counts for each key; the head is asked only about keys that it may have.

        A process that has seen only older times of a series stores its sample at once. So one that
        another process has just stored may be missed; then the fold decides.
        """
        n_keys = sum(len(own) for _, own in keys)
        keeps_last, is_stored = np.zeros((2, n_keys), np.bool_)
        stored, pools, first = np.zeros(n_keys), HistogramPools(), 0
        for tenant, own in keys:
            part = slice(first, first := first + len(own))
            lengths = np.diff(own.offsets)
            if self._policies.may_keep_last(tenant):
                last = await self._policies.keeps_last(tenant, own.ids)
                keeps_last[part] = False if last is None else np.repeat(last, lengths)
            asked = self._note_times(own)
            asked = asked[~keeps_last[part][asked]]
            if len(asked):
                is_stored[part][asked], cells = await self._bits_in_head(
                    tenant, np.repeat(own.ids, lengths)[asked], own.timestamps[asked]
                )
                raise_numbers(cells.values, pools.add(cells.histograms))
                stored[part][asked] = cells.values
        return _Keys(keeps_last, is_stored, HistogramCells(stored, pools.settled(stored)))

    async def _bits_in_head(
        self, tenant: int, series_ids: IntArray, timestamps: IntArray
    ) -> tuple[BoolArray, HistogramCells]:
        """What the head has of these keys, or nothing while it does not answer soon.

        It may have to read a large backlog first, after a start; writes do not wait for that.
        """
        if time.monotonic() >= self._asks_again_at:
            try:
                async with asyncio.timeout(_HEAD_SECONDS):
                    return await self._stored.bits_in_head(tenant, series_ids, timestamps)
            except (TimeoutError, StorageUnavailableError, QueryTimeoutError):
                self._asks_again_at = time.monotonic() + _HEAD_PAUSE_SECONDS
        return np.zeros(len(series_ids), np.bool_), HistogramCells(np.zeros(len(series_ids)), None)

    def _note_times(self, keys: SeriesSamples) -> IntArray:
        """The places of samples that are not newer than all that this process saw of their series.

        Their times count as seen from now on, whatever becomes of the commit.
        """
        times, offsets = keys.timestamps, keys.offsets
        newest = self._newest.raise_to(keys.ids, times[offsets[1:] - 1], _NEVER_SEEN)
        # Nearly always all are newer, which the first one of each series tells.
        if (times[offsets[:-1]] > newest).all():
            return _NONE
        return np.flatnonzero(times <= np.repeat(newest, np.diff(offsets)))

    async def _commit_server_timed(self, rows: SampleRows, changes: Sequence[LevelChange]) -> None:
        """Store rows, each at the next free millisecond of its series.

        The milliseconds are chosen from what was read of the series; the append is refused if one
        of them may have been taken since, and then they are chosen again.
        """
        ordered = SortedRows.of(rows)
        place = np.argsort(ordered.order)
        moved = ordered.rows
        wanted = [(tenant, distinct(own.series_ids)) for tenant, own in of_tenants(moved)]
        for _ in range(_MAX_MOVES):
            times = moved.timestamps
            start_ms, end_ms = int(times.min()), int(times.max()) + _LOOKED_AHEAD_MS
            read_through, taken = await self._stored.times_between(wanted, start_ms, end_ms)
            moved = move_past_taken(moved, taken)
            if moved.timestamps.max() > end_ms:
                continue
            final = [
                replace(change, timestamp_ms=int(moved.timestamps[place[change.row]]))
                for change in changes
            ]
            if await self._append_timed(moved, read_through, final):
                return
        raise StorageUnavailableError("too many concurrent samples of the same series; try again")

    async def _append_timed(
        self, rows: SampleRows, read_through: int, changes: Sequence[LevelChange]
    ) -> bool:
        """Append rows whose times are free; returns False if they may no longer be."""
        samples = _by_tenant(rows)
        conditions = await self._conditions(samples, rows.known_version, read_through)
        try:
            await self._log.append(_pages(samples, ArrivalKind.SAMPLES), conditions, changes)
        except (OvertakenError, DefinitionsChangedError) as exc:
            if isinstance(exc, DefinitionsChangedError):
                self._policies.forget([*conditions.definitions])
            return False
        for _, own in samples:
            self._note_times(own)
        return True


def _arrivals(ordered: SortedRows, keys: _Keys) -> list[NewArrival]:
    """The pages of the rows that are to be stored."""
    rows = ordered.kept(keys.keeps_last, keys.is_stored)
    if not keys.keeps_last.any():
        return _pages(_by_tenant(rows), ArrivalKind.SAMPLES)
    keeps_last = keys.keeps_last[keys.keeps_last | ~keys.is_stored]
    return [
        *_pages(_by_tenant(rows.take(np.flatnonzero(~keeps_last))), ArrivalKind.SAMPLES),
        *_pages(_by_tenant(rows.take(np.flatnonzero(keeps_last))), ArrivalKind.REPLACEMENTS),
    ]


def _by_tenant(rows: SampleRows) -> list[tuple[int, SeriesSamples]]:
    """The samples of each tenant; the rows are sorted by key, and none has the key of another."""
    return [(tenant, as_series(own)) for tenant, own in of_tenants(rows)]


def _pages(samples: Sequence[tuple[int, SeriesSamples]], kind: ArrivalKind) -> list[NewArrival]:
    return [page for tenant, own in samples for page in pages_of(tenant, own, kind)]


def _changes_of(rows: IntArray, changes: Sequence[LevelChange]) -> list[LevelChange]:
    """The changes of rows that are taken from others, numbered by their place among them."""
    at = np.searchsorted(rows, [change.row for change in changes])
    return [
        replace(change, row=int(index))
        for change, index in zip(changes, at, strict=True)
        if index < len(rows) and rows[index] == change.row
    ]
