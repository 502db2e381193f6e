"""Reads what the statement `stored_pages` returns, as a COPY stream or as rows."""

import struct
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple

import asyncpg
import numpy as np

from promcompat.core.errors import PromcompatError
from promcompat.core.model import IntArray
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.codec.page_decoding import unpacked_bytes
from sql.samples.columns.fold import Deletion

_HEADER_BYTES: Final = 19
_ROW: Final = struct.Struct(">hih ii i? iq iq iq iq iq ii i")
"""The number of fields, and each field after its length, up to the length of the payload."""
_N_FIELDS: Final = 10
_DELETION: Final = 3
_STATE: Final = 4
_JOINING_ORDER: Final = attrgetter(
    "source", "slot", "replaces", "last_arrival", "first_series", "first_ms"
)
_ARRAY_HEADER_BYTES: Final = 20
_ARRAY_ELEMENT: Final = np.dtype([("length", ">i4"), ("id", ">i8")])


class PageRow(NamedTuple):
    """A page of a table (`source`).

    A tuple, for there are thousands: making a frozen dataclass takes five times as long.
    """

    source: int
    slot: int
    replaces: bool
    last_arrival: int
    first_series: int
    last_series: int
    first_ms: int
    first_arrival: int
    payload: bytes

    @property
    def layer(self) -> tuple[int, int, bool, int]:
        """Pages that have this in common never overlap; the `slot` is 0 for blocks."""
        return self.source, self.slot, self.replaces, self.last_arrival


class PageStream:
    """Collects the stream; `take_pages` gives the pages that are complete by then."""

    def __init__(self) -> None:
        self.n_rows = 0
        """How many samples were decoded; counted by the reader."""
        self.n_bytes = 0
        self.deletions: list[Deletion] = []
        self.state: DrainState | None = None
        self._is_started = False
        self._rest = b""
        self._pages: list[PageRow] = []
        self.n_pending_bytes = 0
        """The size of the pages that were not taken yet; more for what unpacks to more."""
        self.n_pending_samples = 0
        """How many samples they have, those that nobody wants included."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream."""
        self.n_bytes += len(chunk)
        stream = self._rest + chunk if self._rest else chunk
        start = 0
        if not self._is_started:
            self._is_started = len(stream) >= _HEADER_BYTES
            start = _HEADER_BYTES if self._is_started else len(stream)
        self._rest = stream[self._read_rows(stream, start) :] if self._is_started else stream

    def _read_rows(self, stream: bytes, start: int) -> int:
        """Read the complete rows from a position on; returns where they end."""
        while start + _ROW.size <= len(stream):
            fields = _ROW.unpack_from(stream, start)
            if fields[0] != _N_FIELDS:
                raise PromcompatError(f"a row of pages has {fields[0]} fields, not {_N_FIELDS}")
            payload_start = start + _ROW.size
            end = payload_start + max(0, fields[-1])
            if end > len(stream):
                break
            payload = stream[payload_start:end] if fields[-1] >= 0 else None
            self._add(fields[2:-1:2], payload)
            start = end
        return start

    def add_rows(self, rows: Sequence[asyncpg.Record]) -> None:
        """Take whole rows."""
        for *columns, payload in rows:
            self.n_bytes += len(payload or b"")
            self._add(columns, payload)

    def _add(self, columns: Sequence[int], payload: bytes | None) -> None:
        source, slot, replaces, last_arrival, first_arrival, *bounds = columns
        first_series, last_series, first_ms, n_samples = bounds
        if source == _STATE:
            assert payload is not None
            self.state = DrainState(payload.decode(), last_arrival, first_arrival)
            return
        if source == _DELETION:
            ids = None if payload is None else _array_of(payload)
            self.deletions.append(Deletion(last_arrival, ids, first_series, last_series))
            return
        assert payload is not None
        self.n_pending_bytes += unpacked_bytes(payload)
        self.n_pending_samples += n_samples
        self._pages.append(
            PageRow(
                source,
                slot,
                bool(replaces),
                last_arrival,
                first_series,
                last_series,
                first_ms,
                first_arrival,
                payload,
            )
        )

    def take_pages(self) -> list[PageRow]:
        """The pages read since the last call, in the order in which those of a layer are joined."""
        pages, self._pages = self._pages, []
        self.n_pending_bytes = self.n_pending_samples = 0
        pages.sort(key=_JOINING_ORDER)
        return pages


def _array_of(sent: bytes) -> IntArray:
    """A bigint array as array_send writes it."""
    if len(sent) < _ARRAY_HEADER_BYTES:
        return np.empty(0, np.int64)
    return np.frombuffer(sent, _ARRAY_ELEMENT, offset=_ARRAY_HEADER_BYTES)["id"].astype(np.int64)
