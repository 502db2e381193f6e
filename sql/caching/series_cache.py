"""Bounded per-process caches of series: wire label bytes to id, and id to labels.

A series id is never handed out twice and its labels never change, so an id never means another
series and the labels of an id stay correct. The id of a key is correct until its series is removed
or the database steps back, which `InstallationGuard` reports.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from promcompat.core.bounded_caches import GenerationalCache
from promcompat.core.model import UNKNOWN_SERIES, Labels, label_sets_bytes
from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder

_BYTES_PER_ID: Final = 110
"""What the labels of an id take besides their content."""
_BYTES_PER_PENDING: Final = 150
"""What a key in a dictionary takes besides its content."""
_TABLE_SHARE: Final = 3, 5
"""The share of the memory; as much is needed while entries move to a smaller table."""
_PENDING_SHARE: Final = 8
_FEWEST_PENDING: Final = 256
_TABLE_PER_PENDING: Final = 64
"""Publishing copies the slots, so it waits for keys in proportion to the table, or for look-ups
that took the slower way as often."""
_IN_THREAD_FROM: Final = 20_000
"""Entries; adding to a smaller table takes about a millisecond."""
_NO_TENANT: Final = -1
_LOGGER: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _TenantKeys:
    number: int
    pending: PendingKeys = field(default_factory=PendingKeys)


def run_in_thread(work: Callable[[], None], ended: Callable[[], None]) -> None:
    """Run `work` in a thread, then `ended` in the event loop, whether or not it succeeded."""

    def log(future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (fault := future.exception()) is not None:
            _LOGGER.error("series keys could not be moved into their table", exc_info=fault)
        ended()

    asyncio.get_running_loop().run_in_executor(None, work).add_done_callback(log)


@dataclass(slots=True)
class _Move:
    """Keys on their way from the pending ones into a table, by the number of their tenant."""

    ids: dict[int, dict[bytes, int]]
    removed: set[int] = field(default_factory=set)
    """The series that were removed since it began."""
    is_done: bool = False

    def carry_out(self, table: SeriesTableBuilder) -> None:
        """Add the keys; those that were not used lately make room."""
        for tenant, ids in self.ids.items():
            if not table.has_room(ids):
                table.keep_used()
                if not table.has_room(ids):
                    table.clear()
            if table.has_room(ids):
                table.add(tenant, ids)
        self.is_done = True


class SeriesCache:
    """Series keys to ids of all tenants, at most `max_bytes` together, roughly.

    For one thread, that of the event loop; what `known` returns is for all threads. New keys are
    pending, in a dictionary. From there they move into a table together. A table of a million
    series takes 0.1 s to build again, so that `run` does it in a thread, while the present table
    and the pending keys go on to be used; without `run`, it is done at once.
    """

    def __init__(
        self,
        max_bytes: int,
        run: Callable[[Callable[[], None], Callable[[], None]], None] | None = None,
    ) -> None:
        self._table_bytes = max_bytes * _TABLE_SHARE[0] // _TABLE_SHARE[1]
        self._max_pending_bytes = max_bytes // _PENDING_SHARE
        self._run = run
        self._clear()

    def known(self, tenant: str, version: int) -> KnownSeries:
        """What is known of a tenant now, which is version `version` of the guard."""
        keys = self._tenants.get(tenant)
        if keys is None:
            return KnownSeries(self._published, _NO_TENANT, PendingKeys(), version)
        if keys.pending.n_found >= self._most_pending():
            self._start_move()
        return KnownSeries(self._published, keys.number, keys.pending, version)

    def add(self, tenant: str, ids: Mapping[bytes, int]) -> None:
        """Remember the ids of keys."""
        if self._move is not None and self._pending_bytes > self._max_pending_bytes:
            return  # They will be looked up again: memory is bounded while the thread is slow.
        keys = self._tenants.setdefault(tenant, _TenantKeys(len(self._tenants)))
        wanted = list(ids)
        found = self._published.find(keys.number, wanted).tolist()
        pending, moving = keys.pending.ids, keys.pending.moving
        for key, known in zip(wanted, found, strict=True):
            if known == UNKNOWN_SERIES and key not in pending and key not in moving:
                pending[key] = ids[key]
                self._n_pending += 1
                self._pending_bytes += len(key) + _BYTES_PER_PENDING
        if self._n_pending >= self._most_pending() or self._pending_bytes > self._max_pending_bytes:
            self._start_move()

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Drop the keys of these series, or with None all keys."""
        if series_ids is None:
            self._clear()
            return
        gone = set(series_ids)
        for keys in self._tenants.values():
            keys.pending = keys.pending.without(gone)
        if self._move is None:
            self._table.remove(gone)
        else:
            self._move.removed |= gone
            self._published.remove(gone)

    def __len__(self) -> int:
        return len(self._table) + self._n_pending

    def _clear(self) -> None:
        """Begin with a new table; a move into the present one comes to nothing."""
        self._table = SeriesTableBuilder(self._table_bytes)
        self._published = self._table.table
        self._tenants: dict[str, _TenantKeys] = {}
        self._n_pending = self._pending_bytes = 0
        self._move: _Move | None = None

    def _most_pending(self) -> int:
        return _FEWEST_PENDING + len(self._published.ids) // _TABLE_PER_PENDING

    def _start_move(self) -> None:
        """Move all pending keys into the table, one move at a time.

        If that fails, everything is forgotten, and looked up again.
        """
        if self._move is not None:
            return
        self._move = move = _Move(
            {keys.number: keys.pending.ids for keys in self._tenants.values() if keys.pending.ids}
        )
        for keys in self._tenants.values():
            keys.pending = PendingKeys({}, keys.pending.ids)
        self._n_pending = self._pending_bytes = 0
        if self._run is None or len(self._published.ids) < _IN_THREAD_FROM:
            try:
                move.carry_out(self._table)
            finally:
                self._end_move(move)
        else:
            self._run(partial(move.carry_out, self._table), partial(self._end_move, move))

    def _end_move(self, move: _Move) -> None:
        """Publish the table; what became pending meanwhile stays so."""
        if move is not self._move:
            return
        if not move.is_done:
            self._clear()
            return
        self._move = None
        if move.removed:
            self._table.remove(move.removed)
        self._published = self._table.table
        for keys in self._tenants.values():
            keys.pending = PendingKeys(keys.pending.ids)


class LabelsCache(GenerationalCache[int, Labels]):
    """Series ids to labels, about `max_bytes`; ids are unique over all tenants."""

    __slots__ = ()

    def remember(self, labels: Mapping[int, Labels]) -> None:
        """Store the labels of series that were read together."""
        if labels:
            each = label_sets_bytes(labels.values()) / len(labels) + _BYTES_PER_ID
            for series_id, label_set in labels.items():
                self.add(series_id, label_set, each)

    def find(self, series_ids: Sequence[int]) -> list[Labels | None]:
        """The labels of each series, None where they are not known."""
        found = self.get_recent(series_ids)
        if all(known is not None for known in found):
            return found
        return [known or self.get(one) for one, known in zip(series_ids, found, strict=True)]
