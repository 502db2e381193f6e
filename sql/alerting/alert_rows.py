"""Alerts, rules and silences as rows and JSON documents."""

from typing import Final

import asyncpg
import orjson
from pydantic import TypeAdapter

from promcompat.core.alerting.alerts import Alert, Rule, Silence
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import Labels
from promcompat.core.series_identity import fingerprint_of
from sql.database.rows import row_reader
from sql.definitions.threshold_json import encode_remediation

_ALERT: Final = TypeAdapter(Alert)
_NOT_ACKNOWLEDGED: Final = {"acknowledged_at_ms": 0, "acknowledged_by": ""}
_NOT_STORED: Final = {*_NOT_ACKNOWLEDGED, "noticed_at_ms"}

alert_of_row: Final = row_reader(
    Alert, json=("labels", "series_labels", "annotations", "remediation")
)
rule_of_row: Final = row_reader(Rule, json=("labels", "annotations", "remediation"))


def document(value: object) -> str:
    """JSON text for a jsonb parameter."""
    return orjson.dumps(value).decode()


def alert_document(alert: Alert) -> dict[str, object]:
    """An alert as JSON; its value as text, since JSON has no number for NaN and the infinities."""
    return {
        **_ALERT.dump_python(alert, mode="json", exclude=_NOT_STORED),
        "fingerprint": (fingerprint_of(alert.labels) or b"").hex(),
        "value": repr(alert.value),
    }


def decode_alert(text: str) -> Alert:
    """The alert of a document that `alert_document` made, not acknowledged."""
    return _ALERT.validate_python({**_NOT_ACKNOWLEDGED, **orjson.loads(text)})


def rule_columns(rule: Rule) -> tuple[object, ...]:
    """A rule as parameters, from its group to whether its interval is inherited."""
    return (
        rule.group,
        rule.name,
        rule.expr,
        rule.interval_ms,
        rule.for_ms,
        rule.keep_firing_for_ms,
        rule.max_alerts,
        rule.severity,
        document(dict(rule.labels)),
        document(dict(rule.annotations)),
        rule.enabled,
        encode_remediation(rule.remediation),
        rule.namespace,
        rule.kind.value,
        rule.position,
        rule.query_offset_ms,
        rule.inherits_interval,
    )


def silence_matchers(silence: Silence) -> str:
    """The conditions of a silence as JSON."""
    return document(
        [[matcher.name, matcher.op.value, matcher.value] for matcher in silence.all_matchers]
    )


def silence_of_row(row: asyncpg.Record) -> Silence:
    """The silence of a row; conditions of equality become `labels`."""
    found = [
        LabelMatcher(name, MatchOp(op), value) for name, op, value in orjson.loads(row["matchers"])
    ]
    exact = {
        matcher.name: matcher.value
        for matcher in found
        if matcher.op is MatchOp.EQUAL and matcher.value
    }
    others = tuple(
        matcher
        for matcher in found
        if matcher.op is not MatchOp.EQUAL or exact.get(matcher.name) != matcher.value
    )
    return Silence(
        id=row["id"],
        labels=Labels.of(exact),
        matchers=others,
        reason=row["reason"],
        created_by=row["created_by"],
        starts_at_ms=row["starts_at_ms"],
        ends_at_ms=row["ends_at_ms"],
    )
