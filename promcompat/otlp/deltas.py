"""Sums of deltas: SDKs may send what was added since the last export; Prometheus stores totals."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_STREAMS: Final = 200_000
_IDLE_NS: Final = 3_600 * 1_000_000_000
"""A stream that got nothing for so long may make room for another one."""


@dataclass(slots=True)
class _Stream:
    last_ns: int
    totals: tuple[float, ...]


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
        with self._lock:
            stream = self._streams.get((tenant, key))
            if stream is not None and time_ns < stream.last_ns:
                return "a delta is older than the last one of its series"
            if stream is not None and time_ns == stream.last_ns:
                return stream.totals
            if stream is None and not self._make_room(time_ns):
                return f"there are more than {self._max_streams} series of deltas"
            totals = tuple(float(delta) for delta in deltas)
            if stream is not None and len(stream.totals) == len(totals):
                totals = tuple(map(float.__add__, stream.totals, totals))
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
