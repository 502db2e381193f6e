"""Refused requests are described in our words: where, what is wrong, what would be right."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from native_api.alerts.payloads import ResolvePayload, SilencePayload
from native_api.contract import validation
from native_api.contract.problem import Fault, fault, problem_of
from native_api.contract.route import NoQuery
from native_api.contract.validation import Expectations, quoted_value, refusal_of
from native_api.definitions.payloads import DefinitionPayload
from native_api.query.payloads import SampleListQuery, SeriesQuery
from native_api.routes import ROUTES
from native_api.rules.payloads import RulePayload


def faults_in(model: type[BaseModel], value: object) -> list[Fault]:
    try:
        model.model_validate(value)
    except ValidationError as exc:
        return [*refusal_of(exc, "query", Expectations.of(model)).faults]
    return []


@pytest.mark.parametrize(
    ("model", "value", "field", "reason", "expected"),
    [
        (SeriesQuery, {"limit": "1001"}, "limit", 'is "1001"', "an integer from 1 to 1000"),
        (SeriesQuery, {"limit": "9" * 5000}, "limit", "is", "an integer from 1 to 1000"),
        (SeriesQuery, {"limit": "x"}, "limit", 'is "x"', "an integer from 1 to 1000"),
        (SeriesQuery, {"fill": "x"}, "fill", 'is "x"', "one of none, null, previous"),
        (SeriesQuery, {"all_series": "x"}, "all_series", 'is "x"', "true or false"),
        (SeriesQuery, {"label": ["a=b"] * 101}, "label", "has 101 items", "at most 100 items"),
        (SeriesQuery, {"label": ["a"]}, "label[0]", "not a label name", "LABEL=VALUE"),
        (SeriesQuery, {"start": "x"}, "start", "not a date", "ISO 8601 with a time zone"),
        (SeriesQuery, {"start": "5", "end": "5"}, "start", "not before `end`", "before `end`"),
        (SampleListQuery, {"source": ""}, "source", "0 characters", "at least 1 character"),
        (SeriesQuery, {"bucket": "x"}, "bucket", "duration", "such as 30s"),
        (
            SeriesQuery,
            {"starts": "1"},
            "starts",
            "not recognized",
            "one of these: aggregation, all_",
        ),
        (NoQuery, {"x": "1"}, "x", "not recognized", "no other fields"),
        (SampleListQuery, {"name": "a" * 2001}, "name", "2001 characters", "1 to 2000 characters"),
        (ResolvePayload, {}, "reason", "is missing", "a string of 1 to 2000 characters"),
        (DefinitionPayload, {"unit": 1}, "unit", "is a number", "a string of at most 100"),
        (DefinitionPayload, [1], "query", "is a list", "an object"),
        (
            DefinitionPayload,
            {"alert_threshold": {"overrides": [{"labels": {}, "warning": 1}]}},
            "alert_threshold.overrides[0].labels",
            "has 0 entries",
            "an object with at least 1 entry",
        ),
        (
            DefinitionPayload,
            {"alert_threshold": {"overrides": [{"labels": {"int": 1, "a[0]": "x"}, "warning": 1}]}},
            "alert_threshold.overrides[0].labels.int",
            "is a number",
            "a string",
        ),
        (
            DefinitionPayload,
            {"alert_threshold": {"warnings": 1, "warning": 1}},
            "alert_threshold.warnings",
            "not recognized",
            "critical, direction, for, overrides, remediation, warning",
        ),
    ],
)
def test_a_fault_says_where_what_is_wrong_and_what_is_right(
    model: type[BaseModel], value: object, field: str, reason: str, expected: str
) -> None:
    (found,) = faults_in(model, value)
    assert found.field == field
    assert reason in found.reason
    assert expected in found.expected


_LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from(["gauge", "5m", "\ud800", "a\0b", "x" * 30_000]),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
_BODIES = list({id(route.body): route.body for route in ROUTES if route.body is not None}.values())
_SCHEMAS = [(TypeAdapter(body), Expectations.of(body)) for body in _BODIES]
_NAMES = [
    [*TypeAdapter(body).json_schema(mode="validation").get("properties", {}), "unheard_of"]
    for body in _BODIES
]


@given(st.data())
def test_no_text_of_a_library_is_in_a_fault(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(_BODIES) - 1))
    fields = st.dictionaries(st.sampled_from(_NAMES[index]), _VALUES, max_size=4)
    adapter, expectations = _SCHEMAS[index]
    body = json.dumps(data.draw(fields | _VALUES))
    for found in faults_in_body(adapter, expectations, body):
        assert found.reason not in ("", "is not valid")
        assert found.expected
        assert "Input should" not in found.reason + found.expected


def faults_in_body(adapter: TypeAdapter[Any], expectations: Expectations, body: str) -> list[Fault]:
    try:
        adapter.validate_json(body)
    except ValidationError as exc:
        return [*refusal_of(exc, "body", expectations).faults]
    return []


def test_all_faults_are_counted_and_the_first_hundred_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    described: list[str] = []

    def noted(location: Any, field: str, reason: str, expected: str) -> Fault:
        described.append(field)
        return fault(location, field, reason, expected)

    monkeypatch.setattr(validation, "fault", noted)
    labels = {str(number): number for number in range(5_000)}
    body = json.dumps({"name": "a", "expr": "up", "interval": "1", "labels": labels})
    with pytest.raises(ValidationError) as caught:
        RulePayload.model_validate_json(body)
    refusal = refusal_of(caught.value, "body", Expectations.of(RulePayload))
    assert (refusal.n_faults, len(refusal.faults), len(described)) == (5_001, 100, 100)
    problem = json.loads(problem_of(refusal, "path").body)
    assert (problem["n_errors"], len(problem["errors"])) == (5_001, 100)


def test_values_are_shown_short() -> None:
    assert quoted_value("a" * 1000) == '"' + "a" * 59 + "…"
    assert quoted_value(10**400) == "an integer of more than 64 bits"
    assert quoted_value("\ud800") == '"?"'
    assert [quoted_value(value) for value in (None, True, 1.5, [1], {})] == [
        "null", "true", "1.5", "a list", "an object",
    ]  # fmt: skip


def test_the_expressions_of_a_silence_are_bounded_together() -> None:
    """One may be as large as any filter; an alert is compared with each of a thousand silences."""

    def silence(n_matchers: int) -> dict[str, Any]:
        pattern = "(?i)(abcdefghij|klmnopqrst){0,20}"
        return {"matchers": [f"a=~{pattern}{n}" for n in range(n_matchers)], "reason": "r"}

    assert faults_in(SilencePayload, silence(2)) == []
    (found,) = faults_in(SilencePayload, silence(3))
    assert (found.field, found.reason) == (
        "matchers", "has regular expressions that are too large together"
    )  # fmt: skip
