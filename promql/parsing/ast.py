"""The syntax tree of PromQL: immutable nodes under Prometheus' names, each with its position.

Durations and times are int milliseconds. Positions are half-open ranges of character offsets into
the query text (Prometheus counts bytes; the parser converts when it prints `line:col`).
Two nodes of one query are never equal, since their positions differ, so a node may be a dict key.
Its hash is that of the position: one of all its parts would take as long as the query is deep.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from promcompat.core.matchers import LabelMatcher


class ValueType(StrEnum):
    """The type of an expression, by the name the HTTP API and the error texts use."""

    NONE = "none"
    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"

    @property
    def document_name(self) -> str:
        """The words of Prometheus' error texts: `instant vector`, `range vector`, …."""
        return {"vector": "instant vector", "matrix": "range vector"}.get(self.value, self.value)


@dataclass(frozen=True, slots=True, order=True)
class PositionRange:
    """`[start, end)` in characters of the query text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A number; `is_duration` keeps that it was written as a duration (`5m` is 300)."""

    value: float
    is_duration: bool
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class StringLiteral:
    """A string, unquoted."""

    value: str
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class DurationExpr:
    """Arithmetic on durations, as in `[5m*2]`; `op` is one of `+ - * / % ^`, `step`, `min`, `max`.

    A unary minus has no `lhs`. Values are seconds. `wrapped` keeps the parentheses.
    """

    op: str
    lhs: "DurationExpr | NumberLiteral | None"
    rhs: "DurationExpr | NumberLiteral | None"
    wrapped: bool
    pos: PositionRange


AtPreprocessor = Literal["start", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeModifiers:
    """The `offset` and `@` modifiers of a selector or subquery.

    `offset_ms` is positive into the past. `timestamp_ms` is the fixed time of `@ 123`, and
    `at` says that it is to be the start or the end of the query instead. When `offset_expr` is
    set, the planner computes `offset_ms` from it.
    """

    offset_ms: int = 0
    offset_expr: DurationExpr | None = None
    timestamp_ms: int | None = None
    at: AtPreprocessor | None = None


NO_MODIFIERS = TimeModifiers()


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """`name{matchers} offset … @ …`; `matchers` includes the one on `__name__` when named."""

    name: str
    matchers: tuple[LabelMatcher, ...]
    modifiers: TimeModifiers
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """`selector[range]`; the modifiers are on the vector selector."""

    vector_selector: VectorSelector
    range_ms: int
    range_expr: DurationExpr | None
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class SubqueryExpr:
    """`expr[range:step]`; `step_ms` 0 means the default evaluation interval."""

    expr: "Expr"
    range_ms: int
    step_ms: int
    range_expr: DurationExpr | None
    step_expr: DurationExpr | None
    modifiers: TimeModifiers
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class Call:
    """A function call; `func` is the function's name, known to `promql.parsing.signatures`."""

    func: str
    args: tuple["Expr", ...]
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class AggregateExpr:
    """`op by|without (grouping) (param, expr)`."""

    op: str
    expr: "Expr"
    param: "Expr | None"
    grouping: tuple[str, ...]
    without: bool
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


class Cardinality(StrEnum):
    """How the two sides of a binary operator pair up."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True)
class VectorMatching:
    """How a binary operator between two vectors matches series.

    `on` tells whether `labels` are the ones to match on or the ones to ignore; `include` are the
    labels of `group_left`/`group_right`.
    """

    card: Cardinality = Cardinality.ONE_TO_ONE
    labels: tuple[str, ...] = ()
    on: bool = False
    include: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BinaryExpr:
    """`lhs op rhs`; `matching` is set when both sides are vectors, `return_bool` by `bool`."""

    op: str
    lhs: "Expr"
    rhs: "Expr"
    matching: VectorMatching | None
    return_bool: bool
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class UnaryExpr:
    """`+expr` or `-expr`."""

    op: str
    expr: "Expr"
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


@dataclass(frozen=True, slots=True)
class ParenExpr:
    """`(expr)`."""

    expr: "Expr"
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


Expr = (
    NumberLiteral
    | StringLiteral
    | VectorSelector
    | MatrixSelector
    | SubqueryExpr
    | Call
    | AggregateExpr
    | BinaryExpr
    | UnaryExpr
    | ParenExpr
)


def unwrap_parens(expr: Expr) -> Expr:
    """The expression inside of all parentheses around it."""
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    return expr


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct sub-expressions, in the order of the text; a matrix selector has its selector."""
    match expr:
        case MatrixSelector():
            return (expr.vector_selector,)
        case SubqueryExpr() | UnaryExpr() | ParenExpr():
            return (expr.expr,)
        case Call():
            return expr.args
        case AggregateExpr():
            return (expr.expr,) if expr.param is None else (expr.param, expr.expr)
        case BinaryExpr():
            return (expr.lhs, expr.rhs)
        case NumberLiteral() | StringLiteral() | VectorSelector():
            return ()
