"""From a parsed query to its plan: resolves what depends on the query's range, finds its leaves.

Before: `sum(rate(foo[5m] @ end())) / bar offset 1m` over [0, 1h].
After: `@` is a fixed time, and there are two selections, `foo` in `(55m, 60m]` and `bar` in
`(-6m, 59m]`; `sum(…)` is step invariant, so it is evaluated for one step only.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from promcompat.core.model import EvalRange
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    ValueType,
    VectorSelector,
    fold,
    walk,
)
from promql.functions.info_function import TARGET_INFO, reference_time
from promql.functions.registry import FUNCTIONS, InstantFunction
from promql.planning.durations import duration_ms
from promql.planning.leaves import Context, Leaves
from promql.planning.plan import Plan

_FARTHEST_MS = 1 << 62
"""Bound of `@`: there are no samples beyond, and times around it still fit an int64."""


def make_plan(
    expr: Expr,
    result_type: ValueType,
    eval_range: EvalRange,
    *,
    lookback_ms: int,
    default_subquery_step_ms: int,
    uses_starts: bool = False,
) -> Plan:
    """Plan the evaluation of `expr`, a type-checked query of `result_type`, over `eval_range`.

    With `uses_starts`, functions of counters read when these began. Raises BadDataError for an
    invalid duration.
    """
    resolved = _resolve(expr, eval_range, default_subquery_step_ms)
    leaves = Leaves(lookback_ms, uses_starts)
    whole = Context(eval_range.start_ms, eval_range.end_ms, eval_range.step_ms)
    leaves.visit(resolved, whole)
    invariant, keeps_first_param = _invariant_parts(resolved)
    return Plan(
        parsed=expr,
        expr=resolved,
        result_type=result_type,
        eval_range=eval_range,
        selections=tuple(leaves.selections),
        leaf_of=leaves.leaf_of,
        step_invariant=frozenset(part.expr for part in invariant if part.is_better_once),
        find_resets=frozenset(leaves.find_resets),
        without_buckets=frozenset(leaves.without_buckets),
        can_move=not any(map(_names_time, walk(expr))),
        keeps_first_param=keeps_first_param,
    )


def _names_time(node: Expr) -> bool:
    """Whether a node depends on when it is evaluated besides the times of its samples."""
    match node:
        case VectorSelector(modifiers=modifiers):
            return modifiers.at is not None or modifiers.timestamp_ms is not None
        case SubqueryExpr():
            return True  # Its steps are multiples of a duration.
        case Call():
            return node.func in _QUERY_TIMES or node.func == "info"
        case _:
            return False


def _resolve(
    expr: Expr, eval_range: EvalRange, default_step_ms: int, *, is_param: bool = False
) -> Expr:
    references: dict[int, TimeModifiers | None] = {}
    """When `info` of each resolved part looks for info samples, by the part's id."""

    def resolve_node(node: Expr, parts: list[Expr]) -> Expr:
        of_parts = [references[id(part)] for part in parts]
        if isinstance(node, Call):
            resolved: Expr = _resolve_call(node, parts, eval_range, of_parts)
        else:
            resolved = _resolve_node(node, parts, eval_range, default_step_ms, is_param)
        references[id(resolved)] = reference_time(resolved, of_parts)
        return resolved

    return fold(expr, resolve_node)


def _resolve_node(
    node: Expr, parts: list[Expr], eval_range: EvalRange, default_step_ms: int, is_param: bool
) -> Expr:
    """A node that is no call, with its resolved parts."""
    match node:
        case VectorSelector():
            modifiers = _resolve_modifiers(node.modifiers, eval_range, is_param)
            return replace(node, modifiers=modifiers)
        case MatrixSelector():
            (selector,) = parts
            assert isinstance(selector, VectorSelector)
            return _resolve_matrix_selector(node, selector, eval_range)
        case SubqueryExpr():
            modifiers = _resolve_modifiers(node.modifiers, eval_range, is_param)
            resolved = _resolve_subquery(node, parts[0], eval_range, default_step_ms)
            return replace(resolved, modifiers=modifiers)
        case AggregateExpr():
            param = _resolve_param(node.param, eval_range, default_step_ms)
            return replace(node, expr=parts[-1], param=param)
        case BinaryExpr():
            return replace(node, lhs=parts[0], rhs=parts[1])
        case UnaryExpr() | ParenExpr():
            return replace(node, expr=parts[0])
        case _:
            return node


def _resolve_param(param: Expr | None, eval_range: EvalRange, default_step_ms: int) -> Expr | None:
    """The resolved parameter of an aggregation, where Prometheus 3.5 ignores `@ start()`."""
    if param is None:
        return None
    return _resolve(param, eval_range, default_step_ms, is_param=True)


_QUERY_TIMES: Mapping[str, Callable[[EvalRange], float]] = {
    "start": lambda query: query.start_ms / 1000,
    "end": lambda query: query.end_ms / 1000,
    "range": lambda query: (query.end_ms - query.start_ms) / 1000,
    # Of a range that is one time Prometheus says what it says of an instant query.
    "step": lambda query: query.step_ms / 1000 if query.start_ms < query.end_ms else 0.0,
}
"""The values of functions that are those of the whole query everywhere, in seconds."""


def _resolve_matrix_selector(
    expr: MatrixSelector, selector: VectorSelector, eval_range: EvalRange
) -> MatrixSelector:
    range_ms = _resolve_duration(expr.range_expr, expr.range_ms, eval_range)
    return replace(expr, vector_selector=selector, range_ms=range_ms, range_expr=None)


def _resolve_subquery(
    expr: SubqueryExpr, inner: Expr, eval_range: EvalRange, default_step_ms: int
) -> SubqueryExpr:
    step_ms = _resolve_duration(expr.step_expr, expr.step_ms, eval_range)
    return replace(
        expr,
        expr=inner,
        range_ms=_resolve_duration(expr.range_expr, expr.range_ms, eval_range),
        step_ms=step_ms or default_step_ms,
        range_expr=None,
        step_expr=None,
    )


def _resolve_call(
    call: Call,
    args: list[Expr],
    eval_range: EvalRange,
    references: list[TimeModifiers | None],
) -> Call | NumberLiteral:
    if call.func in _QUERY_TIMES:
        return NumberLiteral(_QUERY_TIMES[call.func](eval_range), False, call.pos)
    if call.func != "info":
        return replace(call, args=tuple(args))
    return replace(call, args=(args[0], _info_selector(call, args, references[0])))


def _info_selector(call: Call, args: list[Expr], reference: TimeModifiers | None) -> VectorSelector:
    """The selector of info series: `target_info` unless there is one, of whose only matchers count.

    It looks for samples at the time of reference of the first argument.
    """
    modifiers = reference or TimeModifiers()
    if len(args) == 1:
        return VectorSelector("", (TARGET_INFO,), modifiers, call.pos)
    selector = args[1]
    assert isinstance(selector, VectorSelector)
    return replace(selector, modifiers=modifiers)


def _resolve_duration(expr: DurationExpr | None, given_ms: int, eval_range: EvalRange) -> int:
    return given_ms if expr is None else duration_ms(expr, eval_range)


def _resolve_modifiers(
    modifiers: TimeModifiers, eval_range: EvalRange, is_param: bool
) -> TimeModifiers:
    offset_ms = modifiers.offset_ms
    if modifiers.offset_expr is not None:
        offset_ms = duration_ms(modifiers.offset_expr, eval_range, allow_negative=True)
    timestamp_ms = modifiers.timestamp_ms
    if modifiers.at is not None and not is_param:
        timestamp_ms = eval_range.start_ms if modifiers.at == "start" else eval_range.end_ms
    if timestamp_ms is not None:
        timestamp_ms = min(max(timestamp_ms, -_FARTHEST_MS), _FARTHEST_MS)
    return TimeModifiers(offset_ms=offset_ms, timestamp_ms=timestamp_ms)


class _Part(NamedTuple):
    """A part, and whether its value is the same at every step.

    `is_better_once`: it reads samples, or sorts, which warns if there are several steps, or keeps
    the parameter of the first step.
    """

    expr: Expr
    is_invariant: bool
    is_better_once: bool


def _invariant_parts(expr: Expr) -> tuple[list[_Part], bool]:
    """The largest parts that have the same value at every step.

    And whether one of them is an aggregation whose parameter has not, see `Plan`.
    """
    found: list[_Part] = []
    keeps_first_param = False

    def look_at(node: Expr, parts: list[_Part]) -> _Part:
        nonlocal keeps_first_param
        is_invariant = _is_invariant(node, parts)
        keeps_param = isinstance(node, AggregateExpr) and is_invariant
        keeps_param = keeps_param and not all(part.is_invariant for part in parts)
        keeps_first_param |= keeps_param
        if isinstance(node, SubqueryExpr) or not is_invariant:
            outermost = parts
        else:
            # Prometheus ignores the parameter of an aggregation here.
            outermost = parts[:-1] if isinstance(node, AggregateExpr) else []
        found.extend(part for part in outermost if part.is_invariant)
        is_better_once = isinstance(node, VectorSelector) or _sorts(node) or keeps_param
        is_better_once = is_better_once or any(part.is_better_once for part in parts)
        return _Part(node, is_invariant, is_better_once)

    whole = fold(expr, look_at)
    return [*found, whole] if whole.is_invariant else found, keeps_first_param


def _sorts(node: Expr) -> bool:
    function = FUNCTIONS[node.func] if isinstance(node, Call) else None
    return isinstance(function, InstantFunction) and function.sorts


def _is_invariant(node: Expr, parts: list[_Part]) -> bool:
    """Whether a node has the same value at every step. The rules are Prometheus'."""
    match node:
        case VectorSelector():
            return node.modifiers.timestamp_ms is not None
        case SubqueryExpr():
            return node.modifiers.timestamp_ms is not None
        case AggregateExpr():
            return parts[-1].is_invariant
        case Call(func="info", args=(_, selector)) if selector.pos == node.pos:
            # The implied selector does not count.
            return parts[0].is_invariant
        case Call() if FUNCTIONS[node.func].uses_eval_time:
            return False
        case _:
            return all(part.is_invariant for part in parts)
