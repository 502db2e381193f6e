"""Counts the labels of all series of a tenant while their JSON arrives."""

from collections.abc import Sequence
from typing import Final, TypeVar, overload

import numpy as np
import orjson
from numpy.typing import NDArray

from promcompat.core.label_counts import LabelCounts
from promcompat.core.model import IntArray
from promcompat.core.series_table import SECRET
from promcompat.core.series_table_kernels import fill_slots
from sql.database.connection_pool import Connection
from sql.database.statements import Statement, inline_parameters
from sql.query_loader import load_queries
from sql.series.label_count_kernels import (
    MALFORMED,
    N_ENTRIES,
    N_SERIES,
    N_STATE,
    NO_ROOM,
    ROOT,
    count_lines,
)

ArrayT = TypeVar("ArrayT", bound=np.generic)
_LABELS_OF_TENANT: Final = load_queries("series")["labels_of_tenant"]
_QUOTE, _DELIMITER = "\x01", "\x02"
"""JSON has escapes for such characters, so that nothing is quoted: each line of the COPY is the
JSON of a series."""
_BYTES_AT_ONCE: Final = 1 << 18
"""Counting so many blocks the event loop for 1 ms."""
_FEWEST_ENTRIES: Final = 1 << 10
_FEWEST_KEY_BYTES: Final = 1 << 15


async def count_labels(connection: Connection, tenant_id: int) -> LabelCounts:
    """The labels of all series, in about a microsecond for each; no label sets are made."""
    counter = LineCounter()
    await connection.copy_from_query(
        inline_parameters(Statement(_LABELS_OF_TENANT, (tenant_id,))),
        output=counter.feed,
        format="csv",
        quote=_QUOTE,
        delimiter=_DELIMITER,
    )
    return counter.finish()


class LineCounter:
    """Counts the members of JSON objects that have texts only, each of which is a line."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._n_bytes = 0
        self._result = 0
        self._state = np.zeros(N_STATE, np.int64)
        self._hashes = np.empty(_FEWEST_ENTRIES, np.uint64)
        self._parents, self._counts, self._sizes = (
            np.zeros(_FEWEST_ENTRIES, np.int64) for _ in range(3)
        )
        self._starts = np.zeros(_FEWEST_ENTRIES + 1, np.int64)
        self._keys = np.empty(_FEWEST_KEY_BYTES, np.uint8)
        self._fill_slots()

    async def feed(self, chunk: bytes) -> None:
        """Take some of the bytes, in order. asyncpg 0.32 would hang if this raised."""
        self._parts.append(chunk)
        self._n_bytes += len(chunk)
        if self._n_bytes >= _BYTES_AT_ONCE:
            self._count()

    def finish(self) -> LabelCounts:
        """The counts of all lines. Raises ValueError if one was not the JSON of texts by name."""
        self._count()
        if self._result == MALFORMED or self._parts != [b""]:
            raise ValueError("the labels of a series are no JSON object of texts")
        n_entries = int(self._state[N_ENTRIES])
        parents, keys = self._parents[:n_entries], self._keys[: self._starts[n_entries]].tobytes()
        names, rows = np.flatnonzero(parents == ROOT), np.flatnonzero(parents != ROOT)
        return LabelCounts(
            int(self._state[N_SERIES]),
            list(_JsonTexts(keys, self._starts, names)),
            np.searchsorted(names, parents[rows]),
            _JsonTexts(keys, self._starts, rows),
            self._sizes[rows],
            self._counts[rows],
        )

    def _count(self) -> None:
        """Count the lines that are complete."""
        lines, newline, rest = b"".join(self._parts).rpartition(b"\n")
        self._parts, self._n_bytes = [rest], len(rest)
        data, progress = np.frombuffer(lines + newline, np.uint8), np.zeros(1, np.int64)
        while self._result != MALFORMED:
            self._result = count_lines(
                SECRET,
                self._slots,
                self._hashes,
                self._parents,
                self._starts,
                self._keys,
                self._counts,
                self._sizes,
                self._state,
                data,
                progress,
            )
            if self._result != NO_ROOM:
                break
            self._grow(len(data))

    def _grow(self, n_bytes: int) -> None:
        """Double the room, and add room for a key of `n_bytes` bytes."""
        self._hashes = _longer(self._hashes, 2 * len(self._hashes))
        self._parents = _longer(self._parents, 2 * len(self._parents))
        self._counts = _longer(self._counts, 2 * len(self._counts))
        self._sizes = _longer(self._sizes, 2 * len(self._sizes))
        self._starts = _longer(self._starts, len(self._parents) + 1)
        self._keys = _longer(self._keys, 2 * len(self._keys) + n_bytes)
        self._fill_slots()

    def _fill_slots(self) -> None:
        """Make two slots for each entry that there is room for."""
        self._slots = np.full(2 * len(self._hashes), -1, np.int32)
        n_entries = int(self._state[N_ENTRIES])
        fill_slots(self._slots, self._hashes, np.ones(n_entries, np.uint8), 0, n_entries)


class _JsonTexts(Sequence[str]):
    """The texts of some entries, which have them as JSON without quotes."""

    def __init__(self, keys: bytes, starts: IntArray, entries: IntArray) -> None:
        self._keys = keys
        self._firsts, self._ends = starts[entries], starts[entries + 1]

    def __len__(self) -> int:
        return len(self._firsts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        text = self._keys[self._firsts[index] : self._ends[index]]
        return str(orjson.loads(b'"' + text + b'"'))


def _longer(column: NDArray[ArrayT], length: int) -> NDArray[ArrayT]:
    """A column with the same beginning; what comes after it is not set."""
    longer = np.empty(length, column.dtype)
    longer[: len(column)] = column
    return longer
