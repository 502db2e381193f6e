"""PromQL text to syntax tree."""

from typing import Final, cast

from promcompat.core.bounded_caches import ByteBoundedCache
from promcompat.core.matchers import LabelMatcher
from promql.ast import Expr
from promql.features import ALL_FEATURES, Features
from promql.parsing.lalr_parser import ParseCheck, no_check, parse
from promql.parsing.parse_errors import PositionedError
from promql.parsing.type_checker import check_features, check_types

BYTES_PER_TOKEN: Final = 512
"""Bytes of the tree of a query and its plan, per token."""
LONGEST_REMEMBERED: Final = 16_384
"""Characters: the tree of a longer text takes far more memory, and such queries do not repeat."""
_MAX_REMEMBERED_BYTES: Final = 32 << 20
BYTES_PER_CHARACTER: Final = 340
"""A token has at least one character, usually more."""

_EXPRESSIONS: Final = ByteBoundedCache[tuple[str, Features], Expr](_MAX_REMEMBERED_BYTES)
_SELECTORS: Final = ByteBoundedCache[str, tuple[LabelMatcher, ...]](_MAX_REMEMBERED_BYTES)


def parse_expr(
    text: str, check: ParseCheck = no_check, *, features: Features = ALL_FEATURES
) -> Expr:
    """The tree of a query, parsed and type-checked as by Prometheus' `ParseExpr`.

    What needs a feature that is not in `features` is refused; only who evaluates the tree has to.

    Raises ParseError with Prometheus' text, and what `check` raises, which is called from time to
    time. `promql.parsing.lexer.MAX_TOKENS` limits the length.
    """
    expr = _EXPRESSIONS.get((text, features))
    if expr is not None:
        return expr
    try:
        expr = cast(Expr, parse(text, "expression", check))
        check_features(expr, features)
        check_types(expr, text)
    except PositionedError as exc:
        raise exc.in_query(text) from exc
    if len(text) <= LONGEST_REMEMBERED:
        _EXPRESSIONS.add((text, features), expr, len(text) * BYTES_PER_CHARACTER)
    return expr


def parse_metric_selector(text: str, check: ParseCheck = no_check) -> tuple[LabelMatcher, ...]:
    """The matchers of a series selector such as a `match[]` parameter; no offset, no range.

    As in Prometheus, the caller checks whether any matcher is non-empty. Raises as `parse_expr`.
    """
    matchers = _SELECTORS.get(text)
    if matchers is not None:
        return matchers
    try:
        matchers = cast(tuple[LabelMatcher, ...], parse(text, "metric_selector", check))
    except PositionedError as exc:
        raise exc.in_query(text) from exc
    if len(text) <= LONGEST_REMEMBERED:
        _SELECTORS.add(text, matchers, len(text) * BYTES_PER_CHARACTER)
    return matchers
