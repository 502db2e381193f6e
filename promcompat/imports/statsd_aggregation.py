"""Aggregates StatsD events into the samples that are stored at each flush.

Counters add up and are never reset, so that `rate` works; gauges keep their last value; timers and
distributions become classic histograms, timers in seconds; sets are the number of distinct members
of an interval. The number of series and of members is bounded.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.model import METRIC_NAME
from promcompat.core.strconv import format_decimal
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns
from promcompat.imports.statsd_lines import StatsdEvent, StatsdKind

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, those of statsd_exporter and of the client libraries of Prometheus."""
MAX_SET_MEMBERS: Final = 10_000

_Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(slots=True)
class _Series:
    """The state of a series; `counts` are those of each bucket and of what is above."""

    kind: StatsdKind
    updated_ms: int
    value: float = 0.0
    counts: list[float] = field(default_factory=list)
    members: set[str] = field(default_factory=set)


class StatsdAggregator:
    """The series of one listener."""

    def __init__(self, max_series: int, expiry_ms: int) -> None:
        """A series without an event for `expiry_ms` is forgotten."""
        self._max_series = max_series
        self._expiry_ms = expiry_ms
        self._series: dict[_Key, _Series] = {}

    def __len__(self) -> int:
        return len(self._series)

    def add(self, event: StatsdEvent, now_ms: int) -> None:
        """Raises ValueError for another type than the series has, and for one series too many."""
        key = event.name, event.tags
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= self._max_series:
                raise ValueError(f"there are {self._max_series} series already")
            series = self._series[key] = _Series(event.kind, now_ms)
        if series.kind is not event.kind:
            raise ValueError(f"{event.name!r} is of type {series.kind.value!r} already")
        series.updated_ms = now_ms
        match event.kind:
            case StatsdKind.COUNTER:
                series.value += event.value * event.weight
            case StatsdKind.GAUGE:
                series.value = series.value + event.value if event.is_change else event.value
            case StatsdKind.SET:
                if len(series.members) < MAX_SET_MEMBERS:
                    series.members.add(event.text)
            case _:
                _observe(series, event)

    def flush(self, now_ms: int) -> ImportedColumns:
        """The samples of all series at a time; forgets those that have expired."""
        builder = ColumnsBuilder({})
        for (name, tags), series in list(self._series.items()):
            if now_ms - series.updated_ms > self._expiry_ms:
                del self._series[name, tags]
                continue
            try:
                _write(builder, dict(tags) | {METRIC_NAME: name}, series, now_ms)
            except ValueError as exc:
                builder.faults.add(name, "", str(exc))
            series.members.clear()
        return builder.finish()


def _observe(series: _Series, event: StatsdEvent) -> None:
    if not series.counts:
        series.counts = [0.0] * (len(BUCKETS) + 1)
    series.counts[bisect_left(BUCKETS, event.value)] += event.weight
    series.value += event.value * event.weight


def _write(builder: ColumnsBuilder, labels: dict[str, str], series: _Series, now_ms: int) -> None:
    if not series.counts:
        value = float(len(series.members)) if series.kind is StatsdKind.SET else series.value
        builder.add(builder.number_of(labels), now_ms, value)
        return
    name, total = labels[METRIC_NAME], 0.0
    for bound, count in zip((*BUCKETS, float("inf")), series.counts, strict=True):
        total += count
        bucket = {METRIC_NAME: f"{name}_bucket", "le": format_decimal(bound)}
        builder.add(builder.number_of(labels | bucket), now_ms, total)
    for suffix, value in (("_sum", series.value), ("_count", total)):
        named = builder.number_of(labels | {METRIC_NAME: name + suffix})
        builder.add(named, now_ms, value)
