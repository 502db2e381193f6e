"""Every form of the language that parses, and the tree it parses to."""

import math
from dataclasses import replace

import pytest

from promcompat.core.matchers import LabelMatcher, MatchOp
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Cardinality,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    VectorMatching,
    VectorSelector,
    children,
)
from promql.parsing.lalr_parser import parse_table
from promql.parsing.parser import parse_expr, parse_metric_selector


def selector_of(query: str) -> VectorSelector:
    expr = parse_expr(query)
    assert isinstance(expr, VectorSelector)
    return expr


def matrix_of(query: str) -> MatrixSelector:
    expr = parse_expr(query)
    assert isinstance(expr, MatrixSelector)
    return expr


def subquery_of(query: str) -> SubqueryExpr:
    expr = parse_expr(query)
    assert isinstance(expr, SubqueryExpr)
    return expr


def binary_of(query: str) -> BinaryExpr:
    expr = parse_expr(query)
    assert isinstance(expr, BinaryExpr)
    return expr


def shape(expr: Expr) -> object:
    """The tree as nested tuples: operators, names and numbers only."""
    match expr:
        case BinaryExpr() | UnaryExpr():
            return (expr.op, *map(shape, children(expr)))
        case NumberLiteral():
            return expr.value
        case VectorSelector():
            return expr.name
        case ParenExpr():
            return shape(expr.expr)
        case _:
            raise AssertionError(expr)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1", 1.0),
        ("-1", -1.0),
        ("+1.5", 1.5),
        ("- + -2", 2.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1.5E-3", 0.0015),
        ("1_000.5", 1000.5),
        ("0x1F", 31.0),
        ("0x_ff", 255.0),
        ("017", 15.0),
        ("0_17", 15.0),
        ("08", 8.0),
        ("9223372036854775808", 9223372036854775808.0),
        ("Inf", math.inf),
        ("-inF", -math.inf),
        ("5m", 300.0),
        ("-1h30m", -5400.0),
        ("1y2w3d4h5m6s7ms", 33_019_506.007),
    ],
)
def test_number_has_its_value(query: str, expected: float) -> None:
    expr = parse_expr(query)
    assert isinstance(expr, NumberLiteral)
    assert expr.value == expected
    assert expr.pos == PositionRange(0, len(query))


def test_nan_is_a_number() -> None:
    expr = parse_expr("NaN")
    assert isinstance(expr, NumberLiteral)
    assert math.isnan(expr.value)


def test_duration_literal_is_marked() -> None:
    assert parse_expr("5m") == NumberLiteral(300.0, True, PositionRange(0, 2))
    assert parse_expr("300") == NumberLiteral(300.0, False, PositionRange(0, 3))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('"a\'b"', "a'b"),
        ("'a\"b'", 'a"b'),
        ("`a\\n\"'b`", "a\\n\"'b"),
        ("`a\nb`", "a\nb"),
        (r'"\a\b\f\n\r\t\v\\\""', '\a\b\f\n\r\t\v\\"'),
        (r"'\''", "'"),
        (r'"\x41\101\u00e9\U0001F600"', "AA\u00e9\U0001f600"),
        (r'"\xe2\x82\xac"', "\u20ac"),
        (r'"a\xff"', "a\udcff"),
        ('"日本"', "日本"),
        ('""', ""),
    ],
)
def test_string_is_unquoted(query: str, expected: str) -> None:
    assert parse_expr(query) == StringLiteral(expected, PositionRange(0, len(query)))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("1 + 2 * 3 ^ 4", ("+", 1, ("*", 2, ("^", 3, 4)))),
        ("1 - 2 - 3", ("-", ("-", 1, 2), 3)),
        ("2 ^ 3 ^ 4", ("^", 2, ("^", 3, 4))),
        ("-a ^ 2", ("-", ("^", "a", 2))),
        ("-1 ^ 2", ("-", ("^", 1, 2))),
        ("2 ^ -a ^ 3", ("^", 2, ("-", ("^", "a", 3)))),
        ("-a * b", ("*", ("-", "a"), "b")),
        ("a * -b + c", ("+", ("*", "a", ("-", "b")), "c")),
        ("a or b and c", ("or", "a", ("and", "b", "c"))),
        ("a unless b and c", ("and", ("unless", "a", "b"), "c")),
        ("a == b + c", ("==", "a", ("+", "b", "c"))),
        ("a and b > c", ("and", "a", (">", "b", "c"))),
        ("a % b atan2 c / d", ("/", ("atan2", ("%", "a", "b"), "c"), "d")),
        ("(a or b) and c", ("and", ("or", "a", "b"), "c")),
        ("a AND b Or c", ("or", ("and", "a", "b"), "c")),
        ("-a offset 5m ^ 2", ("-", ("^", "a", 2))),
    ],
)
def test_operators_bind_as_in_prometheus(query: str, expected: object) -> None:
    assert shape(parse_expr(query)) == expected


@pytest.mark.parametrize(
    ("query", "name", "matchers"),
    [
        ("foo", "foo", ['__name__="foo"']),
        ("foo:bar:rate5m", "foo:bar:rate5m", ['__name__="foo:bar:rate5m"']),
        (":", ":", ['__name__=":"']),
        ("foo{}", "foo", ['__name__="foo"']),
        ('{"utf8.name", foo="x"}', "", ['__name__="utf8.name"', 'foo="x"']),
        ("{'a b', \"c d\"!=`e`,}", "", ['__name__="a b"', 'c d!="e"']),
        (
            'foo{a="1",b!="2",c=~"3.*",d!~"4"}',
            "foo",
            ['a="1"', 'b!="2"', 'c=~"3.*"', 'd!~"4"', '__name__="foo"'],
        ),
        ('{by="1",sum="2",inf="3",offset="4"}', "", ['by="1"', 'sum="2"', 'inf="3"', 'offset="4"']),
        ('{ # comment "\n  a = "b" # }\n}', "", ['a="b"']),
        ('sum{a=""}', "sum", ['a=""', '__name__="sum"']),
        ('{__name__=~"a|b"}', "", ['__name__=~"a|b"']),
        (r'{a="\xff"}', "", ['a="\ufffd"']),
    ],
)
def test_selector_has_its_matchers(query: str, name: str, matchers: list[str]) -> None:
    expr = selector_of(query)
    assert expr.name == name
    assert [f'{m.name}{m.op}"{m.value}"' for m in expr.matchers] == matchers


@pytest.mark.parametrize(
    "name",
    [
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
        "rate",
        "offset",
        "by",
        "without",
        "start",
        "end",
        "and",
        "or",
        "unless",
        "Sum",
        "BY",
        "step",
    ],
)
def test_keyword_is_a_metric_name_where_it_can_be(name: str) -> None:
    assert selector_of(name).name == name
    assert selector_of(f'{name}{{a="b"}}').name == name
    assert shape(parse_expr(f"{name} + {name}")) == ("+", name, name)


@pytest.mark.parametrize(
    "label",
    [
        "sum",
        "by",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "offset",
        "start",
        "end",
        "and",
        "or",
        "unless",
        "atan2",
        "topk",
        "foo",
        "foo:bar",
    ],
)
def test_keyword_is_a_grouping_label_where_it_can_be(label: str) -> None:
    expr = parse_expr(f"sum by ({label}, {label},) (foo)")
    assert isinstance(expr, AggregateExpr)
    assert expr.grouping == (label, label)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("foo offset 5m", TimeModifiers(offset_ms=300_000)),
        ("foo offset -5m", TimeModifiers(offset_ms=-300_000)),
        ("foo offset 1.5", TimeModifiers(offset_ms=1500)),
        ("foo OFFSET +1h", TimeModifiers(offset_ms=3_600_000)),
        ("foo offset (5m)", TimeModifiers(offset_ms=300_000)),
        ("foo offset - -5m", TimeModifiers(offset_ms=300_000)),
        ("foo offset 0", TimeModifiers()),
        ("foo @ 1.5", TimeModifiers(timestamp_ms=1500)),
        ("foo @ -1.5", TimeModifiers(timestamp_ms=-1500)),
        ("foo @ +0x10", TimeModifiers(timestamp_ms=16_000)),
        ("foo @ 1h", TimeModifiers(timestamp_ms=3_600_000)),
        ("foo @ 0.0005", TimeModifiers(timestamp_ms=1)),
        ("foo @ start()", TimeModifiers(at="start")),
        ("foo @ END( )", TimeModifiers(at="end")),
        ("foo offset 5m @ 1", TimeModifiers(offset_ms=300_000, timestamp_ms=1000)),
        ("foo @ 1 offset 5m", TimeModifiers(offset_ms=300_000, timestamp_ms=1000)),
        ("foo offset 5m @ end()", TimeModifiers(offset_ms=300_000, at="end")),
    ],
)
def test_modifiers_of_selectors_ranges_and_subqueries(query: str, expected: TimeModifiers) -> None:
    assert selector_of(query).modifiers == expected
    assert matrix_of(query.replace("foo", "foo[1m]")).vector_selector.modifiers == expected
    assert subquery_of(query.replace("foo", "foo[1m:]")).modifiers == expected
    assert selector_of(query).pos == PositionRange(0, len(query))


def test_range_and_subquery_have_their_durations() -> None:
    assert matrix_of("foo[1h30m]").range_ms == 5_400_000
    assert matrix_of("foo[90]").range_ms == 90_000
    assert matrix_of("foo[ 1.5 ]").range_ms == 1_500
    with_step = subquery_of("foo[1h:90]")
    assert (with_step.range_ms, with_step.step_ms) == (3_600_000, 90_000)
    without_step = subquery_of("rate(foo[5m])[1h : ]")
    assert (without_step.range_ms, without_step.step_ms) == (3_600_000, 0)
    nested = subquery_of("max_over_time(foo[5m:])[1h:]")
    assert isinstance(nested.expr, Call)


def test_offset_before_subquery_belongs_to_the_selector() -> None:
    expr = subquery_of("foo offset 1m [5m:] offset 2m")
    assert isinstance(expr.expr, VectorSelector)
    assert (expr.expr.modifiers.offset_ms, expr.modifiers.offset_ms) == (60_000, 120_000)


def duration_shape(expr: DurationExpr | NumberLiteral | None) -> object:
    match expr:
        case DurationExpr():
            inner = (expr.op, duration_shape(expr.lhs), duration_shape(expr.rhs))
            return [inner] if expr.wrapped else inner
        case NumberLiteral():
            return expr.value
        case None:
            return None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m*2", ("*", 300, 2)),
        ("1m + 2 * 3", ("+", 60, ("*", 2, 3))),
        ("1m - 2s - 3", ("-", ("-", 60, 2), 3)),
        ("2 ^ 3 ^ 2", ("^", 2, ("^", 3, 2))),
        ("-2 ^ 2 + 1h", ("+", ("-", None, ("^", 2, 2)), 3600)),
        ("(1m + 2s) * 3", ("*", [("+", 60, 2)], 3)),
        ("-(1m + 2s) + 1h", ("+", ("-", None, [("+", 60, 2)]), 3600)),
        ("1h % (7m)", ("%", 3600, 420)),
        ("+(1m / 2)", [("/", 60, 2)]),
    ],
)
def test_duration_expressions_of_ranges_steps_and_offsets(text: str, expected: object) -> None:
    assert duration_shape(matrix_of(f"foo[{text}]").range_expr) == expected
    assert duration_shape(subquery_of(f"foo[{text}:]").range_expr) == expected
    assert duration_shape(subquery_of(f"foo[1h:{text}]").step_expr) == expected
    offset_expr = selector_of(f"foo offset (1m + ({text}))").modifiers.offset_expr
    assert offset_expr is not None
    assert offset_expr.wrapped


def test_offset_takes_arithmetic_in_parentheses_only() -> None:
    outside = binary_of("foo offset 1m + 2")
    assert shape(outside) == ("+", "foo", 2)
    inside = selector_of("foo offset (1m + 2)").modifiers.offset_expr
    assert duration_shape(inside) == [("+", 60, 2)]
    assert shape(binary_of("foo offset -2 ^ 2")) == ("^", "foo", 2)


NO_MATCHING = VectorMatching()
A, B = ("a",), ("b",)


@pytest.mark.parametrize(
    ("modifier", "expected"),
    [
        ("", NO_MATCHING),
        ("ignoring()", NO_MATCHING),
        ("on()", replace(NO_MATCHING, on=True)),
        ("on(a)", replace(NO_MATCHING, on=True, labels=A)),
        ("On(a,)", replace(NO_MATCHING, on=True, labels=A)),
        ("ignoring(a)", replace(NO_MATCHING, labels=A)),
        ('on("a b")', replace(NO_MATCHING, on=True, labels=("a b",))),
        ("on(a) group_left", VectorMatching(Cardinality.MANY_TO_ONE, A, True)),
        ("on(a) group_left()", VectorMatching(Cardinality.MANY_TO_ONE, A, True)),
        ("on(a) group_left(b,)", VectorMatching(Cardinality.MANY_TO_ONE, A, True, B)),
        ("ignoring(a) group_right(b)", VectorMatching(Cardinality.ONE_TO_MANY, A, False, B)),
    ],
)
def test_vector_matching(modifier: str, expected: VectorMatching) -> None:
    assert binary_of(f"foo * {modifier} bar").matching == expected
    with_bool = binary_of(f"foo >= bool {modifier} bar")
    assert (with_bool.matching, with_bool.return_bool) == (expected, True)


def test_set_operators_match_many_to_many() -> None:
    assert binary_of("foo and bar").matching == VectorMatching(Cardinality.MANY_TO_MANY)
    matching = VectorMatching(Cardinality.MANY_TO_MANY, A, True)
    assert binary_of("foo unless on(a) bar").matching == matching


def test_no_matching_with_a_scalar() -> None:
    assert binary_of("foo * 2").matching is None
    assert binary_of("1 + scalar(foo)").matching is None
    assert binary_of("foo * ignoring() 2").matching is None


@pytest.mark.parametrize(
    ("query", "grouping", "without"),
    [
        ("sum(foo)", (), False),
        ("sum by () (foo)", (), False),
        ("sum by (a, b) (foo)", ("a", "b"), False),
        ("SUM(foo) BY (a,)", ("a",), False),
        ("sum without (a) (foo)", ("a",), True),
        ("sum(foo) without ()", (), True),
        ('sum by ("a b", "without") (foo)', ("a b", "without"), False),
    ],
)
def test_aggregation_has_its_grouping(query: str, grouping: tuple[str, ...], without: bool) -> None:
    expr = parse_expr(query)
    assert isinstance(expr, AggregateExpr)
    assert (expr.op, expr.grouping, expr.without) == ("sum", grouping, without)
    assert expr.param is None
    assert expr.pos == PositionRange(0, len(query))


def test_aggregation_has_its_parameter() -> None:
    expr = parse_expr('count_values by (a) ("version", foo)')
    assert isinstance(expr, AggregateExpr)
    assert expr.param == StringLiteral("version", PositionRange(21, 30))


def test_comments_and_spaces_are_skipped() -> None:
    query = "# first\nsum ( # a (\n\tfoo\r\n) # last"
    expr = parse_expr(query)
    assert isinstance(expr, AggregateExpr)
    assert query[expr.pos.start : expr.pos.end].startswith("sum (")
    assert query[expr.expr.pos.start : expr.expr.pos.end] == "foo"


def test_positions_are_characters_and_include_modifiers() -> None:
    query = 'rate({"é"}[5m] offset 1m) + on(a) (sum(b) by (c))'
    expr = binary_of(query)
    texts = [query[node.pos.start : node.pos.end] for node in (expr, *children(expr))]
    assert texts == [query, 'rate({"é"}[5m] offset 1m)', "(sum(b) by (c))"]
    call = expr.lhs
    assert isinstance(call, Call)
    assert query[call.args[0].pos.start : call.args[0].pos.end] == '{"é"}[5m] offset 1m'
    selector = children(call.args[0])[0]
    assert query[selector.pos.start : selector.pos.end] == '{"é"}'


def test_series_selector_gives_its_matchers() -> None:
    by_name = LabelMatcher("__name__", MatchOp.EQUAL, "up")
    by_job = LabelMatcher("job", MatchOp.REGEX, "a.*")
    assert parse_metric_selector('up{job=~"a.*"}') == (by_job, by_name)
    # Whether one of them is non-empty is the caller's to check, with an error of its own.
    assert parse_metric_selector("{}") == ()
    assert parse_metric_selector('{a=""}') == (LabelMatcher("a", MatchOp.EQUAL, ""),)


def test_trees_are_cached_by_text() -> None:
    assert parse_expr("sum(cached)") is parse_expr("sum(cached)")


def test_every_rule_of_the_grammar_has_a_state_to_start_and_end_in() -> None:
    table = parse_table()
    assert table.start_states.keys() == table.end_states.keys() == {"expression", "metric_selector"}
