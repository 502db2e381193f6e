"""What an alert rule would have done in a past range, without storing the rule or its alerts."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.alerting.state_machine import (
    AlertProgress,
    AlertTiming,
    advance_alert,
    first_slot_from,
)
from promcompat.core.alerting.alerts import ALERT_NAME, Rule
from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import BoolArray, EvalRange, FloatArray, Labels
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult, ScalarGrid

MAX_EVALUATIONS = 11_000
"""The same bound as for the steps of a range query."""
MAX_ALERTS = 100_000
"""Each takes 300 bytes and 10 microseconds, and a series may begin one at every other step."""


@dataclass(frozen=True, slots=True)
class TrialAlert:
    """An alert that the rule would have had; `progress` is its last state in the range."""

    labels: Labels
    progress: AlertProgress


@dataclass(frozen=True, slots=True)
class RuleTrial:
    """The alerts of a past range, those that became active first at the front.

    `times` are the evaluations; `most_at_once` is the highest number of elements that one of them
    found.
    """

    times: EvalRange
    alerts: Sequence[TrialAlert]
    most_at_once: int


async def try_rule(
    queries: QueryRunner, tenant: str, rule: Rule, start_ms: int, end_ms: int
) -> RuleTrial:
    """The alerts of a rule if it had been evaluated from `start_ms` to `end_ms`, both inclusive.

    It begins without alerts. Labels whose values are templates are left out. Raises BadDataError
    for a recording rule, for a range without, or with too many evaluations, and for more than
    `MAX_ALERTS` alerts, ExecutionError where an evaluation would have failed because two alerts had
    the same labels, and the errors of queries.
    """
    if rule.is_recording:
        raise BadDataError("a recording rule has no alerts; its expression shows what it records")
    first_ms = first_slot_from(tenant, rule, start_ms)
    n_steps = (end_ms - first_ms) // rule.interval_ms + 1
    if not 1 <= n_steps <= MAX_EVALUATIONS:
        raise BadDataError(
            f"the rule is evaluated {max(n_steps, 0)} times in this range; use a range and an "
            f"interval with 1 to {MAX_EVALUATIONS} evaluations"
        )
    times = EvalRange(first_ms, first_ms + (n_steps - 1) * rule.interval_ms, rule.interval_ms)
    shift_ms = rule.query_offset_ms
    asked = EvalRange(times.start_ms - shift_ms, times.end_ms - shift_ms, times.step_ms)
    result = await queries.run(Query(tenant, rule.expr, asked))
    # In a thread, as there may be thousands of series.
    return await asyncio.to_thread(_trial_of, rule, times, result)


def _trial_of(rule: Rule, times: EvalRange, result: QueryResult) -> RuleTrial:
    matrix = _matrix_of(result)
    timing = AlertTiming(rule.for_ms, rule.keep_firing_for_ms)
    labels = [_alert_labels(rule, found) for found in matrix.labels]
    _check_distinct(labels, matrix.present)
    _check_number(matrix.present)
    alerts = [
        TrialAlert(labels[row], progress)
        for row in range(len(labels))
        for progress in alerts_of_series(matrix.values[row], matrix.present[row], times, timing)
    ]
    alerts.sort(key=lambda alert: alert.progress.active_at_ms)
    most = int(matrix.present.sum(axis=0).max(initial=0))
    return RuleTrial(times, alerts, most)


def _matrix_of(result: QueryResult) -> Matrix:
    match result.value:
        case Matrix(histograms=None) as matrix:
            return matrix
        case Matrix() as matrix:
            # Alerts have the value 0 of a histogram.
            values = np.where(is_histogram(matrix.values), 0.0, matrix.values)
            return replace(matrix, values=values, histograms=None)
        case ScalarGrid() as scalar:
            values = scalar.values[np.newaxis, :]
            return Matrix.of([Labels()], values, np.ones(values.shape, bool))
        case _:
            raise ExecutionError("rule result is not a vector or scalar")


def _alert_labels(rule: Rule, found: Labels) -> Labels:
    labels = found.without_name()
    for name, text in rule.all_labels.items():
        if "{{" not in text:
            labels = labels.with_label(name, text)
    return labels.with_label(ALERT_NAME, rule.name)


def _check_distinct(labels: Sequence[Labels], present: BoolArray) -> None:
    """Raises ExecutionError, in Prometheus' words, if two alerts are present at once."""
    rows: dict[Labels, BoolArray] = {}
    for row, each in enumerate(labels):
        known = rows.get(each)
        if known is not None and (known & present[row]).any():
            raise ExecutionError(
                "vector contains metrics with the same labelset after applying alert labels"
            )
        rows[each] = present[row] if known is None else known | present[row]


def _check_number(present: BoolArray) -> None:
    """Raises BadDataError if elements appear more often than there may be alerts."""
    n_alerts = int(present[:, :1].sum() + (present[:, 1:] & ~present[:, :-1]).sum())
    if n_alerts > MAX_ALERTS:
        raise BadDataError(
            f"the rule has {n_alerts} alerts in this range; use a shorter range or an expression "
            f"with at most {MAX_ALERTS}"
        )


def alerts_of_series(
    values: FloatArray, present: BoolArray, times: EvalRange, timing: AlertTiming
) -> Iterator[AlertProgress]:
    """The alerts of one series. Of a run of steps, only those that can change a state count."""
    step_ms = times.step_ms
    edges = np.diff(np.concatenate(([0], present.astype(np.int8), [0])))
    firsts, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    next_firsts = [*firsts[1:], len(present)][: len(firsts)]
    due, gone = -(-timing.for_ms // step_ms), -(-timing.keep_firing_for_ms // step_ms)
    progress: AlertProgress | None = None
    for first, end, next_first in zip(firsts, ends, next_firsts, strict=True):
        # A run begins, fires when `for` has passed, and ends at once or after keep_firing_for.
        for step in sorted({first, first + due, end, end + gone}):
            if step >= next_first:
                break
            value = float(values[step]) if present[step] else None
            at_ms = times.start_ms + step * step_ms
            progress = advance_alert(progress, value, at_ms, timing)
            if progress is not None and not progress.state.is_open:
                yield progress
                progress = None
    if progress is not None:
        yield progress
