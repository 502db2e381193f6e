"""From a parsed query to its plan: resolve what depends on the query's range, list the leaves.

Before: `sum(rate(foo[5m] @ end())) / bar offset 1m` over [0, 1h].
After: every selector has a fixed `@` or none, and two selections, `foo` in `(55m, 60m]` and `bar`
in `(-6m, 59m]`; `sum(…)` is step invariant, so it is evaluated on one step only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METRIC_NAME, EvalRange, SelectHints, SeriesSelection
from promql.ast import (
    AggregateExpr,
    BinaryExpr,
    Call,
    DurationExpr,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    StringLiteral,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    ValueType,
    VectorSelector,
    children,
)
from promql.durations import duration_ms
from promql.plan import Plan

_AT_UNSAFE_FUNCTIONS = frozenset(
    {
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "hour",
        "minute",
        "month",
        "year",
        "predict_linear",
        "time",
        "timestamp",
    }
)
"""Functions whose result depends on the eval time even when their arguments do not."""

TARGET_INFO = LabelMatcher(METRIC_NAME, MatchOp.EQUAL, "target_info")
"""What `info()` reads when it is not told otherwise."""


def make_plan(
    expr: Expr,
    result_type: ValueType,
    eval_range: EvalRange,
    *,
    lookback_ms: int,
    default_subquery_step_ms: int,
) -> Plan:
    """Plan the evaluation of `expr`, a type-checked query of `result_type`, over `eval_range`.

    Raises BadDataError when a duration expression is not a usable duration.
    """
    resolved = _resolve(expr, eval_range, default_subquery_step_ms)
    leaves = _Leaves(lookback_ms)
    whole = _Context(eval_range.start_ms, eval_range.end_ms, eval_range.step_ms)
    leaves.visit(resolved, whole)
    invariant: set[Expr] = set()
    if _mark_invariant(resolved, invariant):
        invariant.add(resolved)
    return Plan(
        expr=resolved,
        result_type=result_type,
        eval_range=eval_range,
        selections=tuple(leaves.selections),
        leaf_of=leaves.leaf_of,
        step_invariant=frozenset(node for node in invariant if _has_selector(node)),
    )


def _resolve(expr: Expr, eval_range: EvalRange, default_step_ms: int) -> Expr:
    def again(child: Expr) -> Expr:
        return _resolve(child, eval_range, default_step_ms)

    match expr:
        case VectorSelector():
            return replace(expr, modifiers=_resolve_modifiers(expr.modifiers, eval_range))
        case MatrixSelector():
            selector = expr.vector_selector
            modifiers = _resolve_modifiers(selector.modifiers, eval_range)
            return replace(
                expr,
                vector_selector=replace(selector, modifiers=modifiers),
                range_ms=_resolve_duration(expr.range_expr, expr.range_ms, eval_range),
                range_expr=None,
            )
        case SubqueryExpr():
            return _resolve_subquery(expr, again(expr.expr), eval_range, default_step_ms)
        case Call():
            return replace(expr, args=tuple(again(arg) for arg in _call_args(expr)))
        case AggregateExpr():
            param = None if expr.param is None else again(expr.param)
            return replace(expr, expr=again(expr.expr), param=param)
        case BinaryExpr():
            return replace(expr, lhs=again(expr.lhs), rhs=again(expr.rhs))
        case UnaryExpr() | ParenExpr():
            return replace(expr, expr=again(expr.expr))
        case NumberLiteral() | StringLiteral():
            return expr


def _resolve_subquery(
    expr: SubqueryExpr, inner: Expr, eval_range: EvalRange, default_step_ms: int
) -> SubqueryExpr:
    step_ms = _resolve_duration(expr.step_expr, expr.step_ms, eval_range)
    return replace(
        expr,
        expr=inner,
        modifiers=_resolve_modifiers(expr.modifiers, eval_range),
        range_ms=_resolve_duration(expr.range_expr, expr.range_ms, eval_range),
        step_ms=step_ms or default_step_ms,
        range_expr=None,
        step_expr=None,
    )


def _call_args(call: Call) -> tuple[Expr, ...]:
    """The arguments, with the selector `info(v)` implies spelled out as that of `target_info`."""
    if call.func != "info" or not call.args:
        return call.args
    if len(call.args) == 1:
        return (*call.args, VectorSelector("", (TARGET_INFO,), TimeModifiers(), call.pos))
    return call.args


def _resolve_duration(expr: DurationExpr | None, given_ms: int, eval_range: EvalRange) -> int:
    return given_ms if expr is None else duration_ms(expr, eval_range.step_ms)


def _resolve_modifiers(modifiers: TimeModifiers, eval_range: EvalRange) -> TimeModifiers:
    offset_ms = modifiers.offset_ms
    if modifiers.offset_expr is not None:
        offset_ms = duration_ms(modifiers.offset_expr, eval_range.step_ms, allow_negative=True)
    timestamp_ms = modifiers.timestamp_ms
    if modifiers.at is not None:
        timestamp_ms = eval_range.start_ms if modifiers.at == "start" else eval_range.end_ms
    return TimeModifiers(offset_ms=offset_ms, timestamp_ms=timestamp_ms)


def _mark_invariant(expr: Expr, found: set[Expr]) -> bool:
    """Whether `expr` has the same value at every step; `found` collects the largest such parts.

    The rules are Prometheus': one is that the parameter of an aggregation has no say.
    """
    match expr:
        case NumberLiteral() | StringLiteral():
            return True
        case VectorSelector():
            return expr.modifiers.timestamp_ms is not None
        case MatrixSelector():
            return expr.vector_selector.modifiers.timestamp_ms is not None
        case SubqueryExpr():
            _mark_all(found, expr.expr, safe=False)
            return expr.modifiers.timestamp_ms is not None
        case AggregateExpr():
            _mark_all(found, *children(expr)[:-1], safe=False)
            return _mark_invariant(expr.expr, found)
        case Call():
            return _mark_all(found, *expr.args, safe=expr.func not in _AT_UNSAFE_FUNCTIONS)
        case BinaryExpr() | UnaryExpr() | ParenExpr():
            return _mark_all(found, *children(expr))


def _mark_all(found: set[Expr], *parts: Expr, safe: bool = True) -> bool:
    marks = [_mark_invariant(part, found) for part in parts]
    if safe and all(marks):
        return True
    found.update(part for part, mark in zip(parts, marks, strict=True) if mark)
    return False


def _has_selector(expr: Expr) -> bool:
    return isinstance(expr, VectorSelector) or any(_has_selector(part) for part in children(expr))


@dataclass(frozen=True, slots=True)
class _Context:
    """Where a node stands: the eval times it can be asked for and what is around it."""

    start_ms: int
    end_ms: int
    step_ms: int
    function: str = ""
    grouping: tuple[str, ...] = ()
    by: bool = False

    def moved(self, modifiers: TimeModifiers, range_ms: int, step_ms: int) -> "_Context":
        """The eval times a selector or subquery with these modifiers looks at (left-open)."""
        at_ms = modifiers.timestamp_ms
        start_ms = self.start_ms if at_ms is None else at_ms
        end_ms = self.end_ms if at_ms is None else at_ms
        return replace(
            self,
            start_ms=start_ms - modifiers.offset_ms - range_ms,
            end_ms=end_ms - modifiers.offset_ms,
            step_ms=step_ms,
        )

    def aligned(self) -> "_Context":
        """The multiples of the step among the times: those a subquery is evaluated at."""
        first_ms = (self.start_ms // self.step_ms + 1) * self.step_ms
        last_ms = self.end_ms // self.step_ms * self.step_ms
        return replace(self, start_ms=first_ms, end_ms=last_ms)


class _Leaves:
    """Collects the selections; one that was asked for before is not fetched twice."""

    def __init__(self, lookback_ms: int) -> None:
        self._lookback_ms = lookback_ms
        self.selections: list[SeriesSelection] = []
        self.leaf_of: dict[VectorSelector, int] = {}
        self._index: dict[tuple[object, ...], int] = {}

    def visit(self, expr: Expr, context: _Context) -> None:
        """Add the selections of every selector in `expr`."""
        match expr:
            case VectorSelector():
                self._add(expr, expr.matchers, context, 0)
            case MatrixSelector():
                selector = expr.vector_selector
                self._add(selector, selector.matchers, context, expr.range_ms)
            case SubqueryExpr():
                inner = context.moved(expr.modifiers, expr.range_ms, expr.step_ms)
                self.visit(expr.expr, inner.aligned())
            case Call(func="info"):
                self._visit_info(expr, context)
            case _:
                for child, inner in _child_contexts(expr, context):
                    self.visit(child, inner)

    def _visit_info(self, call: Call, context: _Context) -> None:
        inner = replace(context, function="info", grouping=(), by=False)
        self.visit(call.args[0], inner)
        selector = call.args[1]
        assert isinstance(selector, VectorSelector)
        named = any(matcher.name == METRIC_NAME for matcher in selector.matchers)
        matchers = selector.matchers if named else (TARGET_INFO, *selector.matchers)
        self._add(selector, matchers, inner, 0)

    def _add(
        self,
        selector: VectorSelector,
        matchers: tuple[LabelMatcher, ...],
        context: _Context,
        range_ms: int,
    ) -> None:
        reach_ms = range_ms or self._lookback_ms
        seen = context.moved(selector.modifiers, reach_ms, context.step_ms)
        hints = SelectHints(
            step_ms=context.step_ms,
            range_ms=range_ms,
            reach_ms=0 if _is_looked_up_elsewhere(selector, context) else reach_ms,
            function=context.function,
            grouping=context.grouping,
            by=context.by,
        )
        key = (matchers, seen.start_ms, seen.end_ms, hints.step_ms, hints.range_ms)
        index = self._index.setdefault(key, len(self.selections))
        self.leaf_of[selector] = index
        if index == len(self.selections):
            self.selections.append(
                SeriesSelection(
                    matchers=matchers, start_ms=seen.start_ms, end_ms=seen.end_ms, hints=hints
                )
            )
        elif self.selections[index].hints != hints:
            # Two uses share the samples, so none of them may shape what is fetched.
            shared = SelectHints(
                step_ms=hints.step_ms,
                range_ms=hints.range_ms,
                reach_ms=min(hints.reach_ms, self.selections[index].hints.reach_ms),
            )
            self.selections[index] = replace(self.selections[index], hints=shared)


def _is_looked_up_elsewhere(selector: VectorSelector, context: _Context) -> bool:
    """Whether a sample is looked for at another time than samples are selected for.

    `timestamp(x @ t offset d)` looks at t, see `Evaluator._sample_times`.
    """
    modifiers = selector.modifiers
    is_moved = modifiers.timestamp_ms is not None and modifiers.offset_ms != 0
    return is_moved and context.function == "timestamp"


def _child_contexts(expr: Expr, context: _Context) -> Iterator[tuple[Expr, _Context]]:
    """The children of a node that does not move time, with the hints each is to carry."""
    inner = context
    match expr:
        case Call():
            inner = replace(context, function=expr.func, grouping=(), by=False)
        case AggregateExpr():
            inner = replace(context, function=expr.op, grouping=expr.grouping, by=not expr.without)
        case BinaryExpr():
            inner = replace(context, function="", grouping=(), by=False)
        case UnaryExpr() | ParenExpr():
            inner = replace(context, grouping=(), by=False)
    for child in children(expr):
        yield child, inner
