"""Aggregates StatsD events into the samples that are stored at each flush.

Counters add up and are never reset, so that `rate` works; gauges keep their last value; timers and
distributions become classic histograms, timers in seconds; sets are the number of distinct members
of an interval. The number of series and of members is bounded, and what they take of memory.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from promcompat.core.model import METRIC_NAME
from promcompat.core.texts.strconv import format_decimal
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns, key_of
from promcompat.imports.statsd_lines import StatsdEvent, StatsdKind

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, those of statsd_exporter and of the client libraries of Prometheus."""
MAX_SET_MEMBERS: Final = 10_000

_MAX_BYTES: Final = 64 << 20
_MEMBER_BYTES: Final = 64
_SERIES_OF_HISTOGRAM: Final = len(BUCKETS) + 3
"""Its buckets with that of `+Inf`, its sum and its count."""
_Tags = tuple[tuple[str, str], ...]
_HISTOGRAMS: Final = frozenset((StatsdKind.TIMER, StatsdKind.DISTRIBUTION))


@dataclass(slots=True)
class _Metric:
    """The state of a metric with its tags.

    `keys` are those of its series, which are encoded only once. `counts` are those of each bucket
    and of what is above, and `members` the hashes of the members of a set.
    """

    kind: StatsdKind
    keys: tuple[bytes, ...]
    updated_ms: int
    value: float = 0.0
    counts: list[float] = field(default_factory=list)
    members: set[int] = field(default_factory=set)

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.keys)) + _MEMBER_BYTES * len(self.members)

    def values(self) -> list[float]:
        """The value of each series."""
        if self.kind is StatsdKind.SET:
            return [float(len(self.members))]
        if self.kind not in _HISTOGRAMS:
            return [self.value]
        totals = list(accumulate(self.counts))
        return [*totals, self.value, totals[-1]]


class StatsdAggregator:
    """The metrics of one listener; their series, and what they take of memory, are bounded."""

    def __init__(self, max_series: int, expiry_ms: int, max_bytes: int = _MAX_BYTES) -> None:
        """A metric without an event for `expiry_ms` is forgotten.

        A histogram is a series for each bucket, and two more.
        """
        self._max_series = max_series
        self._max_bytes = max_bytes
        self._expiry_ms = expiry_ms
        self._metrics: dict[tuple[str, _Tags], _Metric] = {}
        self._n_series = self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._metrics)

    def add(self, event: StatsdEvent, now_ms: int) -> None:
        """Raises ValueError for another type than the metric has, and for one too many."""
        key = event.name, event.tags
        metric = self._metrics.get(key)
        if metric is None:
            metric = self._metrics[key] = self._new_metric(event, now_ms)
        if metric.kind is not event.kind:
            raise ValueError(f"{event.name!r} is of type {metric.kind.value!r} already")
        metric.updated_ms = now_ms
        match event.kind:
            case StatsdKind.COUNTER:
                metric.value += event.value * event.weight
            case StatsdKind.GAUGE:
                metric.value = metric.value + event.value if event.is_change else event.value
            case StatsdKind.SET:
                self._add_member(metric, hash(event.text))
            case _:
                metric.counts[bisect_left(BUCKETS, event.value)] += event.weight
                metric.value += event.value * event.weight

    def flush(self, now_ms: int) -> ImportedColumns:
        """The samples of all series at a time; forgets those that have expired.

        Of hundreds of thousands that takes a second.
        """
        builder = ColumnsBuilder({})
        for key, metric in list(self._metrics.items()):
            if now_ms - metric.updated_ms > self._expiry_ms:
                del self._metrics[key]
                self._n_series -= len(metric.keys)
                self._n_bytes -= metric.n_bytes
                continue
            for series_key, value in zip(metric.keys, metric.values(), strict=True):
                builder.add(builder.number_of_key(series_key), now_ms, value)
            self._n_bytes -= _MEMBER_BYTES * len(metric.members)
            metric.members.clear()
        return builder.finish()

    def _new_metric(self, event: StatsdEvent, now_ms: int) -> _Metric:
        # First, as making the keys of a histogram takes as long as reading twenty lines.
        n_series = _SERIES_OF_HISTOGRAM if event.kind in _HISTOGRAMS else 1
        if self._n_series + n_series > self._max_series:
            raise ValueError(f"there are {self._n_series} series already")
        metric = _Metric(event.kind, _keys_of(event), now_ms)
        if event.kind in _HISTOGRAMS:
            metric.counts = [0.0] * (len(BUCKETS) + 1)
        if self._n_bytes + metric.n_bytes > self._max_bytes:
            raise ValueError(f"the series would take more than {self._max_bytes} bytes")
        self._n_series += len(metric.keys)
        self._n_bytes += metric.n_bytes
        return metric

    def _add_member(self, metric: _Metric, member: int) -> None:
        is_room = self._n_bytes + _MEMBER_BYTES <= self._max_bytes
        if is_room and len(metric.members) < MAX_SET_MEMBERS and member not in metric.members:
            metric.members.add(member)
            self._n_bytes += _MEMBER_BYTES


def _keys_of(event: StatsdEvent) -> tuple[bytes, ...]:
    """The keys of the series of a metric. Raises ValueError if they cannot be stored."""
    tags, name = dict(event.tags), event.name
    if event.kind not in _HISTOGRAMS:
        return (key_of(tags | {METRIC_NAME: name}),)
    buckets = (
        {METRIC_NAME: f"{name}_bucket", "le": format_decimal(bound)}
        for bound in (*BUCKETS, math.inf)
    )
    others = ({METRIC_NAME: name + suffix} for suffix in ("_sum", "_count"))
    return tuple(key_of(tags | labels) for labels in (*buckets, *others))
