"""A cache that is bounded by the memory of its entries, not by how many there are."""

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

BYTES_PER_ENTRY: Final = 200
"""What a dictionary entry and small objects around it take."""
_LARGEST_SHARE: Final = 4


class ByteBoundedCache(Generic[KeyT, ValueT]):
    """Values by key, at most `max_bytes` together; the least recently used is thrown out first.

    The caller says how many bytes an entry takes, key included. An entry that would take more than
    a quarter of the cache is not kept. May be used from several threads.
    """

    __slots__ = ("_entries", "_lock", "_max_bytes", "_n_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._lock = threading.RLock()
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._entries: OrderedDict[KeyT, tuple[ValueT, int]] = OrderedDict()

    def get(self, key: KeyT) -> ValueT | None:
        """The value of a key, which counts as used now."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            self._entries.move_to_end(key)
            return found[0]

    def add(self, key: KeyT, value: ValueT, n_bytes: int) -> None:
        """Keep a value instead of the one there was, with `n_bytes` of content."""
        with self._lock:
            self.remove(key)
            size = n_bytes + BYTES_PER_ENTRY
            if size > self._max_bytes // _LARGEST_SHARE:
                return
            self._entries[key] = value, size
            self._n_bytes += size
            while self._n_bytes > self._max_bytes:
                self.remove(next(iter(self._entries)))

    def remove(self, key: KeyT) -> None:
        """Forget a key, known or not."""
        with self._lock:
            removed = self._entries.pop(key, None)
            if removed is not None:
                self._n_bytes -= removed[1]

    @property
    def n_bytes(self) -> int:
        """What all entries take."""
        return self._n_bytes

    def __len__(self) -> int:
        return len(self._entries)


def texts_bytes(texts: Iterable[str]) -> int:
    """About the memory of texts: four bytes for each character cover every script."""
    return sum(56 + len(text) * (1 if text.isascii() else 4) for text in texts)
