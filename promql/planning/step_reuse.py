"""Which range queries can reuse steps of earlier answers, and which samples a step depends on.

PromQL evaluates each step separately, with a few exceptions; queries with one are not reusable.
"""

from dataclasses import dataclass

from promcompat.core.matchers import MatchOp
from promcompat.core.model import METRIC_NAME, EvalRange
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    VectorSelector,
    walk,
)
from promql.functions.registry import FUNCTIONS
from promql.planning.plan import Plan

_WHOLE_RANGE_AGGREGATIONS = frozenset({"limitk", "limit_ratio"})


@dataclass(frozen=True, slots=True)
class StepReach:
    """The value at a step depends only on the samples in `(step - back_ms, step + ahead_ms]`."""

    back_ms: int
    ahead_ms: int


def step_reach(plan: Plan) -> StepReach:
    """The reach of a step of a reusable plan; it is the same for all ranges with this step."""
    grid: EvalRange = plan.eval_range
    return StepReach(
        max(grid.start_ms - selection.start_ms for selection in plan.selections),
        max(0, *(selection.end_ms - grid.end_ms for selection in plan.selections)),
    )


def is_reusable(expr: Expr) -> bool:
    """Whether every step of `expr`, as parsed, has the same value in every range.

    It has not with `@`, with computed durations, and where Prometheus compares the label sets of
    all steps: in functions that rename labels, and where metric names are dropped from a matrix
    that may hold several metrics.
    """
    nodes = list(walk(expr))
    if not any(isinstance(node, VectorSelector) for node in nodes):
        return False
    if not all(map(_is_step_wise, nodes)):
        return False
    drops_names = any(isinstance(node, SubqueryExpr | UnaryExpr) for node in nodes)
    return not (drops_names and any(_joins_metrics(node) for node in nodes))


def _is_step_wise(node: Expr) -> bool:
    match node:
        case VectorSelector():
            return _names_metric(node) and _moves_with_step(node.modifiers)
        case MatrixSelector():
            return node.range_expr is None
        case SubqueryExpr():
            computed = node.range_expr is not None or node.step_expr is not None
            return not computed and _moves_with_step(node.modifiers)
        case Call():
            return not FUNCTIONS[node.func].needs_whole_range
        case AggregateExpr():
            return node.op not in _WHOLE_RANGE_AGGREGATIONS
        case _:
            return True


def _names_metric(selector: VectorSelector) -> bool:
    return any(
        matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL and matcher.value
        for matcher in selector.matchers
    )


def _moves_with_step(modifiers: TimeModifiers) -> bool:
    fixed = modifiers.timestamp_ms is not None or modifiers.at is not None
    return not fixed and modifiers.offset_expr is None


def _joins_metrics(node: Expr) -> bool:
    return isinstance(node, BinaryExpr) and node.op == "or"
