"""A trial of a rule finds what evaluating it step by step finds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting.rule_trial import MAX_EVALUATIONS, alerts_of_series, try_rule
from promcompat.alerting.state_machine import AlertProgress, AlertTiming, advance_alert
from promcompat.core.alerting.alerts import Rule
from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import histogram_cells
from promcompat.core.model import EvalRange, Labels
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from tests.support.histograms import histogram

STEP_MS = 10_000


@given(
    st.lists(st.sampled_from((None, 1.0, 2.0)), min_size=1, max_size=40),
    st.integers(0, 50_000),
    st.integers(0, 50_000),
)
def test_the_alerts_are_those_of_every_step(
    course: list[float | None], for_ms: int, keep_firing_for_ms: int
) -> None:
    timing = AlertTiming(for_ms, keep_firing_for_ms)
    expected: list[AlertProgress] = []
    progress: AlertProgress | None = None
    for step, value in enumerate(course):
        progress = advance_alert(progress, value, 1_000 + step * STEP_MS, timing)
        if progress is not None and not progress.state.is_open:
            expected.append(progress)
            progress = None
    expected += [] if progress is None else [progress]
    values = np.array([np.nan if value is None else value for value in course])
    times = EvalRange(1_000, 1_000 + (len(course) - 1) * STEP_MS, STEP_MS)
    found = list(alerts_of_series(values, ~np.isnan(values), times, timing))
    assert [_times(each) for each in found] == [_times(each) for each in expected]


def _times(progress: AlertProgress) -> tuple[str, int, int, int]:
    """Everything but the value, which changes while nothing else does."""
    times = progress.active_at_ms, progress.fired_at_ms, progress.resolved_at_ms
    return (progress.state, *times)


class Flapping:
    """Answers with series that have a value at every other step."""

    def __init__(self, n_series: int) -> None:
        self.n_series = n_series

    async def run(self, query: Query) -> QueryResult:
        shape = self.n_series, query.eval_range.n_steps
        present = np.broadcast_to(np.arange(shape[1]) % 2 == 0, shape)
        labels = [Labels.of({"n": str(number)}) for number in range(shape[0])]
        return QueryResult(
            Matrix.of(labels, np.ones(shape), present), query.eval_range.timestamps(), True
        )


class Histogram:
    """Answers with a native histogram at every step."""

    async def run(self, query: Query) -> QueryResult:
        values = histogram_cells(np.zeros((1, query.eval_range.n_steps), np.int64))
        matrix = Matrix.of([Labels()], values, np.ones(values.shape, bool))
        found = replace(matrix, histograms=histogram(count=3.0))
        return QueryResult(found, query.eval_range.timestamps(), True)


RULE = Rule(
    id=1, group="g", name="A", expr="x", interval_ms=STEP_MS, for_ms=0, keep_firing_for_ms=0,
    severity="", labels={}, annotations={}, enabled=True, remediation=None, version=1,
)  # fmt: skip


async def test_an_alert_has_the_value_0_of_a_histogram() -> None:
    (alert,) = (await try_rule(Histogram(), "t", RULE, 0, 2 * STEP_MS)).alerts
    assert alert.progress.value == 0


@pytest.mark.parametrize(("n_series", "n_alerts"), [(2, 11_000), (19, 104_500)])
async def test_a_rule_that_flaps_too_much_is_refused(n_series: int, n_alerts: int) -> None:
    asked = Flapping(n_series), "t", RULE, 0, MAX_EVALUATIONS * STEP_MS - 1
    if n_alerts < 100_000:
        assert len((await try_rule(*asked)).alerts) == n_alerts
    else:
        with pytest.raises(BadDataError, match=f"has {n_alerts} alerts in this range"):
            await try_rule(*asked)
