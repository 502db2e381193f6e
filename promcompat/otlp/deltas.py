"""Sums of deltas: SDKs may send what was added since the last export; Prometheus stores totals."""

import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, TypeVar

from promcompat.core.limits.limit_definitions import LIMIT_OF
from promcompat.otlp.native_points import ExponentialCounts

TotalT = TypeVar("TotalT")

MAX_STREAMS: Final = 200_000
MAX_BYTES: Final = 512 << 20
_EARLIER_SHARE: Final = 8
"""An eighth of the bytes is for totals that are not the last ones of their streams."""
_BYTES_PER_STREAM: Final = 500
"""What a stream takes besides its key and its totals."""
_BYTES_PER_NUMBER: Final = 32
"""A float and its place in a tuple."""
_IDLE_SECONDS: Final = 3_600.0
"""A stream that got nothing for so long may make room for another one."""
_ONE_NUMBER: Final = b""
"""The kind of sums; histograms have more numbers."""
TOO_FAR_AHEAD: Final = LIMIT_OF["creation_grace_period"].text
_Name = tuple[str, bytes]
"""A tenant and the key of a series."""


@dataclass(slots=True, kw_only=True)
class _Stream:
    """The totals after a point at `time_ns`, which came with a request, the last time `came_at`.

    Totals of the same `kind` can be added up: so many numbers, with the same bounds; None stands
    for exponential histograms.
    """

    time_ns: int
    totals: object
    kind: bytes | None
    request: int
    came_at: float
    n_bytes: int


class DeltaTotals:
    """The totals of the streams of a process; a restart begins at zero.

    These are at most `max_streams` streams, and about `max_bytes`. A stream is a series (of a
    histogram: all of its series) of a tenant.
    """

    def __init__(
        self,
        max_streams: int = MAX_STREAMS,
        max_bytes: int = MAX_BYTES,
        now_seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_streams = max_streams
        self._max_earlier_bytes = max_bytes // _EARLIER_SHARE
        self._max_bytes = max_bytes - self._max_earlier_bytes
        self._now_seconds = now_seconds
        self._requests = count()
        self._n_bytes = 0
        self._streams: OrderedDict[_Name, _Stream] = OrderedDict()
        self._n_earlier_bytes = 0
        self._earlier: OrderedDict[tuple[_Name, int], _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def request(self, tenant: str, latest_ms: int | None = None) -> "RequestTotals":
        """What adds the points of a request; none of them may be later than `latest_ms`."""
        return RequestTotals(self, tenant, next(self._requests), latest_ms)

    def add(
        self,
        name: _Name,
        time_ns: int,
        deltas: TotalT,
        kind: bytes | None,
        plus: Callable[[TotalT, TotalT], TotalT],
        request: int,
    ) -> TotalT | str:
        """See `RequestTotals`; `plus` adds totals of a kind."""
        with self._lock:
            before, totals = self._streams.get(name), deltas
            if before is not None and time_ns < before.time_ns:
                found = self._earlier.get((name, time_ns))
                if found is None or found.kind != kind:
                    return "a delta is older than the last one of its series"
                return found.totals  # type: ignore[return-value]
            if before is not None and before.kind == kind:
                if time_ns == before.time_ns:
                    before.request, before.came_at = request, self._now_seconds()
                    return before.totals  # type: ignore[return-value]
                totals = plus(before.totals, deltas)  # type: ignore[arg-type]
            made = _Stream(
                time_ns=time_ns,
                totals=totals,
                kind=kind,
                request=request,
                came_at=self._now_seconds(),
                n_bytes=_BYTES_PER_STREAM + len(name[1]) + len(kind or b"") + _bytes_of(totals),
            )
            if before is not None:
                self._streams.move_to_end(name)
            if (fault := self._make_room(made, before)) is not None:
                return fault
            if before is not None and before.request == request:
                self._keep_earlier(name, before)
            self._streams[name] = made
            self._n_bytes += made.n_bytes - (0 if before is None else before.n_bytes)
            return totals

    def _keep_earlier(self, name: _Name, before: _Stream) -> None:
        """Keep totals that are not the last ones any more, in place of the oldest such ones.

        A request that is sent again has all of its points again. Those of the next request come
        later, so that one point of a stream in a request, which is usual, takes no room here.
        """
        replaced = self._earlier.pop((name, before.time_ns), None)
        self._earlier[name, before.time_ns] = before
        self._n_earlier_bytes += before.n_bytes - (0 if replaced is None else replaced.n_bytes)
        while self._n_earlier_bytes > self._max_earlier_bytes:
            _, oldest = self._earlier.popitem(last=False)
            self._n_earlier_bytes -= oldest.n_bytes

    def _make_room(self, made: _Stream, before: _Stream | None) -> str | None:
        """Give up idle streams until there is room for another one; a text if there is none."""
        n_streams = int(before is None)
        n_bytes = made.n_bytes - (0 if before is None else before.n_bytes)
        while (fault := self._lack(n_streams, n_bytes)) is not None:
            name, oldest = next(iter(self._streams.items()), (("", b""), None))
            if oldest is None or oldest is before or made.came_at - oldest.came_at < _IDLE_SECONDS:
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


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """Adds the points of a request of a tenant to the totals.

    A request that is sent again, since its sender got no answer or 503, becomes the same samples: a
    point with the time of one that was added is that point. Both methods return the totals after a
    point, or a text if it cannot be added.
    """

    _all: DeltaTotals
    _tenant: str
    _number: int
    _latest_ms: int | None

    def add(
        self, key: bytes, time_ns: int, deltas: Sequence[float], bounds: Sequence[float] = ()
    ) -> tuple[float, ...] | str:
        """Add numbers; those of a histogram with other bounds begin again."""
        numbers = tuple(float(delta) for delta in deltas)
        kind = _ONE_NUMBER
        if len(numbers) > 1:
            kind = array("d", (len(numbers), *bounds)).tobytes()
        return self._add(key, time_ns, numbers, kind, _sum)

    def add_exponential(
        self, key: bytes, time_ns: int, deltas: ExponentialCounts
    ) -> ExponentialCounts | str:
        """The same for a point of an exponential histogram."""
        return self._add(key, time_ns, deltas.bounded(), None, ExponentialCounts.plus)

    def _add(
        self,
        key: bytes,
        time_ns: int,
        deltas: TotalT,
        kind: bytes | None,
        plus: Callable[[TotalT, TotalT], TotalT],
    ) -> TotalT | str:
        # It would not be stored, but all further points would be older.
        if self._latest_ms is not None and time_ns // 1_000_000 > self._latest_ms:
            return TOO_FAR_AHEAD
        return self._all.add((self._tenant, key), time_ns, deltas, kind, plus, self._number)


def _bytes_of(totals: object) -> int:
    if isinstance(totals, ExponentialCounts):
        return totals.n_bytes
    return _BYTES_PER_NUMBER * len(totals) if isinstance(totals, tuple) else 0


def _sum(totals: tuple[float, ...], deltas: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(map(float.__add__, totals, deltas))
