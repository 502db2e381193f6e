"""Alerts, rules and silences as rows and JSON documents."""

from typing import Final

import asyncpg
import orjson
from pydantic import TypeAdapter

from promcompat.core.alerts import Alert, AlertRule, AlertState, Silence
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import Labels
from sql.catalog import unix_ms
from sql.definitions.threshold_json import decode_remediation, encode_remediation
from sql.series.resolver import fingerprint_of

_ALERT: Final = TypeAdapter(Alert)
_NOT_ACKNOWLEDGED: Final = {"acknowledged_at_ms": 0, "acknowledged_by": ""}
_NOT_STORED: Final = {*_NOT_ACKNOWLEDGED, "noticed_at_ms"}


def document(value: object) -> str:
    """JSON text for a jsonb parameter."""
    return orjson.dumps(value).decode()


def labels_of(text: str) -> Labels:
    """The label set of a JSON object."""
    return Labels.of(orjson.loads(text))


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


def alert_of_row(row: asyncpg.Record) -> Alert:
    """The alert of a row of the table."""
    return Alert(
        id=row["id"],
        rule_id=row["rule_id"],
        series_id=row["series_id"],
        rule_group=row["rule_group"],
        rule_name=row["rule_name"],
        labels=labels_of(row["labels_text"]),
        series_labels=labels_of(row["series_labels_text"]),
        annotations=orjson.loads(row["annotations_text"]),
        severity=row["severity"],
        expr=row["expr"],
        interval_ms=row["interval_ms"],
        remediation=decode_remediation(row["remediation_text"]),
        state=AlertState(row["state"]),
        value=row["value"],
        active_at_ms=unix_ms(row["active_at"]),
        noticed_at_ms=unix_ms(row["noticed_at"]),
        fired_at_ms=unix_ms(row["fired_at"]),
        resolved_at_ms=unix_ms(row["resolved_at"]),
        keep_firing_since_ms=unix_ms(row["keep_firing_since"]),
        acknowledged_at_ms=unix_ms(row["acknowledged_at"]),
        acknowledged_by=row["acknowledged_by"],
    )


def rule_columns(rule: AlertRule) -> tuple[object, ...]:
    """A rule as parameters, from its group to its remediation."""
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
    )


def rule_of_row(row: asyncpg.Record) -> AlertRule:
    """The rule of a row."""
    return AlertRule(
        id=row["id"],
        group=row["rule_group"],
        name=row["name"],
        expr=row["expr"],
        interval_ms=row["interval_ms"],
        for_ms=row["for_ms"],
        keep_firing_for_ms=row["keep_firing_for_ms"],
        max_alerts=row["max_alerts"],
        severity=row["severity"],
        labels=orjson.loads(row["labels"]),
        annotations=orjson.loads(row["annotations"]),
        enabled=row["enabled"],
        remediation=decode_remediation(row["remediation"]),
        version=row["version"],
    )


def silence_matchers(silence: Silence) -> str:
    """The conditions of a silence as JSON."""
    return document([[one.name, one.op.value, one.value] for one in silence.all_matchers])


def silence_of_row(row: asyncpg.Record) -> Silence:
    """The silence of a row; equality of labels comes as labels."""
    found = [
        LabelMatcher(name, MatchOp(op), value) for name, op, value in orjson.loads(row["matchers"])
    ]
    exact = {one.name: one.value for one in found if one.op is MatchOp.EQUAL and one.value}
    others = tuple(
        one for one in found if one.op is not MatchOp.EQUAL or exact.get(one.name) != one.value
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
