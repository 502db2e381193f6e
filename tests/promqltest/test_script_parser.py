"""The reader of test scripts."""

import math

import pytest

from promcompat.core.model import Labels
from tests.promqltest.notation import (
    ScriptError,
    parse_duration_ms,
    parse_metric,
    parse_number,
    parse_sequence,
    unquote,
)
from tests.promqltest.script import HistogramNotation, Load, Mark, TextCheck
from tests.promqltest.script_parser import parse_cases, read_script
from tests.promqltest.suites import own_scripts, upstream_scripts
from tests.support.factories import make_labels

SCRIPT = """
# A comment.
load 5m
  up{job="a"} 0+1x3 _ stale
  up{job="b"} 1
  rest_of_load 7

eval instant at 50m sum(up)
  {} 3

eval instant at 1m 1 + 1
  2
eval instant at 1m 2
  2

clear
load_with_nhcb 30s
  h_bucket{le="1"} 1 2

eval_fail instant at 0 up + h
  expected_fail_message many-to-many

eval_ordered instant at 1m sort(up)
  up{job="b"} 1
  up{job="a"} 2

eval range from 0 to 10m step 5m up
  expect no_warn
  expect info regex: PromQL.*
  expect info msg: PromQL info: x
  up{job="a"} 0 _ 2

eval instant at 1m "x"
  expect string "a\\"b"

eval instant at 50s up[1m]
  expect range vector from 10s to 1m step 10s
  up 1 2 3
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1d2ms", 86_400_002),
        ("1y", 31_536_000_000),
    ],
)
def test_parse_duration(text: str, expected: int) -> None:
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "5", "m", "1m1h", "-5m", "1.5h"])
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(ScriptError):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0.0),
        ("-1.5e3", -1500.0),
        (".5", 0.5),
        ("1_000", 1000.0),
        ("0x1F", 31.0),
        ("-0x10", -16.0),
        ("0b101", 5.0),
        ("0755", 493.0),
        ("+Inf", math.inf),
        ("-inf", -math.inf),
    ],
)
def test_parse_number(text: str, expected: float) -> None:
    assert parse_number(text) == expected


def test_parse_number_reads_nan_and_refuses_words() -> None:
    assert math.isnan(parse_number("NaN"))
    with pytest.raises(ScriptError):
        parse_number("up")


def test_parse_sequence_expands_every_form() -> None:
    assert parse_sequence("1 1+2x2 3-1x2 5x1 _ _x2 stale -2") == (
        *(1.0, 1.0, 3.0, 5.0, 3.0, 2.0, 1.0, 5.0, 5.0),
        *(Mark.OMITTED, Mark.OMITTED, Mark.OMITTED, Mark.STALE, -2.0),
    )


def test_parse_sequence_repeats_zero() -> None:
    assert parse_sequence("0x2 -0x1") == (0.0, 0.0, 0.0, 0.0, 0.0)


def test_parse_sequence_adds_step_by_step_like_prometheus() -> None:
    values = parse_sequence("0+0.1x3")
    assert values[3] == 0.1 + 0.1 + 0.1 != 0.3


def test_parse_sequence_recognises_histograms() -> None:
    values = parse_sequence("1 {{schema:0 count:1}}+{{count:2}}x2 {{count:1}}")
    assert values[0] == 1.0
    assert [type(value) for value in values[1:]] == [HistogramNotation] * 4


@pytest.mark.parametrize("text", ["up", "1x", "1+x3", "{{count:1", "1,2"])
def test_parse_sequence_refuses(text: str) -> None:
    with pytest.raises(ScriptError):
        parse_sequence(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up 1", make_labels("up")),
        ("up{a=\"1\", b='2',} 1", make_labels("up", a="1", b="2")),
        ('{a="x"} 1', make_labels(a="x")),
        ("{} 1", Labels()),
        ('{"a.b"="1", "m.n"} 1', Labels([("a.b", "1"), ("__name__", "m.n")])),
        ('up{path="a} b"} 1', make_labels("up", path="a} b")),
    ],
)
def test_parse_metric(text: str, expected: Labels) -> None:
    assert parse_metric(text) == (expected, " 1")


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        (r'"a\n\"\\\x41ĀU\101"', 'a\n"\\AĀUA'),
        ("'it\\'s'", "it's"),
        ("`raw\\n`", "raw\\n"),
        ('"grüß"', "grüß"),
    ],
)
def test_unquote(literal: str, expected: str) -> None:
    assert unquote(literal) == expected


def test_parse_cases_reads_loads() -> None:
    first, second = parse_cases(SCRIPT)
    (load,) = first.loads()
    assert load.interval_ms == 300_000
    assert [series.labels for series in load.series] == [
        make_labels("up", job="a"),
        make_labels("up", job="b"),
        make_labels("rest_of_load"),
    ]
    assert load.series[0].values == (0.0, 1.0, 2.0, 3.0, Mark.OMITTED, Mark.STALE)
    (load,) = second.loads()
    assert (load.interval_ms, load.with_nhcb) == (30_000, True)


def test_parse_cases_reads_results_and_goes_on_after_a_scalar() -> None:
    first, _ = parse_cases(SCRIPT)
    vector, scalar, after_scalar = first.evals()
    assert (vector.expr, vector.time_ms, vector.is_range) == ("sum(up)", 3_000_000, False)
    assert vector.expectation.series[Labels()].values == (3.0,)
    assert (scalar.expr, scalar.expectation.scalar) == ("1 + 1", 2.0)
    assert after_scalar.expr == "2"


def test_parse_cases_reads_expectations() -> None:
    _, second = parse_cases(SCRIPT)
    failing, ordered, grid, string, block = second.evals()
    assert failing.expectation.failure == TextCheck(exact="many-to-many")
    assert ordered.expectation.is_ordered
    assert ordered.expectation.series[make_labels("up", job="a")].position == 2
    assert (grid.start_ms, grid.end_ms, grid.step_ms) == (0, 600_000, 300_000)
    assert grid.expectation.warnings == []
    assert grid.expectation.infos == [
        TextCheck(pattern="PromQL.*"),
        TextCheck(exact="PromQL info: x"),
    ]
    assert string.expectation.string == 'a"b'
    assert not string.has_range_form
    assert (block.time_ms, block.start_ms, block.step_ms) == (60_000, 10_000, 10_000)
    assert len(block.expectation.series[make_labels("up")].values) == 3


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("lod 5m\n up 1", "line 1: unknown command 'lod'"),
        ("\nload 5q\n up 1", "line 2: not a valid duration"),
        ("load 5m\n up{ 1", "line 1: bad label list"),
        ("eval instant up", "line 1: bad eval"),
        ("eval instant at 1m up\n up 1 2", "line 1: more than one value"),
        ("eval instant at 1m up\n expect nothing", "line 1: bad expect"),
    ],
)
def test_parse_cases_names_the_line_of_an_error(script: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        parse_cases(script)


def test_scripts_are_read_whole() -> None:
    for path in [*own_scripts(), *upstream_scripts()]:
        script = read_script(path)
        text = path.read_text("utf-8")
        heads = [line.strip() for line in text.split("\n")]
        counts = script.counts()
        assert counts["evals"] == sum(line.startswith("eval") for line in heads)
        assert counts["loads"] == sum(line.startswith("load") for line in heads)
        loads = [load for case in script.cases for load in case.loads()]
        assert all(isinstance(load, Load) and load.interval_ms > 0 for load in loads)
