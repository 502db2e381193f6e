"""The states of alerts, as a pure function of what an evaluation found; and when groups run.

The rules of the states are those of Prometheus 3.5 (`rules/alerting.go` has the order of the
checks). Time comes in as a parameter, so that a restart at any point changes nothing.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from promcompat.core.alerting.alerts import (
    DEFAULT_NAMESPACE,
    Alert,
    AlertChange,
    AlertState,
    AlertTransition,
    Rule,
)
from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels


@dataclass(frozen=True, slots=True)
class AlertTiming:
    """How long a condition must hold before its alert fires, and how long it goes on firing."""

    for_ms: int = 0
    keep_firing_for_ms: int = 0


@dataclass(frozen=True, slots=True)
class OutageRule:
    """What an outage does to alerts that are pending; the defaults are those of Prometheus.

    They fire no sooner than `grace_ms` after it, or than their `for` if that is shorter. After
    more than `tolerance_ms` they begin anew.
    """

    grace_ms: int = 600_000
    tolerance_ms: int = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertProgress:
    """The state of one alert and its times in Unix ms, 0 for not yet."""

    state: AlertState
    value: float
    active_at_ms: int
    fired_at_ms: int = 0
    resolved_at_ms: int = 0
    keep_firing_since_ms: int = 0


def advance_alert(
    previous: AlertProgress | None, value: float | None, at_ms: int, timing: AlertTiming
) -> AlertProgress | None:
    """The alert after an evaluation at `at_ms`; `value` is None when the condition is not met.

    `previous` is an open alert or None; the result is None when there is still no alert.
    """
    if value is None:
        return None if previous is None else _without_value(previous, at_ms, timing)
    if previous is None:
        current = AlertProgress(state=AlertState.PENDING, value=value, active_at_ms=at_ms)
    else:
        current = replace(previous, value=value, keep_firing_since_ms=0)
    is_due = at_ms - current.active_at_ms >= timing.for_ms
    if current.state is AlertState.PENDING and is_due:
        return replace(current, state=AlertState.FIRING, fired_at_ms=at_ms)
    return current


def _without_value(previous: AlertProgress, at_ms: int, timing: AlertTiming) -> AlertProgress:
    if previous.state is AlertState.PENDING:
        return replace(previous, state=AlertState.INACTIVE, resolved_at_ms=at_ms)
    since_ms = previous.keep_firing_since_ms or at_ms
    if timing.keep_firing_for_ms > 0 and at_ms - since_ms < timing.keep_firing_for_ms:
        return replace(previous, keep_firing_since_ms=since_ms)
    return replace(previous, state=AlertState.RESOLVED, resolved_at_ms=at_ms)


def after_outage(
    previous: AlertProgress, last_ms: int, at_ms: int, for_ms: int, rule: OutageRule
) -> AlertProgress:
    """The alert at the first evaluation after an outage, before that evaluation counts.

    `last_ms` is the last evaluation before it. Nobody knows whether the condition held since then,
    so that `for` does not count this time, by the rule of Prometheus (`RestoreForState`). Alerts
    that were firing are stored as such and stay so.
    """
    if previous.state is not AlertState.PENDING:
        return previous
    is_tolerated = at_ms - last_ms <= rule.tolerance_ms
    pending_ms = last_ms - previous.active_at_ms if is_tolerated else 0
    remaining_ms = max(for_ms - pending_ms, min(for_ms, rule.grace_ms))
    return replace(previous, active_at_ms=at_ms + remaining_ms - for_ms)


def no_later_than(previous: AlertProgress, at_ms: int) -> AlertProgress:
    """The alert with no time after `at_ms`: such times are of a clock that has been set back.

    `for` and `keep_firing_for` would otherwise not have passed before the clock is there again.
    """
    return replace(
        previous,
        active_at_ms=min(previous.active_at_ms, at_ms),
        fired_at_ms=min(previous.fired_at_ms, at_ms),
        keep_firing_since_ms=min(previous.keep_firing_since_ms, at_ms),
    )


def advance_alerts(
    previous: Mapping[Labels, AlertProgress],
    found: Mapping[Labels, float],
    at_ms: int,
    timing: AlertTiming,
) -> dict[Labels, AlertProgress]:
    """The alerts of a rule after an evaluation: the open ones and those that it closed.

    `previous` holds the open ones by their labels, `found` the value of each element for which
    the condition is met.
    """
    advanced: dict[Labels, AlertProgress] = {}
    for labels in previous.keys() | found.keys():
        progress = advance_alert(previous.get(labels), found.get(labels), at_ms, timing)
        if progress is not None:
            advanced[labels] = progress
    return advanced


def check_limit(advanced: Iterable[AlertProgress], limit: int) -> None:
    """Raises ExecutionError, in Prometheus' words, when more than `limit` alerts are open."""
    n_open = sum(progress.state.is_open for progress in advanced)
    if 0 < limit < n_open:
        raise ExecutionError(f"exceeded limit of {limit} with {n_open} alerts")


def close_alert(previous: AlertProgress, at_ms: int) -> AlertProgress:
    """The alert when its rule is gone: `keep_firing_for` does not count."""
    return _without_value(previous, at_ms, AlertTiming())


def transitions_between(
    previous: AlertProgress | None, current: AlertProgress
) -> tuple[AlertTransition, ...]:
    """The steps between the two; an alert that fires at once is pending for a moment first."""
    state = AlertState.INACTIVE if previous is None else previous.state
    steps: list[AlertTransition] = []
    if previous is None:
        steps.append(_step(state, AlertState.PENDING, current.active_at_ms, current.value))
        state = AlertState.PENDING
    if current.state is not state and current.state is not AlertState.PENDING:
        at_ms = current.resolved_at_ms or current.fired_at_ms
        steps.append(_step(state, current.state, at_ms, current.value))
    return tuple(steps)


def _step(
    from_state: AlertState, to_state: AlertState, at_ms: int, value: float
) -> AlertTransition:
    return AlertTransition(from_state=from_state, to_state=to_state, at_ms=at_ms, value=value)


def group_slot(tenant: str, namespace: str, group: str, interval_ms: int, now_ms: int) -> int:
    """The latest time at or before now at which a group is due.

    Groups are spread over the interval by a hash of what identifies them, the same in every
    process, so that not all of them run at once and that replicas agree on the times. Groups
    without a namespace keep the times they had before there were any.
    """
    named = () if namespace == DEFAULT_NAMESPACE else (namespace,)
    identity = "\0".join((tenant, *named, group))
    digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    offset_ms = int.from_bytes(digest) % interval_ms
    return (now_ms - offset_ms) // interval_ms * interval_ms + offset_ms


def first_slot_from(tenant: str, rule: Rule, from_ms: int) -> int:
    """The first time from `from_ms` on at which a rule is evaluated."""
    group = tenant, rule.namespace, rule.group
    return group_slot(*group, rule.interval_ms, from_ms - 1) + rule.interval_ms


def progress_of(alert: Alert) -> AlertProgress:
    """The part of an alert that the state machine works on."""
    return AlertProgress(
        state=alert.state,
        value=alert.value,
        active_at_ms=alert.active_at_ms,
        fired_at_ms=alert.fired_at_ms,
        resolved_at_ms=alert.resolved_at_ms,
        keep_firing_since_ms=alert.keep_firing_since_ms,
    )


def with_progress(alert: Alert, progress: AlertProgress) -> Alert:
    """The alert after a step of the state machine."""
    return replace(
        alert,
        state=progress.state,
        value=progress.value,
        active_at_ms=progress.active_at_ms,
        fired_at_ms=progress.fired_at_ms,
        resolved_at_ms=progress.resolved_at_ms,
        keep_firing_since_ms=progress.keep_firing_since_ms,
    )


def close_change(alert: Alert, at_ms: int) -> AlertChange:
    """The end of an alert whose condition no longer counts."""
    before = progress_of(alert)
    after = close_alert(before, at_ms)
    return AlertChange(
        alert=with_progress(alert, after), transitions=transitions_between(before, after)
    )
