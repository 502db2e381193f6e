"""Sums of deltas: SDKs may send what was added since the last export; Prometheus stores totals."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from promcompat.otlp.native_points import ExponentialCounts

TotalT = TypeVar("TotalT")

MAX_STREAMS: Final = 200_000
_IDLE_NS: Final = 3_600 * 1_000_000_000
"""A stream that got nothing for so long may make room for another one."""


@dataclass(slots=True)
class _Stream:
    last_ns: int
    totals: object


class DeltaTotals:
    """The totals of the streams of a process, at most `max_streams`; a restart begins at zero.

    A stream is a series (of a histogram: all of its series) of a tenant.
    """

    def __init__(self, max_streams: int = MAX_STREAMS) -> None:
        self._max_streams = max_streams
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
        return self._add(tenant, key, time_ns, deltas, ExponentialCounts.plus)

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
            if stream is None and not self._make_room(time_ns):
                return f"there are more than {self._max_streams} series of deltas"
            if stream is not None and isinstance(stream.totals, type(totals)):
                if time_ns == stream.last_ns:
                    return stream.totals
                totals = add(stream.totals, totals)
            self._streams[tenant, key] = _Stream(time_ns, totals)
            self._streams.move_to_end((tenant, key))
            return totals

    def _make_room(self, now_ns: int) -> bool:
        if len(self._streams) < self._max_streams:
            return True
        oldest = next(iter(self._streams))
        if now_ns - self._streams[oldest].last_ns < _IDLE_NS:
            return False
        del self._streams[oldest]
        return True


def _sum(totals: tuple[float, ...], deltas: tuple[float, ...]) -> tuple[float, ...]:
    """Of another number of buckets, the totals begin again."""
    if len(totals) != len(deltas):
        return deltas
    return tuple(map(float.__add__, totals, deltas))
