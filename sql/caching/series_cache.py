"""Bounded per-process caches of series: wire label bytes to id, and id to labels.

A series id is never handed out twice and its labels never change, so an id never means another
series and the labels of an id stay correct. The id of a key is correct until its series is removed
or the database steps back, which `InstallationGuard` reports.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.bounded_caches import GenerationalCache
from promcompat.core.model import UNKNOWN_SERIES, Labels
from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder

_BYTES_PER_ID: Final = 110
"""What the labels of an id take besides their content."""
_BYTES_PER_PENDING: Final = 150
"""What a key in a dictionary takes besides its content."""
_TABLE_SHARE: Final = 3, 5
"""Of the memory; as much is needed while entries move to a smaller table."""
_PENDING_SHARE: Final = 8
_FEWEST_PENDING: Final = 256
_TABLE_PER_PENDING: Final = 64
"""Publishing copies the slots, so it waits for keys in proportion to the table, or for look-ups
that took the slower way as often."""
_NO_TENANT: Final = -1


@dataclass(slots=True)
class _TenantKeys:
    number: int
    pending: PendingKeys = field(default_factory=PendingKeys)


class SeriesCache:
    """Series keys to ids of all tenants, at most `max_bytes` together, roughly.

    For one thread, that of the event loop; what `known` returns is for all threads.
    """

    def __init__(self, max_bytes: int) -> None:
        self._table = SeriesTableBuilder(max_bytes * _TABLE_SHARE[0] // _TABLE_SHARE[1])
        self._max_pending_bytes = max_bytes // _PENDING_SHARE
        self._pending_bytes = 0
        self._n_pending = 0
        self._tenants: dict[str, _TenantKeys] = {}

    def known(self, tenant: str, version: int) -> KnownSeries:
        """What is known of a tenant now, which is version `version` of the guard."""
        keys = self._tenants.get(tenant)
        if keys is None:
            return KnownSeries(self._table.table, _NO_TENANT, PendingKeys(), version)
        if keys.pending.n_found >= self._most_pending():
            self._publish()
        return KnownSeries(self._table.table, keys.number, keys.pending, version)

    def add(self, tenant: str, ids: Mapping[bytes, int]) -> None:
        """Remember the ids of keys."""
        keys = self._tenants.setdefault(tenant, _TenantKeys(len(self._tenants)))
        wanted = list(ids)
        found = self._table.table.find(keys.number, wanted).tolist()
        for key, known in zip(wanted, found, strict=True):
            if known == UNKNOWN_SERIES and key not in keys.pending.ids:
                keys.pending.ids[key] = ids[key]
                self._n_pending += 1
                self._pending_bytes += len(key) + _BYTES_PER_PENDING
        if self._n_pending >= self._most_pending() or self._pending_bytes > self._max_pending_bytes:
            self._publish()

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Drop the keys of these series, or with None all keys."""
        if series_ids is None:
            self._table.clear()
            self._tenants.clear()
            self._n_pending = self._pending_bytes = 0
            return
        self._publish()
        self._table.remove(series_ids)

    def __len__(self) -> int:
        return len(self._table) + self._n_pending

    def _most_pending(self) -> int:
        return _FEWEST_PENDING + len(self._table) // _TABLE_PER_PENDING

    def _publish(self) -> None:
        """Move all pending keys into the table; those that were not used lately make room."""
        for keys in self._tenants.values():
            ids, keys.pending = keys.pending.ids, PendingKeys()
            if ids and not self._table.has_room(ids):
                self._table.keep_used()
                if not self._table.has_room(ids):
                    self._table.clear()
            if ids and self._table.has_room(ids):
                self._table.add(keys.number, ids)
        self._n_pending = self._pending_bytes = 0


class LabelsCache(GenerationalCache[int, Labels]):
    """Series ids to labels, at most `max_bytes` roughly; ids are unique over all tenants."""

    __slots__ = ()

    def __init__(self, max_bytes: int) -> None:
        super().__init__(_labels_bytes, max_bytes)


def _labels_bytes(_series_id: int, labels: Labels) -> int:
    return labels.n_bytes() + _BYTES_PER_ID
