"""Between an alert as it is stored and what the state machine knows of it."""

from dataclasses import replace

from promcompat.core.alerts import Alert
from promcompat.core.rule_groups import AlertProgress


def progress_of(alert: Alert) -> AlertProgress:
    """What the state machine knows of an alert."""
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
