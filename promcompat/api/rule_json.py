"""Rule groups and alerts as the JSON of Prometheus' `/api/v1/rules` and `/api/v1/alerts`."""

import hashlib
from collections.abc import Sequence

from promcompat.alerting.rule_service import GroupStatus, RuleStatus
from promcompat.core.alerting.alerts import Alert
from promcompat.core.texts.strconv import format_exponent
from promcompat.core.texts.times import format_time_briefly

ZERO_TIME = "0001-01-01T00:00:00Z"


def format_time(unix_ms: int) -> str:
    """RFC 3339 as Go's JSON has it; 0 means no time."""
    return format_time_briefly(unix_ms) if unix_ms else ZERO_TIME


def _seconds(milliseconds: int) -> float:
    """As Go's JSON has them: whole ones have no decimal point."""
    seconds, rest = divmod(milliseconds, 1000)
    return milliseconds / 1000 if rest else seconds


def alert_json(alert: Alert, silenced_by: Sequence[int] = ()) -> dict[str, object]:
    """One active alert.

    `silencedBy`, Alertmanager's name, is only present if a silence applies to the alert: Prometheus
    has no such member, and its clients ignore it.
    """
    document: dict[str, object] = {
        "labels": alert.labels.as_dict(),
        "annotations": dict(sorted(alert.annotations.items())),
        "state": alert.state.value,
        "activeAt": format_time(alert.active_at_ms),
    }
    if alert.keep_firing_since_ms:
        document["keepFiringSince"] = format_time(alert.keep_firing_since_ms)
    if silenced_by:
        document["silencedBy"] = [str(silence_id) for silence_id in silenced_by]
    return {**document, "value": format_exponent(alert.value)}


def rule_json(status: RuleStatus, *, with_alerts: bool) -> dict[str, object]:
    """One rule, its annotations as they are written."""
    if status.rule.is_recording:
        return _recording_json(status)
    rule = status.rule
    document: dict[str, object] = {
        "state": status.state.value,
        "name": rule.name,
        "query": status.query,
        "duration": _seconds(rule.for_ms),
        "keepFiringFor": _seconds(rule.keep_firing_for_ms),
        "labels": dict(sorted(rule.all_labels.items())),
        "annotations": dict(sorted(rule.annotations.items())),
        "alerts": [alert_json(alert) for alert in status.alerts] if with_alerts else None,
    }
    return {**document, **_evaluation_json(status), "type": "alerting"}


def _recording_json(status: RuleStatus) -> dict[str, object]:
    document: dict[str, object] = {"name": status.rule.name, "query": status.query}
    if status.rule.labels:
        document["labels"] = dict(sorted(status.rule.labels.items()))
    return {**document, **_evaluation_json(status), "type": "recording"}


def _evaluation_json(status: RuleStatus) -> dict[str, object]:
    evaluation = status.evaluation
    document: dict[str, object] = {"health": _health(status)}
    if evaluation is not None and evaluation.error:
        document["lastError"] = evaluation.error
    return {
        **document,
        "evaluationTime": 0 if evaluation is None else evaluation.duration_seconds,
        "lastEvaluation": format_time(0 if evaluation is None else evaluation.evaluated_at_ms),
    }


def _health(status: RuleStatus) -> str:
    if status.evaluation is None:
        return "unknown"
    return "err" if status.evaluation.error else "ok"


def group_json(
    group: GroupStatus, rules: Sequence[RuleStatus], *, with_alerts: bool
) -> dict[str, object]:
    """One group with some of its rules."""
    evaluations = [rule.evaluation for rule in group.rules if rule.evaluation is not None]
    last_ms = max((evaluation.evaluated_at_ms for evaluation in evaluations), default=0)
    return {
        "name": group.name,
        "file": group.file,
        "rules": [rule_json(rule, with_alerts=with_alerts) for rule in rules],
        "interval": _seconds(group.interval_ms),
        "limit": group.limit,
        "evaluationTime": sum(evaluation.duration_seconds for evaluation in evaluations),
        "lastEvaluation": format_time(last_ms),
    }


def page_token(group: GroupStatus) -> str:
    """The value of `group_next_token` for a group."""
    return hashlib.sha256(f"{group.file};{group.name}".encode()).hexdigest()
