"""The states of alerts: tables of cases, and properties of any course of events."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.alerting.state_machine import (
    AlertProgress,
    AlertTiming,
    OutageRule,
    advance_alert,
    advance_alerts,
    after_outage,
    check_limit,
    close_alert,
    group_slot,
    transitions_between,
)
from promcompat.core.alerting.alerts import AlertState
from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels

NAN = float("nan")
Course = list[float | None]


def run(course: Course, timing: AlertTiming) -> list[str]:
    """The letter of the state after each evaluation, one a second: a dot for none."""
    progress: AlertProgress | None = None
    letters = []
    for second, value in enumerate(course, start=1):
        progress = advance_alert(progress, value, second * 1000, timing)
        letters.append("." if progress is None else progress.state.value[0])
        if progress is not None and not progress.state.is_open:
            progress = None
    return letters


@pytest.mark.parametrize(
    ("course", "for_s", "keep_s", "expected"),
    [
        ([1, 1, None, None], 0, 0, "ffr."),
        ([1, 1, 1, None], 2, 0, "ppfr"),
        ([1, None, 1, 1, 1], 2, 0, "pippf"),
        ([1, None, None, None, None], 0, 2, "fffr."),
        ([1, None, 1, None, None, None], 0, 2, "fffffr"),
        ([1, None, 1, None], 1, 3, "pipi"),
        ([0.0, NAN, None], 0, 0, "ffr"),
        ([None, None], 5, 5, ".."),
    ],
)
def test_states_follow_the_evaluations_for_and_keep_firing_for(
    course: Course, for_s: int, keep_s: int, expected: str
) -> None:
    assert "".join(run(course, AlertTiming(for_s * 1000, keep_s * 1000))) == expected


def test_times_are_those_of_the_evaluations() -> None:
    timing = AlertTiming(1000, 1000)
    pending = advance_alert(None, 1.0, 10_000, timing)
    assert pending is not None
    firing = advance_alert(pending, 2.0, 11_000, timing)
    assert firing is not None
    assert (firing.active_at_ms, firing.fired_at_ms, firing.value) == (10_000, 11_000, 2.0)
    kept = advance_alert(firing, None, 12_000, timing)
    assert kept is not None
    assert (kept.state, kept.keep_firing_since_ms) == (AlertState.FIRING, 12_000)
    back = advance_alert(kept, 3.0, 12_500, timing)
    assert back is not None
    assert back.keep_firing_since_ms == 0
    ended = close_alert(kept, 13_000)
    assert (ended.state, ended.resolved_at_ms) == (AlertState.RESOLVED, 13_000)
    steps = [(step.from_state, step.to_state) for step in transitions_between(None, firing)]
    assert steps == [
        (AlertState.INACTIVE, AlertState.PENDING),
        (AlertState.PENDING, AlertState.FIRING),
    ]
    assert transitions_between(firing, kept) == ()


@pytest.mark.parametrize(
    ("for_min", "pending_min", "outage_min", "fires_after_min"),
    [
        (60, 20, 30, 40),  # The rest of `for`.
        (60, 55, 30, 10),  # The rest is shorter than the grace period.
        (60, 20, 61, 60),  # The outage was too long: anew.
        (5, 4, 3, 5),  # `for` is shorter than the grace period: anew.
        (0, 0, 3, 0),
    ],
)
def test_for_after_an_outage(
    for_min: int, pending_min: int, outage_min: int, fires_after_min: int
) -> None:
    minute, began = 60_000, 1_000_000
    last = began + pending_min * minute
    at, for_ms = last + outage_min * minute, for_min * minute
    pending = AlertProgress(state=AlertState.PENDING, value=1.0, active_at_ms=began)
    found = after_outage(pending, last, at, for_ms, OutageRule())
    assert found.active_at_ms + for_ms - at == fires_after_min * minute
    firing = AlertProgress(state=AlertState.FIRING, value=1.0, active_at_ms=began, fired_at_ms=last)
    assert after_outage(firing, last, at, for_ms, OutageRule()) == firing


def test_the_limit_counts_open_alerts() -> None:
    found = {Labels.of({"n": str(n)}): 1.0 for n in range(3)}
    advanced = advance_alerts({}, found, 1000, AlertTiming())
    check_limit(advanced.values(), 3)
    check_limit(advanced.values(), 0)
    with pytest.raises(ExecutionError, match=r"^exceeded limit of 2 with 3 alerts$"):
        check_limit(advanced.values(), 2)
    ended = advance_alerts(advanced, {}, 2000, AlertTiming())
    check_limit(ended.values(), 2)


courses = st.lists(st.one_of(st.none(), st.floats(0, 9)), max_size=30)
timings = st.builds(
    AlertTiming,
    st.integers(0, 5).map(lambda seconds: seconds * 1000),
    st.integers(0, 5).map(lambda seconds: seconds * 1000),
)


@given(courses, timings, st.data())
def test_a_restart_at_any_point_changes_nothing(
    course: Course, timing: AlertTiming, data: st.DataObject
) -> None:
    restarts = data.draw(st.sets(st.integers(1, len(course) or 1)))
    progress: AlertProgress | None = None
    letters = []
    for second, value in enumerate(course, start=1):
        if second in restarts and progress is not None:
            stored = json.loads(json.dumps(asdict(progress)))
            progress = AlertProgress(**{**stored, "state": AlertState(stored["state"])})
        progress = advance_alert(progress, value, second * 1000, timing)
        letters.append("." if progress is None else progress.state.value[0])
        if progress is not None and not progress.state.is_open:
            progress = None
    assert letters == run(course, timing)


@given(courses, timings)
def test_steps_form_a_path(course: Course, timing: AlertTiming) -> None:
    allowed = {"inactive": {"pending"}, "pending": {"firing", "inactive"}, "firing": {"resolved"}}
    progress: AlertProgress | None = None
    at = "inactive"
    for second, value in enumerate(course, start=1):
        after = advance_alert(progress, value, second * 1000, timing)
        if after is None:
            continue
        for step in transitions_between(progress, after):
            assert step.from_state.value == at
            assert step.to_state.value in allowed[at]
            at = step.to_state.value
        assert at == after.state.value
        progress = after if after.state.is_open else None
        at = at if progress else "inactive"


@given(st.integers(1, 10**7), st.integers(0, 2**42), st.text(max_size=5))
def test_slots_are_an_interval_apart(interval_ms: int, now_ms: int, group: str) -> None:
    slot = group_slot("t", "rules", group, interval_ms, now_ms)
    assert now_ms - interval_ms < slot <= now_ms
    assert group_slot("t", "rules", group, interval_ms, slot) == slot
    assert group_slot("t", "rules", group, interval_ms, slot + interval_ms) == slot + interval_ms
