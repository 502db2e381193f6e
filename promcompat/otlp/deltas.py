"""Sums of deltas: SDKs may send what was added since the last export; Prometheus stores totals."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from promcompat.otlp.native_points import ExponentialCounts

TotalT = TypeVar("TotalT")

MAX_STREAMS: Final = 200_000
MAX_BYTES: Final = 512 << 20
_BYTES_PER_STREAM: Final = 500
"""What a stream takes besides its key and its totals."""
_BYTES_PER_NUMBER: Final = 32
"""A float and its place in a tuple."""
_IDLE_NS: Final = 3_600 * 1_000_000_000
"""A stream that got nothing for so long may make room for another one."""


@dataclass(slots=True)
class _Stream:
    last_ns: int
    totals: object
    n_bytes: int


class DeltaTotals:
    """The totals of the streams of a process; a restart begins at zero.

    These are at most `max_streams` streams, and about `max_bytes`. A stream is a series (of a
    histogram: all of its series) of a tenant.
    """

    def __init__(self, max_streams: int = MAX_STREAMS, max_bytes: int = MAX_BYTES) -> None:
        self._max_streams = max_streams
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._streams: OrderedDict[tuple[str, bytes], _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self, tenant: str, key: bytes, time_ns: int, deltas: Sequence[float]
    ) -> tuple[float, ...] | str:
        """The totals after a point; a text if the point cannot be added.

        A point with the time of the last one is that point again, from a sender that got no answer.
        """
        return self._add(tenant, key, time_ns, tuple(float(delta) for delta in deltas), _sum)

    def add_exponential(
        self, tenant: str, key: bytes, time_ns: int, deltas: ExponentialCounts
    ) -> ExponentialCounts | str:
        """The same for a point of an exponential histogram."""
        return self._add(tenant, key, time_ns, deltas.bounded(), ExponentialCounts.plus)

    def _add(
        self,
        tenant: str,
        key: bytes,
        time_ns: int,
        totals: TotalT,
        add: Callable[[TotalT, TotalT], TotalT],
    ) -> TotalT | str:
        with self._lock:
            stream = self._streams.get((tenant, key))
            if stream is not None and time_ns < stream.last_ns:
                return "a delta is older than the last one of its series"
            if stream is not None and isinstance(stream.totals, type(totals)):
                if time_ns == stream.last_ns:
                    return stream.totals
                totals = add(stream.totals, totals)
            made = _Stream(time_ns, totals, len(key) + _BYTES_PER_STREAM + _bytes_of(totals))
            if stream is not None:
                self._streams.move_to_end((tenant, key))
            if (fault := self._make_room(made, stream)) is not None:
                return fault
            self._streams[tenant, key] = made
            self._n_bytes += made.n_bytes - (0 if stream is None else stream.n_bytes)
            return totals

    def _make_room(self, made: _Stream, before: _Stream | None) -> str | None:
        """Give up idle streams until there is room for another one; a text if there is none."""
        n_streams = int(before is None)
        n_bytes = made.n_bytes - (0 if before is None else before.n_bytes)
        while (fault := self._lack(n_streams, n_bytes)) is not None:
            name, oldest = next(iter(self._streams.items()), (("", b""), None))
            if oldest is None or oldest is before or made.last_ns - oldest.last_ns < _IDLE_NS:
                break
            del self._streams[name]
            self._n_bytes -= oldest.n_bytes
        return fault

    def _lack(self, n_streams: int, n_bytes: int) -> str | None:
        if len(self._streams) + n_streams > self._max_streams:
            return f"there are more than {self._max_streams} series of deltas"
        if n_bytes > 0 and self._n_bytes + n_bytes > self._max_bytes:
            return f"the totals of deltas take more than {self._max_bytes} bytes"
        return None


def _bytes_of(totals: object) -> int:
    if isinstance(totals, ExponentialCounts):
        return totals.n_bytes
    return _BYTES_PER_NUMBER * len(totals) if isinstance(totals, tuple) else 0


def _sum(totals: tuple[float, ...], deltas: tuple[float, ...]) -> tuple[float, ...]:
    """Of another number of buckets, the totals begin again."""
    if len(totals) != len(deltas):
        return deltas
    return tuple(map(float.__add__, totals, deltas))
