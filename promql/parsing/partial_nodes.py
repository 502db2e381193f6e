"""What the parser's stack holds besides tokens and nodes: nodes in the making."""

from typing import NamedTuple

from promcompat.core.matchers import LabelMatcher
from promql.ast import (
    DurationExpr,
    Expr,
    NumberLiteral,
    PositionRange,
    ValueType,
    VectorMatching,
)
from promql.parsing.lexer import Token
from promql.parsing.parse_errors import PositionedError

MAX_DURATION_DEPTH = 250
"""How deep arithmetic on durations may nest; computing and printing it recurses."""


class Operand(NamedTuple):
    """An expression with what the rules above it need to know of it."""

    expr: Expr
    type: ValueType


class Duration(NamedTuple):
    """A duration; `end` is the offset behind it, closing parentheses included."""

    expr: DurationExpr | NumberLiteral
    end: int
    depth: int


class Arguments(NamedTuple):
    """Arguments of a call; `end` is the offset behind the closing parenthesis."""

    operands: list[Operand]
    end: int


class LabelNames(NamedTuple):
    """Label names in parentheses; `end` is the offset behind them."""

    names: tuple[str, ...]
    end: int


class Grouping(NamedTuple):
    """`by (labels)` or `without (labels)` of an aggregation."""

    labels: LabelNames
    without: bool


class BinaryModifier(NamedTuple):
    """What stands between a binary operator and its right side."""

    return_bool: bool
    matching: VectorMatching


class Matchers(NamedTuple):
    """Label matchers in braces, and the range of the braces."""

    matchers: tuple[LabelMatcher, ...]
    pos: PositionRange


def span(first: Token, last: Token) -> PositionRange:
    """The range from the start of one token to the end of another."""
    return PositionRange(first.start, last.end)


def depth_above(start: int, *depths: int) -> int:
    """The depth of a duration at `start` over others; PositionedError past the limit."""
    depth = max(depths, default=0) + 1
    if depth > MAX_DURATION_DEPTH:
        reason = f"duration expression nests deeper than {MAX_DURATION_DEPTH} levels"
        raise PositionedError(start, reason)
    return depth
