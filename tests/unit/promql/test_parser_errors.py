"""Texts and positions of syntax errors, as Prometheus answers each of these queries."""

import itertools
from pathlib import Path

import pytest

from promcompat.core.errors import BadDataError
from promql.ast import line_col
from promql.parsing.parse_errors import ParseError
from promql.parsing.parser import parse_expr, parse_metric_selector

ERROR_TEXTS = Path(__file__).with_name("error_texts.txt")


def answered_errors() -> list[tuple[str, str]]:
    """Every query of the file with the error below it."""
    lines = ERROR_TEXTS.read_text("utf-8").splitlines()
    pairs = itertools.pairwise(lines)
    return [(query, error.strip()) for query, error in pairs if error.startswith("    ")]


def error_of(query: str) -> str:
    with pytest.raises(ParseError) as raised:
        parse_expr(query)
    return str(raised.value)


def in_full(error: str) -> str:
    position, _, reason = error.partition(": ")
    return f"{position}: parse error: {reason}"


@pytest.mark.parametrize(("query", "error"), answered_errors())
def test_error_is_the_one_of_prometheus(query: str, error: str) -> None:
    assert error_of(query) == in_full(error)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("foo bar\n  baz", '1:5: unexpected identifier "bar"'),
        ("foo ==\n\t$", "2:2: unexpected character: '$'"),
        ("# a\n\n foo[", "3:6: unexpected end of input in duration expression"),
        ('"é" +\n"日本" bar', '2:10: unexpected identifier "bar"'),
        ('foo +\n  (bar + "a")', "2:10: binary expression must contain only scalar and instant"),
        ('"a\nb"', "1:1: unterminated quoted string"),
        ('"\ufffd"', "1:1: invalid UTF-8 rune"),
        ("foo\x00", "1:4: unexpected character: '\\x00'"),
    ],
)
def test_error_is_found_in_queries_of_many_lines_and_bytes(query: str, error: str) -> None:
    assert error_of(query).startswith(in_full(error))


@pytest.mark.parametrize(
    ("query", "error"),
    [
        # Prometheus dies of these and answers "unexpected error".
        ("info(foo, 1)", 'expected type instant vector in call to function "info", got scalar'),
        ("info(foo, sum(bar))", "expected label selectors only, got vector selector instead"),
        ("abs(sum(foo atan2) by (a))", '1:18: unexpected ")" in aggregation'),
        # Prometheus shows 1:16, because it takes the parenthesis of start() for that of abs().
        (
            "abs(m @ start()) + bool abs(m)",
            "1:18: bool modifier can only be used on comparison operators",
        ),
        # Prometheus takes this for 292 years into the future.
        ("foo offset NaN", "1:12: duration out of range"),
    ],
)
def test_error_is_better_than_the_one_of_prometheus(query: str, error: str) -> None:
    assert error in error_of(query).replace(": parse error", "")


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "unknown position: no expression found in input"),
        ("  ", "1:1: no expression found in input"),
        ("# only a comment", "1:1: no expression found in input"),
    ],
)
def test_empty_query_is_refused(query: str, error: str) -> None:
    assert error_of(query) == in_full(error)


def test_parse_error_is_the_clients_fault() -> None:
    assert issubclass(ParseError, BadDataError)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "unknown position: unexpected end of input"),
        ("foo[5m]", '1:4: unexpected "["'),
        ("foo offset 5m", "1:5: unexpected <offset>"),
        ("sum(foo)", '1:4: unexpected "("'),
        ("foo{", "1:5: unexpected end of input inside braces"),
        ("1", '1:1: unexpected number "1"'),
    ],
)
def test_series_selector_is_a_selector_alone(query: str, error: str) -> None:
    with pytest.raises(ParseError) as raised:
        parse_metric_selector(query)
    assert str(raised.value) == in_full(error)


@pytest.mark.parametrize(
    "query",
    [
        "(" * 1_000 + "foo",
        "-" * 1_000 + "foo",
        "+".join(["foo"] * 600),
        "foo" + "[5m:]" * 300,
    ],
    ids=lambda query: query[:12],
)
def test_too_long_query_is_refused(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promql.parsing.lexer.MAX_TOKENS", 1_000)
    assert error_of(query).endswith("query has more than 1000 tokens")


@pytest.mark.parametrize("duration", ["+".join(["5m"] * 300), "-" * 300 + "(5m+1m)"])
def test_too_deep_duration_is_refused(duration: str) -> None:
    error = error_of(f"foo[{duration}]")
    assert error.endswith("duration expression nests deeper than 250 levels")


@pytest.mark.parametrize(
    ("offset", "expected"), [(0, "1:1"), (3, "1:4"), (4, "2:1"), (6, "2:4"), (7, "2:7")]
)
def test_line_col_counts_lines_and_bytes(offset: int, expected: str) -> None:
    assert line_col("foo\naé€b", offset) == expected
