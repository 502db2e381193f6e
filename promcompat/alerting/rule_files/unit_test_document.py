"""The files of `promtool test rules`, as documents."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import yaml

from promcompat.core.model import Labels
from promcompat.core.texts.yaml_nodes import StrictReader, YamlError, first_document

_FILE_FIELDS: Final = frozenset(
    ["rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare"]
)
_TEST_FIELDS: Final = frozenset(
    [
        "name",
        "interval",
        "input_series",
        "alert_rule_test",
        "promql_expr_test",
        "external_labels",
        "external_url",
        "start_timestamp",
    ]
)
_UNIX_TIME: Final = re.compile(r"-?\d{1,11}(\.\d{1,9})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    """An alert that must fire."""

    labels: Labels
    annotations: Labels


def annotations_of(texts: Mapping[str, str]) -> Labels:
    """Annotations as labels, but with those whose text is empty."""
    return Labels.of_sorted(tuple(sorted(texts.items())))


@dataclass(frozen=True, slots=True)
class AlertCase:
    """The alerts of a name that must fire at a time after the start, and no others."""

    eval_ms: int
    alert_name: str
    expected: Sequence[ExpectedAlert]


@dataclass(frozen=True, slots=True)
class ExpectedSample:
    """A sample: labels and histogram as written; the latter is empty for a sample that is a float.

    The value of a histogram is 0.
    """

    labels: str
    value: float
    histogram: str


@dataclass(frozen=True, slots=True)
class ExprCase:
    """The result of an expression."""

    expr: str
    eval_ms: int
    expected: Sequence[ExpectedSample]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestDocument:
    """One test; `series` are descriptions and values as written."""

    __test__ = False  # This is no test of pytest's.

    name: str
    interval_ms: int
    series: Sequence[tuple[str, str]]
    alerts: Sequence[AlertCase]
    exprs: Sequence[ExprCase]
    external_labels: Mapping[str, str]
    external_url: str
    start_ms: int

    @property
    def last_eval_ms(self) -> int:
        """The largest time of all cases."""
        times = [case.eval_ms for case in self.alerts] + [case.eval_ms for case in self.exprs]
        return max(times, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestFile:
    """A file of tests."""

    __test__ = False

    rule_files: Sequence[str]
    interval_ms: int
    group_order: Sequence[str]
    is_fuzzy: bool
    tests: Sequence[TestDocument]


def parse_test_file(text: str) -> TestFile:
    """Read a file. Raises YamlError with the texts of promtool."""
    reader = StrictReader()
    fields = reader.fields(first_document(text), _FILE_FIELDS, "main.unitTestFile")
    interval_ms = reader.duration_ms(fields.get("evaluation_interval")) or 60_000
    found = TestFile(
        rule_files=_texts(reader, fields.get("rule_files")),
        interval_ms=interval_ms,
        group_order=_texts(reader, fields.get("group_eval_order")),
        is_fuzzy=reader.boolean(fields.get("fuzzy_compare")),
        tests=[
            _read_test(reader, node, interval_ms)
            for node in reader.items(fields.get("tests"), "[]main.testGroup")
        ],
    )
    reader.finish()
    for name in found.group_order:
        if found.group_order.count(name) > 1:
            raise YamlError(f"group name repeated in evaluation order: {name}")
    return found


def _texts(reader: StrictReader, node: yaml.Node | None) -> list[str]:
    return [reader.text(item) for item in reader.items(node, "[]string")]


def _read_test(reader: StrictReader, node: yaml.Node, interval_ms: int) -> TestDocument:
    fields = reader.fields(node, _TEST_FIELDS, "main.testGroup")

    def items(name: str, go_type: str) -> list[yaml.Node]:
        return reader.items(fields.get(name), f"[]main.{go_type}")

    return TestDocument(
        name=reader.text(fields.get("name")),
        interval_ms=reader.duration_ms(fields.get("interval")) or interval_ms,
        series=[_read_series(reader, item) for item in items("input_series", "series")],
        alerts=[_read_alerts(reader, item) for item in items("alert_rule_test", "alertTestCase")],
        exprs=[_read_expr(reader, item) for item in items("promql_expr_test", "promqlTestCase")],
        external_labels=reader.texts(fields.get("external_labels")),
        external_url=reader.text(fields.get("external_url")),
        start_ms=_start_ms(reader.text(fields.get("start_timestamp"))),
    )


def _read_series(reader: StrictReader, node: yaml.Node) -> tuple[str, str]:
    fields = reader.fields(node, frozenset(["series", "values"]), "main.series")
    return reader.text(fields.get("series")), reader.text(fields.get("values"))


def _read_alerts(reader: StrictReader, node: yaml.Node) -> AlertCase:
    names = frozenset(["eval_time", "alertname", "exp_alerts"])
    fields = reader.fields(node, names, "main.alertTestCase")
    name = reader.text(fields.get("alertname"))
    return AlertCase(
        reader.duration_ms(fields.get("eval_time")),
        name,
        [
            _read_alert(reader, item, name)
            for item in reader.items(fields.get("exp_alerts"), "[]main.alert")
        ],
    )


def _read_alert(reader: StrictReader, node: yaml.Node, alert_name: str) -> ExpectedAlert:
    fields = reader.fields(node, frozenset(["exp_labels", "exp_annotations"]), "main.alert")
    labels = {**reader.texts(fields.get("exp_labels")), "alertname": alert_name}
    annotations = annotations_of(reader.texts(fields.get("exp_annotations")))
    return ExpectedAlert(Labels.of(labels), annotations)


def _read_expr(reader: StrictReader, node: yaml.Node) -> ExprCase:
    names = frozenset(["expr", "eval_time", "exp_samples"])
    fields = reader.fields(node, names, "main.promqlTestCase")
    samples = reader.items(fields.get("exp_samples"), "[]main.sample")
    return ExprCase(
        reader.text(fields.get("expr")),
        reader.duration_ms(fields.get("eval_time")),
        [_read_sample(reader, sample) for sample in samples],
    )


def _read_sample(reader: StrictReader, node: yaml.Node) -> ExpectedSample:
    fields = reader.fields(node, frozenset(["labels", "value", "histogram"]), "main.sample")
    return ExpectedSample(
        reader.text(fields.get("labels")),
        reader.number(fields.get("value")),
        reader.text(fields.get("histogram")),
    )


def _start_ms(text: str) -> int:
    """Unix seconds or RFC 3339. Raises YamlError."""
    if not text:
        return 0
    if _UNIX_TIME.fullmatch(text):
        return round(float(text) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise YamlError(f"start_timestamp {text!r} is neither Unix seconds nor RFC 3339") from exc
    return round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)
