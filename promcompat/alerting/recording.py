"""Evaluates recording rules: the result of an expression becomes samples of another metric.

Threads work on the series, as a rule may record a hundred thousand of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from promcompat.alerting.read_time import ReadTime
from promcompat.alerting.templates.expansion import cells_of
from promcompat.alerting.written_series import rule_batch
from promcompat.core.alerting.alerts import Rule
from promcompat.core.alerting.ports import EvaluationSession
from promcompat.core.errors import ExecutionError, WriteRejectedError
from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.histograms.validation import find_faults
from promcompat.core.model import METRIC_NAME, EvalRange, Labels, WriteBatch
from promcompat.core.offloading import offload
from promcompat.core.ports import SampleWriter
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult

_SAME_LABELS: Final = "vector contains metrics with the same labelset after applying rule labels"


def _recorded_samples(rule: Rule, result: QueryResult) -> dict[Labels, float]:
    """The samples of a recording rule by their series.

    Raises ExecutionError, in Prometheus' words, for two elements with the same labels after those
    of the rule, and for more than the rule may record.
    """
    samples: dict[Labels, float] = {}
    for found, value in cells_of(result):
        labels = found.with_label(METRIC_NAME, rule.name)
        for name, text in rule.labels.items():
            labels = labels.with_label(name, text)
        if labels in samples:
            raise ExecutionError(_SAME_LABELS)
        samples[labels] = value
    if 0 < rule.max_alerts < len(samples):
        raise ExecutionError(f"exceeded limit of {rule.max_alerts} with {len(samples)} series")
    return samples


class Recorder:
    """Evaluates recording rules of groups that are locked."""

    def __init__(self, writer: SampleWriter, queries: QueryRunner) -> None:
        self._writer = writer
        self._queries = queries

    async def record(
        self, session: EvaluationSession, tenant: str, rule: Rule, at_ms: int, read_time: ReadTime
    ) -> str:
        """Evaluate a rule at `at_ms` and write its samples; series that are gone end.

        Returns an error that concerns single samples, or `""`. Raises PromcompatError when nothing
        was written; the series of the last evaluation are then still those that may end.
        """
        sample_ms = at_ms - rule.query_offset_ms
        at = EvalRange.instant(sample_ms)
        question = Query(tenant, rule.expr, at, asked_at=read_time.asked_at, for_rules=True)
        result = await self._queries.run(question)
        n_series = len(result.value.labels) if isinstance(result.value, Matrix) else 1
        samples = await offload(n_series, _recorded_samples, rule, result)
        before = await session.recorded_series(rule.id)
        work = partial(_work_of, samples, before, sample_ms, histograms_of(result))
        failed, error = await self._write(tenant, await offload(n_series + len(before), work))
        read_time.renew()
        await session.save_recorded(rule, await offload(n_series, lambda: samples.keys() - failed))
        return error

    async def end_series(self, tenant: str, series: Collection[Labels], at_ms: int) -> None:
        """Write stale markers; a sample that is there already is kept."""
        await self._write(tenant, await offload(len(series), _work_of, {}, series, at_ms))

    async def _write(self, tenant: str, work: "_Work") -> tuple[set[Labels], str]:
        """The series whose samples were refused, and why.

        That a stale marker is refused is no error, as in Prometheus.
        """
        faulty, error = set(work.faults), next(iter(work.faults.values()), "")
        if not len(work.batch):
            return faulty, error
        try:
            await self._writer.write(tenant, work.batch)
        except WriteRejectedError as exc:
            rows = {row for row in (*exc.rows, *exc.refused) if row < len(work.series)}
            refused = {work.series[row] for row in rows}
            return faulty | refused, (str(exc) if rows else "") or error
        return faulty, error


@dataclass(frozen=True, slots=True)
class _Work:
    """What one evaluation writes: the samples of `series`, then stale markers.

    `faults` say what is wrong with the histograms of other series.
    """

    batch: WriteBatch
    series: Sequence[Labels]
    faults: Mapping[Labels, str]


def _work_of(
    samples: Mapping[Labels, float],
    before: Collection[Labels],
    at_ms: int,
    histograms: Histograms | None = None,
) -> _Work:
    """The valid ones of `samples`, and the end of those of `before` that have no sample."""
    faults = _histogram_faults(samples, histograms)
    valid = {labels: value for labels, value in samples.items() if labels not in faults}
    stale = [labels for labels in before if labels not in samples]
    return _Work(rule_batch(valid, stale, at_ms, histograms), list(valid), faults)


def histograms_of(result: QueryResult) -> Histograms | None:
    """What the cells of a result that are no floats refer to, as they are stored."""
    matrix = result.value
    if not isinstance(matrix, Matrix) or matrix.histograms is None:
        return None
    return matrix.histograms.stored()


def _histogram_faults(
    samples: Mapping[Labels, float], histograms: Histograms | None
) -> dict[Labels, str]:
    """What is wrong with the histograms of series: differences may have negative buckets."""
    if histograms is None or not (faults := find_faults(histograms)):
        return {}
    series, values = list(samples), np.array([*samples.values()], np.float64)
    rows = np.flatnonzero(is_histogram(values))
    numbers = histogram_numbers(values[rows]).tolist()
    pairs = zip(rows.tolist(), numbers, strict=True)
    return {series[row]: faults[number] for row, number in pairs if number in faults}
