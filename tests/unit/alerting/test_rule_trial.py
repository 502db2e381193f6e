"""A trial of a rule finds what evaluating it step by step finds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting.rule_trial import alerts_of_series
from promcompat.alerting.state_machine import AlertProgress, AlertTiming, advance_alert
from promcompat.core.model import EvalRange

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
