"""The syntax tree of PromQL: immutable nodes with Prometheus' names, and walks over them.

Durations and times are int milliseconds. Positions are half-open ranges of character offsets into
the query text (Prometheus counts bytes; `line_col` converts).
Two nodes of one query are never equal, because their positions differ, so a node can be a dict key.
It hashes by position only: hashing every part would take time in proportion to the query's depth.

No walk recurses: generated queries chain thousands of operators, each of which nests the tree one
level deeper, and Python's stack ends at 1,000 calls.
"""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, TypeVar

from promcompat.core.matchers import LabelMatcher


class ValueType(StrEnum):
    """The type of an expression, named as in the HTTP API and in error texts."""

    NONE = "none"
    SCALAR = "scalar"
    STRING = "string"
    VECTOR = "vector"
    MATRIX = "matrix"

    @property
    def document_name(self) -> str:
        """The name in Prometheus' error texts: `instant vector`, `range vector`, …"""
        return {"vector": "instant vector", "matrix": "range vector"}.get(self.value, self.value)


@dataclass(frozen=True, slots=True, order=True)
class PositionRange:
    """`[start, end)` in characters of the query text."""

    start: int
    end: int


def line_col(text: str, offset: int) -> str:
    """`line:col` of a character offset, both from 1; columns count bytes of UTF-8, as upstream."""
    line_start = text.rfind("\n", 0, offset) + 1
    line = text.count("\n", 0, offset) + 1
    column = len(text[line_start:offset].encode(errors="surrogatepass")) + 1
    return f"{line}:{column}"


@dataclass(frozen=True, slots=True)
class NumberLiteral:
    """A number; `is_duration` if it was written as a duration (`5m` is 300)."""

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
    """Arithmetic on durations, as in `[5m*2]`.

    `op` is one of `+ - * / % ^`, `min_of` and `max_of`; or `step` and `range`, those of the query,
    which have no operands. A unary minus has no `lhs`. Values are seconds. `wrapped` if it was
    written in parentheses.
    """

    op: str
    lhs: "DurationExpr | NumberLiteral | None"
    rhs: "DurationExpr | NumberLiteral | None"
    wrapped: bool
    pos: PositionRange


AtPreprocessor = Literal["start", "end"]
Extension = Literal["", "anchored", "smoothed"]
"""How a selector uses samples beyond the ends of its range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeModifiers:
    """The `offset` and `@` modifiers of a selector or subquery.

    A positive `offset_ms` points into the past. `timestamp_ms` is the fixed time of `@ 123`; with
    `at` the planner sets it to the start or the end of the query. If `offset_expr` is set, the
    planner computes `offset_ms` from it. If it `has_offset`, one other than 0 was written, which
    may be less than a millisecond.
    """

    offset_ms: int = 0
    offset_expr: DurationExpr | None = None
    has_offset: bool = field(default=False, compare=False)
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
    extension: Extension = ""

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
    """A call of the function named `func`, one of `promql.functions.registry`."""

    func: str
    args: tuple["Expr", ...]
    pos: PositionRange

    def __hash__(self) -> int:
        return hash(self.pos)


AGGREGATIONS: Mapping[str, ValueType | None] = MappingProxyType(
    {
        "avg": None,
        "bottomk": ValueType.SCALAR,
        "count": None,
        "count_values": ValueType.STRING,
        "group": None,
        "limit_ratio": ValueType.SCALAR,
        "limitk": ValueType.SCALAR,
        "max": None,
        "min": None,
        "quantile": ValueType.SCALAR,
        "stddev": None,
        "stdvar": None,
        "sum": None,
        "topk": ValueType.SCALAR,
    }
)
"""Every aggregation with the type of its parameter, None where it takes none."""


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
    """How the series of both sides of a binary operator are paired."""

    ONE_TO_ONE = "one-to-one"
    MANY_TO_ONE = "many-to-one"
    ONE_TO_MANY = "one-to-many"
    MANY_TO_MANY = "many-to-many"


@dataclass(frozen=True, slots=True)
class VectorMatching:
    """How a binary operator between two vectors matches series.

    `labels` are those to match on if `on`, else those to ignore; `include` are the labels of
    `group_left` or `group_right`. A sample without partner is combined with `fill_left` or
    `fill_right` in place of the missing one on that side; None leaves it out.
    """

    card: Cardinality = Cardinality.ONE_TO_ONE
    labels: tuple[str, ...] = ()
    on: bool = False
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None

    @property
    def fills(self) -> bool:
        """Whether missing samples are filled in on any side."""
        return self.fill_left is not None or self.fill_right is not None


SET_OPERATORS = frozenset(("and", "or", "unless"))
TRIM_OPERATORS = frozenset(("</", ">/"))
"""`h </ x` keeps the observations of a histogram up to x, `h >/ x` those from x on."""


@dataclass(frozen=True, slots=True)
class BinaryExpr:
    """`lhs op rhs`; `matching` is set if both sides are vectors, `return_bool` by `bool`."""

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
    """The expression without the parentheses around it."""
    while isinstance(expr, ParenExpr):
        expr = expr.expr
    return expr


def children(expr: Expr) -> tuple[Expr, ...]:
    """The direct subexpressions in the order of the text; a matrix selector has its selector."""
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


T = TypeVar("T")
RequestT = TypeVar("RequestT")

Nested = Generator[RequestT, T, T]
"""A computation in progress: it yields each part it needs computed, receives the result, and
returns its own."""


def walk(expr: Expr) -> Iterator[Expr]:
    """`expr` and every node below it: parents before children, in the order of the text."""
    waiting = [expr]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))


def fold(expr: Expr, combine: Callable[[Expr, list[T]], T]) -> T:
    """`combine(node, results of its children)` for every node, bottom up; the root's result.

    Children come before their parents, in the order of the text, so that the first fault is raised.
    """
    made: dict[int, T] = {}
    from_last, waiting = list[Expr](), [expr]
    while waiting:
        node = waiting.pop()
        from_last.append(node)
        waiting.extend(children(node))
    for node in reversed(from_last):
        made[id(node)] = combine(node, [made.pop(id(child)) for child in children(node)])
    return made[id(expr)]


def run_nested(begin: Callable[[RequestT], Nested[RequestT, T]], request: RequestT) -> T:
    """Run `begin(request)`, and every computation it requests, to the result of the first.

    Suspended computations wait on a list instead of the call stack. An error in one ends them all.
    """
    waiting = [begin(request)]
    answer: T | None = None
    while True:
        try:
            # None starts a generator; afterwards the answer resumes the one that requested it.
            requested = waiting[-1].send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            answer = done.value
            waiting.pop()
            if not waiting:
                return done.value  # type: ignore[no-any-return]
        else:
            answer = None
            waiting.append(begin(requested))
