"""JSON documents in the database: those of earlier versions are read, and written as they were."""

import math
from dataclasses import replace
from typing import Any

import orjson
import pytest

from promcompat.core.alerting.alerts import Alert, AlertState
from promcompat.core.alerting.remediation import RemediationSpec
from promcompat.core.alerting.thresholds import (
    NO_LIMIT,
    AlertThreshold,
    Direction,
    ThresholdOverride,
)
from promcompat.core.model import Labels
from sql.alerting.alert_rows import alert_document, decode_alert
from sql.definitions.threshold_json import (
    decode_threshold,
    encode_remediation,
    encode_threshold,
)

REMEDIATION_TEXT = (
    '{"workflow_type":"Remediate","task_queue":"q","input_template":{"action":{"type":"http",'
    '"url":"http://{{ $labels.host }}/","body":[1,null,2.5]}},"cooldown_ms":60000,'
    '"max_attempts":2,"needs_approval":true,"approval_timeout_ms":1000,"levels":["critical"]}'
)
REMEDIATION = RemediationSpec(
    workflow_type="Remediate",
    task_queue="q",
    input_template={
        "action": {"type": "http", "url": "http://{{ $labels.host }}/", "body": [1, None, 2.5]}
    },
    cooldown_ms=60_000,
    max_attempts=2,
    needs_approval=True,
    approval_timeout_ms=1_000,
    levels=("critical",),
)
THRESHOLD_TEXT = (
    '{"warning":80.0,"critical":null,"direction":"above","for_ms":60000,"overrides":['
    '{"labels":{"host":"a"},"warning":null,"critical":95.5},{"labels":{"host":"b","é":"x"},'
    f'"critical":null}}],"remediation":{REMEDIATION_TEXT}}}'
)
THRESHOLD = AlertThreshold(
    warning=80.0,
    critical=None,
    direction=Direction.ABOVE,
    for_ms=60_000,
    overrides=(
        ThresholdOverride(Labels.of({"host": "a"}), NO_LIMIT, 95.5),
        ThresholdOverride(Labels.of({"host": "b", "é": "x"}), None, NO_LIMIT),
    ),
    remediation=REMEDIATION,
)
PLAIN_THRESHOLD_TEXT = (
    '{"warning":1.0,"critical":2.0,"direction":"below","for_ms":0,"overrides":[],'
    '"remediation":null}'
)
ALERT_TEXT = (
    '{"id":7,"rule_id":null,"series_id":12,"rule_group":"g","rule_name":"cpu",'
    '"fingerprint":"d3821b786e3912b77b01b273cee9072f","labels":{"alertname":"cpu","host":"a"},'
    '"series_labels":{"host":"a"},"annotations":{"summary":"high"},"severity":"critical",'
    f'"expr":"cpu > 1","interval_ms":15000,"remediation":{REMEDIATION_TEXT},"state":"firing",'
    '"value":"inf","active_at_ms":1000,"fired_at_ms":2000,"resolved_at_ms":0,'
    '"keep_firing_since_ms":0}'
)
ALERT = Alert(
    id=7,
    rule_id=None,
    rule_name="cpu",
    labels=Labels.of({"alertname": "cpu", "host": "a"}),
    annotations={"summary": "high"},
    state=AlertState.FIRING,
    severity="critical",
    value=math.inf,
    active_at_ms=1_000,
    fired_at_ms=2_000,
    resolved_at_ms=0,
    keep_firing_since_ms=0,
    acknowledged_at_ms=0,
    acknowledged_by="",
    rule_group="g",
    expr="cpu > 1",
    interval_ms=15_000,
    series_id=12,
    series_labels=Labels.of({"host": "a"}),
    remediation=REMEDIATION,
)


def object_of(text: str | None) -> Any:
    assert text is not None
    return orjson.loads(text)


def test_remediation() -> None:
    assert encode_remediation(REMEDIATION) == REMEDIATION_TEXT
    assert encode_remediation(None) is None


def test_remediation_from_before_levels_is_for_every_one() -> None:
    document = object_of(THRESHOLD_TEXT)
    del document["remediation"]["levels"]
    found = decode_threshold(orjson.dumps(document).decode())
    assert found is not None
    assert found.remediation == replace(REMEDIATION, levels=())


def test_threshold() -> None:
    assert encode_threshold(THRESHOLD) == THRESHOLD_TEXT
    found = decode_threshold(THRESHOLD_TEXT)
    assert found is not None
    first, second = found.overrides
    assert (first.labels, first.critical) == (Labels.of({"host": "a"}), 95.5)
    assert math.isnan(first.warning if first.warning is not None else 0)
    assert (second.labels, second.warning) == (Labels.of({"host": "b", "é": "x"}), None)
    assert math.isnan(second.critical if second.critical is not None else 0)
    assert replace(found, overrides=()) == replace(THRESHOLD, overrides=())


def test_threshold_without_extras() -> None:
    threshold = AlertThreshold(warning=1.0, critical=2.0, direction=Direction.BELOW)
    assert encode_threshold(threshold) == PLAIN_THRESHOLD_TEXT
    assert decode_threshold(PLAIN_THRESHOLD_TEXT) == threshold
    assert encode_threshold(None) is decode_threshold(None) is None


def test_alert() -> None:
    acknowledged = replace(ALERT, acknowledged_at_ms=5, acknowledged_by="me", noticed_at_ms=3)
    assert alert_document(acknowledged) == object_of(ALERT_TEXT)
    assert decode_alert(ALERT_TEXT) == ALERT


@pytest.mark.parametrize("value", [1.5, -0.0, 5e-324, -math.inf, math.nan])
def test_values_of_alerts_keep_what_json_has_no_number_for(value: float) -> None:
    text = orjson.dumps(alert_document(replace(ALERT, value=value))).decode()
    assert object_of(text)["value"] == repr(value)
    assert repr(decode_alert(text).value) == repr(value)


def test_alert_of_a_rule_without_remediation() -> None:
    alert = replace(ALERT, rule_id=3, series_id=None, remediation=None)
    document = alert_document(alert)
    assert (document["rule_id"], document["series_id"], document["remediation"]) == (3, None, None)
    assert decode_alert(orjson.dumps(document).decode()) == alert
