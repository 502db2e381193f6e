"""The printer is the inverse of the parser, and the parser refuses what it cannot read cleanly."""

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from promql.ast import Expr, MatrixSelector, StringLiteral, children
from promql.parsing.literals import quote_literal
from promql.parsing.parse_errors import ParseError
from promql.parsing.parser import parse_expr, parse_metric_selector
from promql.parsing.printer import prettify, print_expr
from tests.support.strategies import ANY_EXPRESSION, canonical

EXPRS = ANY_EXPRESSION.exprs

_WORDS = """
foo sum rate by on ignoring without group_left bool offset @ start end and or unless atan2 inf 5m
1 0x1f 1e 5mx "s" 's `r` "a \\ ( ) [ ] { } , : = == != =~ !~ < ! + - * / % ^ é ~ $ #c \x00 \ufffd
"""
WORDS = st.sampled_from([*_WORDS.split(), "\n", " ", ""])


@settings(deadline=None)
@given(EXPRS)
def test_printed_expression_parses_to_the_same_tree(expr: Expr) -> None:
    assert canonical(parse_expr(print_expr(expr))) == canonical(expr)


@settings(deadline=None)
@given(EXPRS)
def test_printing_what_was_parsed_changes_nothing(expr: Expr) -> None:
    text = print_expr(expr)
    assert print_expr(parse_expr(text)) == text


@settings(deadline=None)
@given(EXPRS)
def test_prettified_expression_means_the_same(expr: Expr) -> None:
    assert print_expr(parse_expr(prettify(expr))) == print_expr(expr)


@settings(deadline=None)
@given(EXPRS)
def test_text_at_the_position_of_a_node_is_that_node(expr: Expr) -> None:
    text = print_expr(expr)
    for node in _standalone_nodes(parse_expr(text)):
        part = text[node.pos.start : node.pos.end]
        assert canonical(parse_expr(part)) == canonical(node)


@given(st.text(max_size=20))
def test_string_literals_are_read_back(text: str) -> None:
    expr = parse_expr(quote_literal(text))
    assert isinstance(expr, StringLiteral)
    assert expr.value == text


def _standalone_nodes(expr: Expr) -> Iterator[Expr]:
    yield expr
    # The modifiers of a range selector are kept by its selector, but stand behind the range.
    if not isinstance(expr, MatrixSelector):
        for child in children(expr):
            yield from _standalone_nodes(child)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=12).map("".join)))
def test_any_text_parses_or_is_refused_with_a_position(text: str) -> None:
    for parse in (parse_expr, parse_metric_selector):
        try:
            parse(text)
        except ParseError as exc:
            position, _, reason = str(exc).partition(": parse error: ")
            assert reason
            assert position == "unknown position" if not text else position.count(":") == 1
