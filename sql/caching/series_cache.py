"""Bounded per-process caches of series: wire label bytes to id, and id to labels.

A series id is never handed out twice and its labels never change, so an id never means another
series and the labels of an id are right for ever. The id of a key is right until its series is
removed or the database steps back; `InstallationGuard` says when.

Both count bytes, not entries: a label value may be a hundred times as long as another one.
Eviction is by generations: new and used entries live in the young one; when it is full the old
one is thrown away and the young one becomes old. Every operation stays a dict operation (an LRU
list would cost more than the look-up), and an entry used within the last half of the cache's
turnover is still there.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np

from promcompat.core.model import IntArray, Labels

UNKNOWN_ID: Final = -1
_BYTES_PER_KEY: Final = 150
"""What a series key takes besides its content: the headers of two objects, two dictionary slots."""
_BYTES_PER_ID: Final = 110
"""The same for an id that is the key of labels."""


class TenantSeries:
    """The known series keys of one tenant; a `Container[bytes]` for the decoder.

    A key found in the old generation moves to the young one, so what a decoder saw here is still
    here when its batch is resolved unless the whole cache turned over twice in between.
    """

    __slots__ = ("old", "young", "young_bytes")

    def __init__(self) -> None:
        self.young: dict[bytes, int] = {}
        self.old: dict[bytes, int] = {}
        self.young_bytes = 0

    def __contains__(self, key: object) -> bool:
        if key in self.young:
            return True
        if isinstance(key, bytes) and (series_id := self.old.get(key)) is not None:
            self.add(key, series_id)
            return True
        return False

    def add(self, key: bytes, series_id: int) -> None:
        """Remember the id of a key."""
        if key not in self.young:
            self.young_bytes += len(key) + _BYTES_PER_KEY
        self.young[key] = series_id

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Know the keys of these series no more, or with None no key at all."""
        if series_ids is None:
            self.young, self.old, self.young_bytes = {}, {}, 0
            return
        # A million keys take 60 ms, and series are removed once an hour.
        self.old = {key: one for key, one in self.old.items() if one not in series_ids}
        for key in [key for key, one in self.young.items() if one in series_ids]:
            del self.young[key]
            self.young_bytes -= len(key) + _BYTES_PER_KEY

    def resolve(self, keys: Sequence[bytes]) -> IntArray:
        """The series id of each key, UNKNOWN_ID where there is none."""
        # `map` and `in` over the list run in C: 0.1 µs a key, a loop costs twice as much.
        found: list[int | None] = list(map(self.young.get, keys))
        if None in found:
            found = [self._promote(key) for key in keys]
        return np.array(found, np.int64)

    def _promote(self, key: bytes) -> int:
        return self.young[key] if key in self else UNKNOWN_ID


class SeriesCache:
    """Series keys to ids of all tenants, at most `max_bytes` together, roughly."""

    def __init__(self, max_bytes: int) -> None:
        self._max_young_bytes = max_bytes // 2
        self._tenants: dict[str, TenantSeries] = {}

    def tenant(self, tenant: str) -> TenantSeries:
        """The live keys of one tenant; of a tenant that never wrote, an empty container."""
        return self._tenants.get(tenant) or TenantSeries()

    def add(self, tenant: str, entries: Iterable[tuple[bytes, int]]) -> None:
        """Remember the ids of keys."""
        known = self._tenants.setdefault(tenant, TenantSeries())
        for key, series_id in entries:
            known.add(key, series_id)
        if sum(known.young_bytes for known in self._tenants.values()) > self._max_young_bytes:
            self._age()

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Know the keys of these series no more, or with None no key at all.

        In place: a decoder may hold the container of its tenant.
        """
        for known in self._tenants.values():
            known.forget(series_ids)

    def __len__(self) -> int:
        return sum(len(known.young) + len(known.old) for known in self._tenants.values())

    def _age(self) -> None:
        for tenant, known in list(self._tenants.items()):
            known.old, known.young, known.young_bytes = known.young, {}, 0
            if not known.old:
                del self._tenants[tenant]


class LabelsCache:
    """Series ids to labels, at most `max_bytes` roughly; ids are unique over all tenants."""

    def __init__(self, max_bytes: int) -> None:
        self._max_young_bytes = max_bytes // 2
        self._young_bytes = 0
        self._young: dict[int, Labels] = {}
        self._old: dict[int, Labels] = {}

    def get(self, series_id: int) -> Labels | None:
        """The labels of a series, if they are known."""
        labels = self._young.get(series_id)
        if labels is None and (labels := self._old.get(series_id)) is not None:
            self.add(series_id, labels)
        return labels

    def forget(self) -> None:
        """Know no labels any more."""
        self._young, self._old, self._young_bytes = {}, {}, 0

    def add(self, series_id: int, labels: Labels) -> None:
        """Remember the labels of a series."""
        if series_id in self._young:
            return
        self._young[series_id] = labels
        self._young_bytes += labels.n_bytes() + _BYTES_PER_ID
        if self._young_bytes > self._max_young_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
