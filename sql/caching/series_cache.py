"""Bounded per-process caches of series: wire label bytes to id, and id to labels.

A series id is never handed out twice and its labels never change, so an id never means another
series and the labels of an id stay correct. The id of a key is correct until its series is removed
or the database steps back, which `InstallationGuard` reports.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

import numpy as np

from promcompat.core.bounded_caches import GenerationalCache
from promcompat.core.model import IntArray, Labels

UNKNOWN_ID: Final = -1
_BYTES_PER_KEY: Final = 150
"""What a series key takes besides its content: the headers of two objects, two dictionary slots."""
_BYTES_PER_ID: Final = 110
"""The same for an id that is the key of labels."""


class TenantSeries(GenerationalCache[bytes, int]):
    """The known series keys of one tenant; a `Container[bytes]` for the decoder.

    A key found in the old generation moves to the young one, so what a decoder saw here is still
    here when its batch is resolved unless the whole cache turned over twice in between.
    `SeriesCache` bounds the keys of all tenants together.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_key_bytes)

    def __contains__(self, key: object) -> bool:
        return key in self.young or (isinstance(key, bytes) and self.get(key) is not None)

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Drop the keys of these series, or with None all keys."""
        if series_ids is None:
            self.clear()
            return
        # A million keys take 60 ms, and series are removed once an hour.
        self.old = {key: known for key, known in self.old.items() if known not in series_ids}
        for key in [key for key, known in self.young.items() if known in series_ids]:
            self.young_bytes -= _key_bytes(key, self.young.pop(key))

    def resolve(self, keys: Sequence[bytes]) -> IntArray:
        """The series id of each key, UNKNOWN_ID where there is none."""
        found = self.get_recent(keys)
        if None in found:
            found = [UNKNOWN_ID if (known := self.get(key)) is None else known for key in keys]
        return np.array(found, np.int64)


class SeriesCache:
    """Series keys to ids of all tenants, at most `max_bytes` together, roughly."""

    def __init__(self, max_bytes: int) -> None:
        self._max_young_bytes = max_bytes // 2
        self._tenants: dict[str, TenantSeries] = {}

    def tenant(self, tenant: str) -> TenantSeries:
        """The live keys of one tenant; of a tenant that never wrote, an empty container."""
        known = self._tenants.get(tenant)
        return TenantSeries() if known is None else known

    def add(self, tenant: str, entries: Iterable[tuple[bytes, int]]) -> None:
        """Remember the ids of keys."""
        known = self._tenants.setdefault(tenant, TenantSeries())
        for key, series_id in entries:
            known.add(key, series_id)
        if sum(known.young_bytes for known in self._tenants.values()) > self._max_young_bytes:
            self._age()

    def forget(self, series_ids: Collection[int] | None) -> None:
        """Drop the keys of these series, or with None all keys.

        In place: a decoder may hold the container of its tenant.
        """
        for known in self._tenants.values():
            known.forget(series_ids)

    def __len__(self) -> int:
        return sum(map(len, self._tenants.values()))

    def _age(self) -> None:
        for tenant, known in list(self._tenants.items()):
            known.age()
            if not known.old:
                del self._tenants[tenant]


class LabelsCache(GenerationalCache[int, Labels]):
    """Series ids to labels, at most `max_bytes` roughly; ids are unique over all tenants."""

    __slots__ = ()

    def __init__(self, max_bytes: int) -> None:
        super().__init__(_labels_bytes, max_bytes)


def _key_bytes(key: bytes, _series_id: int) -> int:
    return len(key) + _BYTES_PER_KEY


def _labels_bytes(_series_id: int, labels: Labels) -> int:
    return labels.n_bytes() + _BYTES_PER_ID
