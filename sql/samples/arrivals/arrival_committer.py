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
)
from sql.samples.codec.page_encoding import encode_pages
from sql.samples.columns.histogram_pools import HistogramPools, raise_numbers
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.server_timestamps import move_past_taken
from sql.samples.writing.sorted_rows import Conflict, SortedRows, as_series, of_tenants

_MAX_PAGE_SAMPLES: Final = 8_192
_MAX_PAGE_BYTES: Final = 64 * 1024
_MAX_ATTEMPTS: Final = 4
_MAX_MOVES: Final = 20
"""How often rows timed by the server may be refused because of samples that just arrived."""
_LOOKED_AHEAD_MS: Final = 60_000
"""How far from its time a free millisecond is searched in one step."""
_HEAD_SECONDS: Final = 1.0
_HEAD_PAUSE_SECONDS: Final = 5.0
"""How long a commit waits for the head, and for how long others do not ask it afterwards."""
_INLINE_ROWS: Final = _MAX_PAGE_SAMPLES
"""Up to so many rows are sorted and encoded on the event loop, in a millisecond. With a thread, a
commit waits twice for the interpreter, which takes longer."""
_MAX_NEWEST: Final = 4_000_000
_NEVER_SEEN: Final = (1 << 63) - 1


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
    """Sorted rows, the first one of each key, and the pages of these.

    Nearly always these are what is stored, so that one call in a thread sorts and encodes.
    """

    ordered: SortedRows
    keys: SampleRows
    arrivals: list[NewArrival]

    @classmethod
    def of(cls, rows: SampleRows) -> "_Prepared":
        ordered = SortedRows.of(rows)
        keys = ordered.first_of_keys()
        return cls(ordered, keys, _pages(keys, ArrivalKind.SAMPLES))


class ArrivalCommitter:
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
        ordered, keys = prepared.ordered, prepared.keys
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            conditions = await self._conditions(keys)
            found = await self._look_up(keys)
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
        self, rows: SampleRows, read_through: int | None = None
    ) -> AppendConditions:
        """What appending these rows, sorted by tenant, relies on."""
        tenants = [tenant for tenant, _ in of_tenants(rows)]
        definitions = await self._policies.versions(tenants)
        return AppendConditions(
            version=rows.known_version, definitions=definitions, read_through=read_through
        )

    async def _look_up(self, keys: SampleRows) -> _Keys:
        """What counts for each key; the head is asked only about keys that it may have.

        A process that has seen only older times of a series stores its sample at once. So one that
        another process has just stored may be missed; then the fold decides.
        """
        keeps_last, is_stored = np.zeros((2, len(keys)), np.bool_)
        stored, pools, first = np.zeros(len(keys)), HistogramPools(), 0
        for tenant, own in of_tenants(keys):
            part = slice(first, first := first + len(own))
            last = await self._keep_last(tenant, own)
            if last is not None:
                keeps_last[part] = last
            asked = np.flatnonzero(self._note_times(own) & ~keeps_last[part])
            if len(asked):
                is_stored[part][asked], cells = await self._bits_in_head(
                    tenant, own.series_ids[asked], own.timestamps[asked]
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

    async def _keep_last(self, tenant: int, keys: SampleRows) -> BoolArray | None:
        if not self._policies.may_keep_last(tenant):
            return None
        series_ids, of_rows = np.unique(keys.series_ids, return_inverse=True)
        last = await self._policies.keeps_last(tenant, series_ids)
        return None if last is None else last[of_rows]

    def _note_times(self, keys: SampleRows) -> BoolArray:
        """Which keys are not newer than all that this process has seen of their series.

        Their times count as seen from now on, whatever becomes of the commit.
        """
        is_last = np.ones(len(keys), np.bool_)
        is_last[:-1] = keys.series_ids[1:] != keys.series_ids[:-1]
        if is_last.all():
            newest = self._newest.raise_to(keys.series_ids, keys.timestamps, _NEVER_SEEN)
            return np.asarray(keys.timestamps <= newest)
        series_ids, times = keys.series_ids[is_last], keys.timestamps[is_last]
        newest = self._newest.raise_to(series_ids, times, _NEVER_SEEN)
        n_keys = np.diff(np.flatnonzero(is_last), prepend=-1)
        return keys.timestamps <= np.repeat(newest, n_keys)

    async def _commit_server_timed(self, rows: SampleRows, changes: Sequence[LevelChange]) -> None:
        """Store rows, each at the next free millisecond of its series.

        The milliseconds are chosen from what was read of the series; the append is refused if one
        of them may have been taken since, and then they are chosen again.
        """
        ordered = SortedRows.of(rows)
        place = np.argsort(ordered.order)
        moved = ordered.rows
        wanted = [(tenant, np.unique(own.series_ids)) for tenant, own in of_tenants(moved)]
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
        conditions = await self._conditions(rows, read_through)
        try:
            await self._log.append(_pages(rows, ArrivalKind.SAMPLES), conditions, changes)
        except (OvertakenError, DefinitionsChangedError) as exc:
            if isinstance(exc, DefinitionsChangedError):
                self._policies.forget([*conditions.definitions])
            return False
        self._note_times(rows)
        return True


def _arrivals(ordered: SortedRows, keys: _Keys) -> list[NewArrival]:
    """The pages of the rows that are to be stored."""
    if not keys.keeps_last.any():
        return _pages(ordered.kept(keys.keeps_last, keys.is_stored), ArrivalKind.SAMPLES)
    rows = ordered.kept(keys.keeps_last, keys.is_stored)
    keeps_last = keys.keeps_last[keys.keeps_last | ~keys.is_stored]
    return [
        *_pages(rows.take(np.flatnonzero(~keeps_last)), ArrivalKind.SAMPLES),
        *_pages(rows.take(np.flatnonzero(keeps_last)), ArrivalKind.REPLACEMENTS),
    ]


def _pages(rows: SampleRows, kind: ArrivalKind) -> list[NewArrival]:
    """Pages of rows that are sorted by tenant, series and time, with no key twice."""
    return [
        NewArrival(
            tenant,
            kind,
            page.n_samples,
            page.first_series,
            page.last_series,
            page.first_ms,
            page.last_ms,
            page.payload,
        )
        for tenant, own in of_tenants(rows)
        for page in encode_pages(as_series(own), _MAX_PAGE_SAMPLES, _MAX_PAGE_BYTES)
    ]


def _changes_of(rows: IntArray, changes: Sequence[LevelChange]) -> list[LevelChange]:
    """The changes of rows that are taken from others, numbered by their place among them."""
    at = np.searchsorted(rows, [change.row for change in changes])
    return [
        replace(change, row=int(index))
        for change, index in zip(changes, at, strict=True)
        if index < len(rows) and rows[index] == change.row
    ]
