"""What Prometheus prints, and where we print something that reads back instead."""

import pytest

from promcompat.core.errors import BadDataError
from promql.ast import BinaryExpr, NumberLiteral, PositionRange, StringLiteral, children
from promql.parsing.parser import parse_expr
from promql.parsing.printer import OneLine, prettify, print_expr


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("  foo  ", "foo"),
        ('foo{b="1",a="2"}', 'foo{a="2",b="1"}'),
        ("foo{}", "foo"),
        ('{"foo"}', '{__name__="foo"}'),
        ('{__name__="foo"}', '{__name__="foo"}'),
        ("{\"a.b\"='x', c=~`\\d`}", '{"a.b"="x",c=~"\\\\d"}'),
        ("foo[90s]", "foo[1m30s]"),
        ("foo[1w]", "foo[1w]"),
        ("foo[8d]", "foo[8d]"),
        ("foo[365d]", "foo[1y]"),
        ("foo[25h]", "foo[1d1h]"),
        ("foo[5m] offset 1m @ start()", "foo[5m] @ start() offset 1m"),
        ("foo offset -90 @ 1.5", "foo @ 1.500 offset -1m30s"),
        ("foo[1h:]", "foo[1h:]"),
        ("foo[1h:60] offset 5m", "foo[1h:1m] offset 5m"),
        ("foo[5m*2]", "foo[5m * 2]"),
        ("foo offset -(1m+2)", "foo offset -(1m + 2)"),
        ("foo[max_of(STEP(),5m)]", "foo[max_of(step(), 5m)]"),
        ("foo[range() / 2:step()]", "foo[range() / 2:step()]"),
        ("foo offset -min_of(step(), 1m)", "foo offset -min_of(step(), 1m)"),
        ("foo offset (step() * 2)", "foo offset (step() * 2)"),
        ("foo offset -(1m+2) + 3", "foo offset -(1m + 2) + 3"),
        ("foo offset (-(1m+2) + 3)", "foo offset (-(1m + 2) + 3)"),
        ("foo offset (1m) + 2m", "foo offset (1m + 2m)"),
        ("foo + fill(0) bar", "foo + fill (0) bar"),
        (
            "foo + on(a) fill_right(-1) fill_left(2) bar",
            "foo + on (a) fill_left (2) fill_right (-1) bar",
        ),
        ("foo[5m] anchored offset 1m", "foo[5m] anchored offset 1m"),
        ("foo smoothed @ 3", "foo @ 3.000 smoothed"),
        ("1_000", "1000"),
        ("1e3", "1000"),
        ("1e-7", "0.0000001"),
        ("1e22", "10000000000000000000000"),
        ("0x1f", "31"),
        ("+1", "1"),
        ("- 5m", "-5m"),
        ("Inf - -inf + nan", "+Inf - -Inf + NaN"),
        ("'a\"\\n'", '"a\\"\\n"'),
        ('"é\\u00a0\\x00\\U0001F600"', '"é\\u00a0\\x00\U0001f600"'),
        (r'"\xff\xe2\x82"', r'"\xff\xe2\x82"'),
        ("-foo^2", "-foo ^ 2"),
        ("( foo )", "(foo)"),
        ("SUM(foo) BY (b,a)", "sum by (b, a) (foo)"),
        ("sum without() (foo)", "sum without () (foo)"),
        ("sum by () (foo)", "sum(foo)"),
        ("topk by (a)(5,foo)", "topk by (a) (5, foo)"),
        ('sum by ("a b", c) (foo)', 'sum by ("a b", c) (foo)'),
        ("foo*on(a)group_left(b)bar", "foo * on (a) group_left (b) bar"),
        ("foo*ignoring(a)group_right bar", "foo * ignoring (a) group_right () bar"),
        ("foo==bool on() bar", "foo == bool on () bar"),
        ("foo and ignoring() bar", "foo and bar"),
        ("label_join(foo,'a','b')", 'label_join(foo, "a", "b")'),
        ("time()", "time()"),
        ("foo # comment", "foo"),
    ],
)
def test_prints_as_prometheus(query: str, expected: str) -> None:
    assert print_expr(parse_expr(query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # Prometheus 3.5 prints `foo * bar`, which is another query.
        ("foo * ignoring() group_left(a) bar", "foo * ignoring () group_left (a) bar"),
        # It prints these names bare, and does not read them again.
        ('foo * on("a b") bar', 'foo * on ("a b") bar'),
        ('sum by ("without") (foo)', 'sum by ("without") (foo)'),
        ('sum by ("Inf") (foo)', 'sum by ("Inf") (foo)'),
        # It cuts 1000.9999999 ms.
        ("1s1ms", "1s1ms"),
        # It drops these parentheses.
        ("foo[(-2) ^ 2 * 1m]", "foo[(-2) ^ 2 * 1m]"),
        ("foo offset (1m) + 2", "foo offset (1m + 2)"),
        # Its lexer refuses the character it prints.
        (r'"\ufffd"', r'"\ufffd"'),
    ],
)
def test_output_parses_where_that_of_prometheus_does_not(query: str, expected: str) -> None:
    printed = print_expr(parse_expr(query))
    assert printed == expected
    assert print_expr(parse_expr(printed)) == printed


def test_longest_number_has_no_exponent() -> None:
    assert print_expr(NumberLiteral(5e-324, False, PositionRange(0, 0))).endswith("5")
    assert print_expr(NumberLiteral(1.7976931348623157e308, False, PositionRange(0, 0))).isdigit()


def test_characters_that_do_not_print_are_escaped() -> None:
    literal = StringLiteral("\x7f\u2028\U000e0001\t", PositionRange(0, 0))
    assert print_expr(literal) == r'"\x7f\u2028\U000e0001\t"'


LONG = 'metric_with_a_long_name{label="a long value that takes much of the line, so it is split"}'


@pytest.mark.parametrize(
    ("query", "lines"),
    [
        ("foo+bar", ["foo + bar"]),
        (
            f"sum by (a) (rate({LONG}[5m]))",
            ["sum by (a) (", f"  rate({LONG}[5m])", ")"],
        ),
        (
            f"topk(5, {LONG} + foo)",
            ["topk(", "  5,", f"  {LONG} + foo", ")"],
        ),
        (
            f"{LONG} + on (a) {LONG}",
            [f"  {LONG}", "+ on (a)", f"  {LONG}"],
        ),
        (
            f"({LONG} > bool {LONG})",
            ["(", f"    {LONG}", "  > bool", f"    {LONG}", ")"],
        ),
        (
            f'label_replace({LONG}, "a", "b", "c", "d")',
            ["label_replace(", f"  {LONG},", '  "a",', '  "b",', '  "c",', '  "d"', ")"],
        ),
        (
            f"-({LONG} + foo_bar_baz offset 5m)",
            ["-(", f"    {LONG}", "  +", "    foo_bar_baz offset 5m", ")"],
        ),
        (
            f"-{LONG} + foo_bar_baz",
            [f"  -{LONG}", "+", "  foo_bar_baz"],
        ),
        (
            f"rate((-{LONG} ^ foo_bar_baz)[5m:])",
            ["rate(", "  (", f"    -{LONG}", "    ^", "      foo_bar_baz", "  )[5m:]", ")"],
        ),
        (
            f"rate({LONG}[5m:1m])",
            ["rate(", f"{LONG}[5m:1m]", ")"],
        ),
        (
            f"rate({LONG}[5m:1m] offset 1m)",
            ["rate(", f"  {LONG}[5m:1m] offset 1m", ")"],
        ),
        (
            f"max_over_time(abs({LONG} - foo_bar_baz)[5m:1m])",
            [
                "max_over_time(",
                "  abs(",
                f"      {LONG}",
                "    -",
                "      foo_bar_baz",
                "  )[5m:1m]",
                ")",
            ],
        ),
        # A selector is never split, however long.
        (f"{LONG} offset 5m @ start()", [f"{LONG} @ start() offset 5m"]),
    ],
)
def test_splits_long_lines_as_prometheus(query: str, lines: list[str]) -> None:
    assert prettify(parse_expr(query)).splitlines() == lines


def test_length_is_counted_in_bytes() -> None:
    query = f'sum({{a="{"é" * 44}a"}})'
    assert len(query.encode()) == 100
    assert prettify(parse_expr(query)) == query
    longer = query.replace("é", "éa", 1)
    assert prettify(parse_expr(longer)).count("\n") == 2


@pytest.mark.parametrize(
    "query",
    [
        "abs(" * 2_000 + "foo" + ")" * 2_000,
        " + ".join(["foo"] * 2_000),
        " ^ ".join(["2"] * 2_000),
        "-(" * 2_000 + "foo" + ")" * 2_000,
        "max_over_time(" * 2_000 + "foo" + "[1m:30s])" * 2_000,
    ],
    ids=lambda query: query[:5],
)
def test_deep_query_prints(query: str) -> None:
    expr = parse_expr(query)
    assert print_expr(expr) == query
    assert print_expr(parse_expr(prettify(expr))) == query


def test_part_has_its_text() -> None:
    expr = parse_expr("sum(up offset 1m) + rate(foo[5m] offset 2m)")
    assert isinstance(expr, BinaryExpr)
    line = OneLine(expr)
    assert line.text_of(expr) == "sum(up offset 1m) + rate(foo[5m] offset 2m)"
    assert line.text_of(expr.lhs) == "sum(up offset 1m)"
    assert line.text_of(expr.rhs, 4) == "rate"
    (matrix,) = children(expr.rhs)
    assert line.text_of(*children(matrix)) == "foo offset 2m"


def test_layout_that_is_mostly_indentation_is_refused() -> None:
    chain = parse_expr("+".join(["foo"] * 20_000))
    with pytest.raises(BadDataError, match="formatted query is longer than 64000000 characters"):
        prettify(chain)
