"""What the runner must know of an expression: its selectors, and its form with `@` everywhere."""

from collections.abc import Iterator

from promcompat.core.errors import BadDataError
from promql.ast import Call, Expr, MatrixSelector, SubqueryExpr, VectorSelector, children
from promql.parsing.parser import parse_expr

# The answers of these depend on the time of the query although their selectors are pinned.
_TIME_FUNCTIONS = frozenset(
    (
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "days_in_month",
        "end",
        "hour",
        "info",
        "minute",
        "month",
        "predict_linear",
        "range",
        "start",
        "step",
        "time",
        "timestamp",
        "year",
    )
)


def selectors_of(expr: str) -> list[VectorSelector]:
    """The vector selectors of an expression, none when it cannot be parsed."""
    try:
        tree = parse_expr(expr)
    except BadDataError:
        return []
    return [node for node in walk(tree) if isinstance(node, VectorSelector)]


def walk(expr: Expr) -> Iterator[Expr]:
    """The node and all nodes below it."""
    yield expr
    for child in children(expr):
        yield from walk(child)


def pin_selectors(expr: str, time_ms: int) -> str | None:
    """The expression with `@ time` at every outermost selector and subquery that has no `@`.

    None when its answer could still depend on the time of the query.
    """
    tree = parse_expr(expr)
    for node in walk(tree):
        if isinstance(node, Call) and node.func in _TIME_FUNCTIONS:
            return None
        if isinstance(node, VectorSelector | SubqueryExpr) and node.modifiers.at is not None:
            return None
    ends = sorted(_ends_to_pin(tree), reverse=True)
    for end in ends:
        expr = f"{expr[:end]} @ {time_ms / 1000:.3f}{expr[end:]}"
    return expr


def _ends_to_pin(expr: Expr) -> Iterator[int]:
    """Where selectors end that take an `@`; what is inside a subquery follows the subquery's."""
    match expr:
        case VectorSelector() | SubqueryExpr():
            if expr.modifiers.timestamp_ms is None:
                yield expr.pos.end
        case MatrixSelector():
            if expr.vector_selector.modifiers.timestamp_ms is None:
                yield expr.pos.end
        case _:
            for child in children(expr):
                yield from _ends_to_pin(child)
