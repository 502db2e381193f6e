"""PromQL text to syntax tree."""

from functools import lru_cache
from typing import cast

from promcompat.core.matchers import LabelMatcher
from promql.ast import Expr
from promql.parsing.lalr_parser import parse
from promql.parsing.parse_errors import ParseError, PositionedError, line_col
from promql.parsing.type_checker import check_types

__all__ = ["ParseError", "line_col", "parse_expr", "parse_metric_selector"]


_LONGEST_REMEMBERED = 16_384
"""Characters: the tree of a text of 1 MB is far larger than the text, and nobody asks it twice."""


def parse_expr(text: str) -> Expr:
    """The tree of a query, parsed and type-checked as Prometheus' `ParseExpr` does.

    Raises ParseError, whose text is Prometheus' own; the length is limited, see
    `promql.parsing.lexer.MAX_TOKENS`.
    """
    return _parse_and_remember(text) if len(text) <= _LONGEST_REMEMBERED else _parse_checked(text)


@lru_cache(maxsize=1024)
def _parse_and_remember(text: str) -> Expr:
    return _parse_checked(text)


def _parse_checked(text: str) -> Expr:
    try:
        expr = cast(Expr, parse(text, "expression"))
        check_types(expr, text)
    except PositionedError as exc:
        raise exc.in_query(text) from exc
    return expr


def parse_metric_selector(text: str) -> tuple[LabelMatcher, ...]:
    """The matchers of a series selector such as a `match[]` parameter; no offset, no range.

    As in Prometheus, whether any matcher is non-empty is left to the caller. Raises ParseError.
    """
    is_long = len(text) > _LONGEST_REMEMBERED
    return _parse_selector(text) if is_long else _parse_selector_and_remember(text)


@lru_cache(maxsize=1024)
def _parse_selector_and_remember(text: str) -> tuple[LabelMatcher, ...]:
    return _parse_selector(text)


def _parse_selector(text: str) -> tuple[LabelMatcher, ...]:
    try:
        return cast(tuple[LabelMatcher, ...], parse(text, "metric_selector"))
    except PositionedError as exc:
        raise exc.in_query(text) from exc
