"""Samples and states of rules in memory, for tests of rules without a database."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from promcompat.alerting.rule_files.series_notation import Value
from promcompat.core.alerting.alerts import Alert, AlertChange, Rule, RuleEvaluation
from promcompat.core.alerting.ports import EvaluationSession
from promcompat.core.errors import WriteRejectedError
from promcompat.core.histograms.columns import (
    HistogramCells,
    Histograms,
    histogram_cells,
    histogram_numbers,
    is_histogram,
)
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, Labels, SampleBlock, SeriesSelection, WriteBatch
from promcompat.core.ports import CheckBytes, SampleReader, SampleWriter, any_bytes
from promql.histograms.arithmetic import are_equal, were_reset
from promql.values.histogram_columns import GAUGE, NO_RESET, RESET, UNKNOWN, HistogramColumns


@dataclass(slots=True)
class _Series:
    times: list[int] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)


class MemorySamples(SampleReader, SampleWriter):
    """Samples of a series arrive in the order of time."""

    def __init__(self) -> None:
        self._series: dict[Labels, _Series] = {}
        self._by_name: defaultdict[str, list[Labels]] = defaultdict(list)

    def add(self, labels: Labels, time_ms: int, value: Value) -> bool:
        """Store a sample; False for one that is not newer than the last one and different."""
        if labels not in self._series:
            self._series[labels] = _Series()
            self._by_name[labels.get(METRIC_NAME)].append(labels)
        series = self._series[labels]
        if series.times and series.times[-1] >= time_ms:
            return series.times[-1] == time_ms and _are_equal(series.values[-1], value)
        if isinstance(value, HistogramColumns):
            value = _with_hint(value, series.values[-1] if series.values else None)
        series.times.append(time_ms)
        series.values.append(value)
        return True

    async def write(self, tenant: str, batch: WriteBatch) -> None:
        """See the port."""
        values: list[Value] = [*batch.values.tolist()]
        if batch.histograms is not None:
            columns = HistogramColumns.of(batch.histograms)
            for row in np.flatnonzero(is_histogram(batch.values)).tolist():
                values[row] = columns.take(histogram_numbers(batch.values[row : row + 1]))
        rows = zip(batch.unknown_keys, batch.timestamps.tolist(), values, strict=True)
        refused = [
            number
            for number, (key, time_ms, value) in enumerate(rows)
            if not self.add(batch.labels[key], time_ms, value)
        ]
        if refused:
            raise WriteRejectedError("duplicate sample for timestamp", tuple(refused))

    async def select(
        self,
        tenant: str,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """See the port."""
        return [self._select(selection) for selection in selections]

    def _select(self, selection: SeriesSelection) -> SampleBlock:
        found: list[tuple[Labels, list[int], list[Value]]] = []
        for labels in self._candidates(selection.matchers):
            if all(matcher.matches(labels.get(matcher.name)) for matcher in selection.matchers):
                series = self._series[labels]
                first = bisect_right(series.times, selection.start_ms)
                last = bisect_right(series.times, selection.end_ms)
                if first < last:
                    found.append((labels, series.times[first:last], series.values[first:last]))
        sizes = [len(times) for _, times, _ in found]
        cells = _cells_of([value for _, _, values in found for value in values])
        return SampleBlock(
            labels=tuple(labels for labels, _, _ in found),
            timestamps=np.array([time for _, times, _ in found for time in times], np.int64),
            values=cells.values,
            offsets=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            histograms=cells.histograms,
        )

    def _candidates(self, matchers: Sequence[LabelMatcher]) -> Collection[Labels]:
        for matcher in matchers:
            if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL:
                return self._by_name.get(matcher.value, ())
        return self._series


def _cells_of(values: Sequence[Value]) -> HistogramCells:
    """The values as a column, and the histograms among them."""
    pools = [value.stored() for value in values if isinstance(value, HistogramColumns)]
    if not pools:
        return HistogramCells(np.array(values, np.float64), None)
    places = [row for row, value in enumerate(values) if isinstance(value, HistogramColumns)]
    floats = [0.0 if isinstance(value, HistogramColumns) else value for value in values]
    column = np.array(floats, np.float64)
    column[places] = histogram_cells(np.arange(len(places)))
    return HistogramCells(column, Histograms.joined(pools))


def _with_hint(value: HistogramColumns, before: Value | None) -> HistogramColumns:
    """The histogram with the counter reset hint that Prometheus' storage gives it.

    A counter that goes on in the same chunk was not reset; of what begins a chunk, nothing is
    known. Chunks that begin because the one before is full are left aside.
    """
    if value.hints[0] == GAUGE:
        return value
    hint = UNKNOWN
    if (
        isinstance(before, HistogramColumns)
        and before.hints[0] != GAUGE
        and value.hints[0] != RESET
    ):
        both = HistogramColumns.joined([before, value]).without_reset_hints()
        shapes = both.schemas, both.zero_thresholds, both.bounds
        if all(shape[0] == shape[1] for shape in shapes):
            was_reset = were_reset(both, np.array([1]), np.array([0]))[0]
            hint = UNKNOWN if was_reset else NO_RESET
    return value.with_hint(hint)


def _are_equal(left: Value, right: Value) -> bool:
    if isinstance(left, HistogramColumns) and isinstance(right, HistogramColumns):
        both = HistogramColumns.joined([left, right])
        return bool(are_equal(both, np.array([0]), np.array([1]))[0])
    if isinstance(left, HistogramColumns) or isinstance(right, HistogramColumns):
        return False
    return bool(np.float64(left).view(np.uint64) == np.float64(right).view(np.uint64))


class MemorySession(EvaluationSession):
    """The session of one group; its rules are known by their ids."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = [(rule, 0) for rule in rules]
        self.errors: dict[int, str] = {}
        self._alerts: dict[int, Mapping[Labels, Alert]] = {}
        self._recorded: dict[int, Collection[Labels]] = {}

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """See the port."""
        return list(self._alerts.get(rule_id, {}).values())

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """See the port."""
        known = dict(self._alerts.get(rule_id, {}))
        for change in changes:
            known[change.alert.labels] = change.alert
        self._alerts[rule_id] = {
            labels: alert for labels, alert in known.items() if alert.state.is_open
        }
        self.errors[rule_id] = evaluation.error

    async def recorded_series(self, rule_id: int) -> Collection[Labels]:
        """See the port."""
        return self._recorded.get(rule_id, ())

    async def save_recorded(self, rule: Rule, series: Collection[Labels]) -> None:
        """See the port."""
        self._recorded[rule.id] = series

    async def take_removed(self) -> Collection[Labels]:
        """See the port. Rules of a test do not change."""
        return ()
