"""The series that are known by the bytes of their labels, as a table which kernels search.

A table does not change for those who search it, except that it loses removed series. Its builder
appends entries behind those of the published table, and publishes the next one with slots of its
own.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import UNKNOWN_SERIES, IntArray
from promcompat.core.series_table_kernels import (
    NOT_FOUND,
    copy_keys,
    fill_slots,
    find_keys,
    hash_entries,
)

SECRET: Final = np.array([secrets.randbits(64), secrets.randbits(64)], np.uint64)
"""The key of the hash. All tables of the process have the same."""
_FEWEST_SLOTS: Final = 1 << 10
_ENTRY_BYTES: Final = 49
"""Hash, tenant, id, end of the key, marks, and between two and four slots."""

TableArrays = tuple[
    NDArray[np.uint64],
    NDArray[np.int32],
    NDArray[np.uint64],
    IntArray,
    IntArray,
    IntArray,
    NDArray[np.uint8],
    NDArray[np.uint8],
]


@dataclass(frozen=True, slots=True)
class SeriesTable:
    """Keys of series by tenant, with their ids; see `series_table_kernels`.

    `starts[i]` and `starts[i + 1]` bound the key of entry i in `keys`. The id of an entry that was
    removed is UNKNOWN_SERIES. A search that finds an entry sets its mark to 1, which says that it
    is in use; several threads may do so.
    """

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]
    tenants: IntArray
    ids: IntArray
    starts: IntArray
    keys: NDArray[np.uint8]
    marks: NDArray[np.uint8]

    def arrays(self) -> TableArrays:
        """The first arguments of the kernels that search."""
        return (
            SECRET,
            self.slots,
            self.hashes,
            self.tenants,
            self.ids,
            self.starts,
            self.keys,
            self.marks,
        )

    def remove(self, series_ids: Collection[int]) -> None:
        """Make these series unknown from now on."""
        gone = np.fromiter(series_ids, np.int64, len(series_ids))
        self.ids[np.isin(self.ids, gone)] = UNKNOWN_SERIES

    def find(self, tenant: int, keys: Sequence[bytes]) -> IntArray:
        """The id of each key, UNKNOWN_SERIES where there is none."""
        bounds = np.zeros((len(keys), 2), np.int64)
        bounds[:, 1] = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
        bounds[1:, 0] = bounds[:-1, 1]
        return self.find_parts(tenant, np.frombuffer(b"".join(keys), np.uint8), bounds)

    def find_parts(self, tenant: int, message: NDArray[np.uint8], bounds: IntArray) -> IntArray:
        """The id of each key that is a part of a message; UNKNOWN_SERIES where there is none.

        `bounds` [n, at least 2] has first and end of each part.
        """
        found = np.empty(len(bounds), np.int64)
        find_keys(*self.arrays(), tenant, message, bounds, found)
        return found


@dataclass(slots=True)
class PendingKeys:
    """The ids of keys of a tenant that are in no table yet, and how often one was found here.

    Those in `moving` are being moved into one.
    """

    ids: dict[bytes, int] = field(default_factory=dict)
    moving: dict[bytes, int] = field(default_factory=dict)
    n_found: int = 0

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """The id of each key, UNKNOWN_SERIES where there is none."""
        ids, moving = self.ids, self.moving
        found = [ids.get(key, UNKNOWN_SERIES) for key in keys]
        if moving:
            found = [
                moving.get(key, UNKNOWN_SERIES) if series_id == UNKNOWN_SERIES else series_id
                for key, series_id in zip(keys, found, strict=True)
            ]
        self.n_found += len(found) - found.count(UNKNOWN_SERIES)
        return found

    def without(self, series_ids: Collection[int]) -> "PendingKeys":
        """The same keys except those of some series."""
        ids, moving = (
            {key: series_id for key, series_id in part.items() if series_id not in series_ids}
            for part in (self.ids, self.moving)
        )
        return PendingKeys(ids, moving)


@dataclass(frozen=True, slots=True)
class RefusedKeys:
    """Keys of a tenant that a limit refused lately, after their labels had been checked.

    Their ids in the table are FIRST_REFUSED or less.
    """

    table: SeriesTable
    tenant: int


@dataclass(frozen=True, slots=True)
class KnownSeries:
    """The series of one tenant that are known at one moment, for decoders in any thread.

    `version` says until when the ids may be used; see `WriteBatch.known_version`.
    """

    table: SeriesTable
    tenant: int
    pending: PendingKeys
    version: int
    refused: tuple[RefusedKeys, ...] = ()

    def find(self, keys: Sequence[bytes]) -> IntArray:
        """The id of each key, or FIRST_REFUSED or less, or UNKNOWN_SERIES where there is none."""
        found = self.table.find(self.tenant, keys)
        if self.pending.ids or self.pending.moving:
            missing = np.flatnonzero(found == UNKNOWN_SERIES).tolist()
            found[missing] = self.pending.find([keys[index] for index in missing])
        for refused in self.refused:
            missing = np.flatnonzero(found == UNKNOWN_SERIES).tolist()
            wanted = [keys[index] for index in missing]
            found[missing] = refused.table.find(refused.tenant, wanted) if wanted else []
        return found

    def find_refused(self, message: NDArray[np.uint8], bounds: IntArray) -> IntArray:
        """FIRST_REFUSED or less for each part of a message that is a key refused lately.

        UNKNOWN_SERIES for the others. `bounds` [n, at least 2] has first and end of each part.
        """
        found = np.full(len(bounds), UNKNOWN_SERIES, np.int64)
        for refused in self.refused:
            of_table = refused.table.find_parts(refused.tenant, message, bounds)
            np.copyto(found, of_table, where=found == UNKNOWN_SERIES)
        return found


class SeriesTableBuilder:
    """Adds and removes entries, and publishes tables; for one thread at a time.

    Memory for as many entries, and for as many bytes of keys, as could fit is reserved at once, but
    the system provides it only when it is used.
    """

    _n_entries: int
    _n_live: int
    _has_removed: bool
    _hashes: NDArray[np.uint64]
    _tenants: IntArray
    _ids: IntArray
    _starts: IntArray
    _keys: NDArray[np.uint8]
    _marks: NDArray[np.uint8]
    _is_live: NDArray[np.uint8]

    def __init__(self, max_bytes: int) -> None:
        """The entries and their keys together take at most `max_bytes`."""
        self._max_bytes = max(_ENTRY_BYTES, max_bytes)
        self._reserve()
        self._slots = _empty_slots(_FEWEST_SLOTS)
        self._publish()

    def clear(self) -> None:
        """Remove everything, and publish an empty table."""
        self._reserve()
        self._slots = _empty_slots(_FEWEST_SLOTS)
        self._publish()

    def __len__(self) -> int:
        return self._n_live

    def has_room(self, keys: Collection[bytes]) -> bool:
        """Whether these keys fit beside the others."""
        n_bytes = int(self._starts[self._n_entries]) + sum(map(len, keys))
        return n_bytes + _ENTRY_BYTES * (self._n_entries + len(keys)) <= self._max_bytes

    def add(self, tenant: int, ids: dict[bytes, int]) -> None:
        """Publish a table with more keys of a tenant, which must be new and have room."""
        values = np.fromiter(ids.values(), np.int64, len(ids))
        self.add_entries(np.full(len(ids), tenant, np.int64), list(ids), values)

    def add_entries(self, tenants: IntArray, keys: Sequence[bytes], ids: IntArray) -> None:
        """The same for keys of several tenants."""
        first, end = self._n_entries, self._n_entries + len(keys)
        ends = np.fromiter(map(len, keys), np.int64, len(keys)).cumsum() + self._starts[first]
        self._starts[first + 1 : end + 1] = ends
        self._keys[self._starts[first] : self._starts[end]] = np.frombuffer(
            b"".join(keys), np.uint8
        )
        self._ids[first:end] = ids
        self._tenants[first:end] = tenants
        self._is_live[first:end] = 1
        self._n_entries = end
        self._n_live += len(keys)
        hash_entries(SECRET, self._tenants, self._starts, self._keys, first, end, self._hashes)
        self._add_to_slots(first)

    def remove(self, series_ids: Collection[int]) -> None:
        """Take these series out of the table; tables published before lose them too.

        Their slots are given up when entries are added the next time.
        """
        self.table.remove(series_ids)
        self._is_live[: self._n_entries][self.table.ids == UNKNOWN_SERIES] = 0
        self._n_live = int(np.count_nonzero(self._is_live[: self._n_entries]))
        self._has_removed = True

    def keep_used(self) -> None:
        """Publish a table of the newest entries and those that were found since the last call.

        It has at most half of the entries.
        """
        n_entries = self._n_entries
        is_kept = self._marks[:n_entries].copy()
        is_kept[n_entries - n_entries // 4 :] = 1
        kept = np.flatnonzero(self._is_live[:n_entries] & is_kept)
        kept = kept[max(0, len(kept) - n_entries // 2) :]
        table = self.table
        self._reserve()
        self._n_entries = self._n_live = len(kept)
        copy_keys(kept, table.starts, table.keys, self._starts, self._keys)
        for target, source in (
            (self._hashes, table.hashes),
            (self._tenants, table.tenants),
            (self._ids, table.ids),
        ):
            target[: len(kept)] = source[kept]
        self._is_live[: len(kept)] = 1
        self._slots = _empty_slots(_slots_for(len(kept)))
        fill_slots(self._slots, self._hashes, self._is_live, 0, len(kept))
        self._publish()

    def _reserve(self) -> None:
        n_entries = self._max_bytes // _ENTRY_BYTES
        self._n_entries = 0
        self._n_live = 0
        self._has_removed = False
        self._hashes = np.empty(n_entries, np.uint64)
        self._tenants = np.empty(n_entries, np.int64)
        self._ids = np.empty(n_entries, np.int64)
        self._starts = np.empty(n_entries + 1, np.int64)
        self._starts[0] = 0
        self._keys = np.empty(self._max_bytes, np.uint8)
        self._marks = np.zeros(n_entries, np.uint8)
        self._is_live = np.zeros(n_entries, np.uint8)

    def _add_to_slots(self, first: int) -> None:
        """Publish a table whose entries from `first` on are new."""
        n_slots = _slots_for(self._n_entries)
        if n_slots == len(self._slots) and not self._has_removed:
            # Not in place: threads search the published slots.
            self._slots = self._slots.copy()
        else:
            self._slots, first, self._has_removed = _empty_slots(n_slots), 0, False
        fill_slots(self._slots, self._hashes, self._is_live, first, self._n_entries)
        self._publish()

    def _publish(self) -> None:
        n_entries = self._n_entries
        self.table = SeriesTable(
            self._slots,
            self._hashes[:n_entries],
            self._tenants[:n_entries],
            self._ids[:n_entries],
            self._starts[: n_entries + 1],
            self._keys,
            self._marks[:n_entries],
        )


def _slots_for(n_entries: int) -> int:
    """The smallest power of two of which these are at most half."""
    return max(_FEWEST_SLOTS, 1 << (2 * n_entries - 1).bit_length())


def _empty_slots(n_slots: int) -> NDArray[np.int32]:
    return np.full(n_slots, NOT_FOUND, np.int32)
