"""Values on the parser's stack besides tokens and nodes: parts of nodes."""

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
"""The depth of arithmetic on durations is limited, because computing and printing it recurses."""


class Operand(NamedTuple):
    """An expression and its type."""

    expr: Expr
    type: ValueType


class Duration(NamedTuple):
    """A duration; `end` is the offset after it, closing parentheses included."""

    expr: DurationExpr | NumberLiteral
    end: int
    depth: int


class Arguments(NamedTuple):
    """Arguments of a call; `end` is the offset after the closing parenthesis."""

    operands: list[Operand]
    end: int


class LabelNames(NamedTuple):
    """Label names in parentheses; `end` is the offset after them."""

    names: tuple[str, ...]
    end: int


class Grouping(NamedTuple):
    """`by (labels)` or `without (labels)` of an aggregation."""

    labels: LabelNames
    without: bool


class BinaryModifier(NamedTuple):
    """The modifiers between a binary operator and its right side."""

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
    """The depth of a duration over its parts. Raises PositionedError beyond the limit."""
    depth = max(depths, default=0) + 1
    if depth > MAX_DURATION_DEPTH:
        reason = f"duration expression nests deeper than {MAX_DURATION_DEPTH} levels"
        raise PositionedError(start, reason)
    return depth
