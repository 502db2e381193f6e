"""Caches that are bounded by the memory of their entries, and how that memory is estimated."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")
ItemT = TypeVar("ItemT")

BYTES_PER_ENTRY: Final = 200
"""A dictionary entry and the small objects around it."""
_LARGEST_SHARE: Final = 4
_MAX_MEASURED_ITEMS: Final = 1_000


class ByteBoundedCache(Generic[KeyT, ValueT]):
    """Values by key, at most `max_bytes` in total; the least recently used are evicted first.

    The caller passes the bytes of an entry, key included. An entry larger than a quarter of the
    cache is not kept. Safe to use from several threads. A query looks into five of these, and an
    `LRUCache` of cachetools would take four times as long.
    """

    __slots__ = ("_entries", "_lock", "_max_bytes", "_n_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.Lock()
        self._max_bytes = max_bytes
        self._entries: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()
        self._n_bytes = 0

    def get(self, key: KeyT) -> ValueT | None:
        """The value of a key, which becomes the most recently used."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def add(self, key: KeyT, value: ValueT, n_bytes: int) -> None:
        """Store a value of `n_bytes`, replacing the one there was."""
        size = n_bytes + BYTES_PER_ENTRY
        with self._lock:
            self._drop(key)
            if size > self._max_bytes // _LARGEST_SHARE:
                return
            self._entries[key] = value, size
            self._n_bytes += size
            while self._n_bytes > self._max_bytes:
                _, (_, n_evicted) = self._entries.popitem(last=False)
                self._n_bytes -= n_evicted

    def _drop(self, key: KeyT) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._n_bytes -= entry[1]

    def clear(self) -> None:
        """Drop all entries."""
        with self._lock:
            self._entries.clear()
            self._n_bytes = 0

    @property
    def n_bytes(self) -> int:
        """The bytes of all entries."""
        return self._n_bytes

    def __len__(self) -> int:
        return len(self._entries)


class GenerationalCache(Generic[KeyT, ValueT]):
    """Values by key in two plain dictionaries, about `max_bytes` in total; for hot look-ups.

    New and used entries are in the young generation. When those take half of `max_bytes`, the old
    generation is dropped and the young one becomes the old one; so an entry stays as long as it is
    used within every half of the turnover. The caller passes the bytes of what it adds, keys
    included. An old entry that is used counts as much as the average one, so that the bytes may be
    half as many again.

    Ingest looks up every sample's series: 0.8 million a second are found in an `LRUCache`, 3
    million by `get_recent`, while a whole request takes 2.5 µs per sample.
    """

    __slots__ = ("_max_young_bytes", "_old_entry_bytes", "old", "young", "young_bytes")

    def __init__(self, max_bytes: int = sys.maxsize) -> None:
        self._max_young_bytes = max_bytes // 2
        self.clear()

    def clear(self) -> None:
        """Drop all entries."""
        self.young: dict[KeyT, ValueT] = {}
        self.old: dict[KeyT, ValueT] = {}
        self.young_bytes = 0.0
        self._old_entry_bytes = 0.0

    def get(self, key: KeyT) -> ValueT | None:
        """The value of a key, which moves to the young generation."""
        value = self.young.get(key)
        if value is None and (value := self.old.get(key)) is not None:
            self.add(key, value, self._old_entry_bytes)
        return value

    def get_recent(self, keys: Iterable[KeyT]) -> list[ValueT | None]:
        """The value of each key in the young generation, None where it has none."""
        # `map` runs in C: 0.3 µs per key, a loop takes twice as long.
        return list(map(self.young.get, keys))

    def add(self, key: KeyT, value: ValueT, n_bytes: float) -> None:
        """Store a value; its bytes count unless the key is in the young generation already."""
        if key not in self.young:
            self.young_bytes += n_bytes
        self.young[key] = value
        if self.young_bytes > self._max_young_bytes:
            self.age()

    def age(self) -> None:
        """Drop the old generation; the young one becomes the old one."""
        self._old_entry_bytes = self.young_bytes / max(1, len(self.young))
        self.old, self.young, self.young_bytes = self.young, {}, 0.0

    def __len__(self) -> int:
        return len(self.young) + len(self.old)


def texts_bytes(texts: Iterable[str]) -> int:
    """The approximate memory of texts; four bytes per character cover every script."""
    return sum(56 + len(text) * (1 if text.isascii() else 4) for text in texts)


def estimated_bytes(items: Sequence[ItemT], n_bytes_of: Callable[[Sequence[ItemT]], int]) -> int:
    """The approximate memory of many items; `n_bytes_of` measures at most 1,000 of them."""
    measured = items[:: 1 + len(items) // _MAX_MEASURED_ITEMS]
    return n_bytes_of(measured) * len(items) // max(1, len(measured))
