"""The leaves of a plan: the selections of samples that an expression reads, equal ones once."""

from dataclasses import dataclass, replace
from enum import Enum

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import METADATA_LABELS, METRIC_NAME, SelectHints, SeriesSelection
from promql.ast import (
    TRIM_OPERATORS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    ValueType,
    VectorSelector,
    children,
    unwrap_parens,
)
from promql.functions.info_function import info_data_matchers, info_name_matchers
from promql.functions.registry import FUNCTIONS, RangeFunction
from promql.numbers.float_arithmetic import makes_other_metric


class _HintUse(Enum):
    """What the nodes around a node want of histograms.

    Only counts and sums may be wanted (COUNTED), until something needs buckets (NONE). Reset hints
    matter where such histograms are added (ADDED), unless they are made gauges (GAUGES).
    """

    NONE = 0
    COUNTED = 1
    ADDED = 2
    GAUGES = 3


_READS_GROUPS = frozenset(
    ("avg", "count", "count_values", "group", "max", "min", "quantile", "stddev", "stdvar", "sum")
)
"""The aggregations that read no labels of floats but those they group by."""
_COUNTING = frozenset(("histogram_avg", "histogram_count", "histogram_sum"))
_NEEDS_BUCKETS = frozenset(("histogram_fraction", "histogram_quantile", "histogram_quantiles"))
_MAKES_GAUGES = frozenset(("delta", "idelta", "increase", "irate", "rate"))
_ADDS = frozenset(("+", "-", "avg", "avg_over_time", "sum", "sum_over_time"))
_USES_STARTS = (frozenset(("start_timestamp",)), frozenset(("increase", "irate", "rate", "resets")))
"""The functions that read when counters began, of instant vectors and of range vectors."""


def _hint_use(expr: Expr, around: _HintUse | None) -> _HintUse | None:
    """The use of hints below a node, given that above it."""
    match expr:
        case Call():
            name = expr.func
        case AggregateExpr() | BinaryExpr():
            name = expr.op
        case _:
            name = ""
    ends = isinstance(expr, SubqueryExpr) or name in _NEEDS_BUCKETS or name in TRIM_OPERATORS
    if around is _HintUse.NONE or ends:
        return _HintUse.NONE
    if around is _HintUse.GAUGES or (around and name in _MAKES_GAUGES):
        return _HintUse.GAUGES
    if name in _COUNTING:
        return around or _HintUse.COUNTED
    return _HintUse.ADDED if around and name in _ADDS else around


@dataclass(frozen=True, slots=True)
class Context:
    """The context of a node: its possible eval times, and the nodes around it."""

    start_ms: int
    end_ms: int
    step_ms: int
    function: str = ""
    labels: tuple[str, ...] | None = None
    drops_metadata: bool = False
    selects_info: bool = False
    hint_use: "_HintUse | None" = None

    def moved(self, modifiers: TimeModifiers, range_ms: int, step_ms: int) -> "Context":
        """The times that a selector or subquery with these modifiers covers (left-open)."""
        at_ms = modifiers.timestamp_ms
        start_ms = self.start_ms if at_ms is None else at_ms
        end_ms = self.end_ms if at_ms is None else at_ms
        return replace(
            self,
            start_ms=start_ms - modifiers.offset_ms - range_ms,
            end_ms=end_ms - modifiers.offset_ms,
            step_ms=step_ms,
        )

    def aligned(self) -> "Context":
        """The first and last multiple of the step, at which a subquery is evaluated."""
        first_ms = (self.start_ms // self.step_ms + 1) * self.step_ms
        last_ms = self.end_ms // self.step_ms * self.step_ms
        return replace(self, start_ms=first_ms, end_ms=last_ms)


class Leaves:
    """Collects the selections, equal ones only once."""

    def __init__(self, lookback_ms: int, uses_starts: bool) -> None:
        self._lookback_ms = lookback_ms
        self._uses_starts = uses_starts
        self.selections: list[SeriesSelection] = []
        self.leaf_of: dict[VectorSelector, int] = {}
        self.find_resets: set[VectorSelector] = set()
        self.without_buckets: set[VectorSelector] = set()
        self._index: dict[tuple[object, ...], int] = {}

    def visit(self, expr: Expr, context: Context) -> None:
        """Add the selections of every selector in `expr`, in the order of the text."""
        waiting = [(expr, context)]
        while waiting:
            node, around = waiting.pop()
            match node:
                case VectorSelector():
                    self._add(node, _matchers_of(node, around), around, 0)
                case MatrixSelector():
                    selector = node.vector_selector
                    self._add(selector, selector.matchers, around, node.range_ms)
                case Call(func="info"):
                    inner = _context_within(node, around)
                    waiting.append((node.args[1], replace(inner, selects_info=True)))
                    waiting.append((node.args[0], inner))
                case _:
                    inner = _context_within(node, around)
                    waiting.extend((child, inner) for child in reversed(children(node)))

    def _add(
        self,
        selector: VectorSelector,
        matchers: tuple[LabelMatcher, ...],
        context: Context,
        range_ms: int,
    ) -> None:
        reach_ms = range_ms or self._lookback_ms
        seen = context.moved(selector.modifiers, reach_ms, context.step_ms)
        if context.hint_use not in (None, _HintUse.NONE):
            self.without_buckets.add(selector)
        if selector.extension:
            self._add_extended(selector, matchers, seen, range_ms)
            return
        if context.hint_use is _HintUse.ADDED:
            # Each histogram is compared with the one before it, so none may be missing.
            self.find_resets.add(selector)
            seen = replace(seen, start_ms=seen.start_ms - self._lookback_ms)
            self._add_selection(selector, matchers, seen, SelectHints(step_ms=seen.step_ms))
            return
        if self._uses_starts and context.function in _USES_STARTS[range_ms > 0]:
            # Resets between samples count, so none may be missing.
            hints = SelectHints(step_ms=context.step_ms, range_ms=range_ms, wants_starts=True)
            self._add_selection(selector, matchers, seen, hints)
            return
        labels = _labels_read(context, matchers)
        hints = SelectHints(
            step_ms=context.step_ms,
            range_ms=range_ms,
            reach_ms=0 if _is_looked_up_elsewhere(selector, context) else reach_ms,
            function=context.function,
            labels=labels,
            drops_metadata=labels is not None and context.drops_metadata,
        )
        self._add_selection(selector, matchers, seen, hints)

    def _add_extended(
        self,
        selector: VectorSelector,
        matchers: tuple[LabelMatcher, ...],
        seen: Context,
        range_ms: int,
    ) -> None:
        """Add the samples around the ends of the range, too."""
        is_smoothed = selector.extension == "smoothed"
        seen = replace(
            seen,
            start_ms=seen.start_ms - (self._lookback_ms if range_ms else 0),
            end_ms=seen.end_ms + (self._lookback_ms if is_smoothed else 0),
        )
        wants_starts = self._uses_starts and seen.function == "resets"
        hints = SelectHints(step_ms=seen.step_ms, wants_starts=wants_starts)
        self._add_selection(selector, matchers, seen, hints)

    def _add_selection(
        self,
        selector: VectorSelector,
        matchers: tuple[LabelMatcher, ...],
        seen: Context,
        hints: SelectHints,
    ) -> None:
        key = (
            matchers, seen.start_ms, seen.end_ms, hints.step_ms, hints.range_ms, hints.wants_starts
        )  # fmt: skip
        index = self._index.setdefault(key, len(self.selections))
        self.leaf_of[selector] = index
        if index == len(self.selections):
            self.selections.append(
                SeriesSelection(
                    matchers=matchers, start_ms=seen.start_ms, end_ms=seen.end_ms, hints=hints
                )
            )
        elif self.selections[index].hints != hints:
            # Two uses share these samples, so hints of only one of them must not apply.
            shared = SelectHints(
                step_ms=hints.step_ms,
                range_ms=hints.range_ms,
                reach_ms=min(hints.reach_ms, self.selections[index].hints.reach_ms),
                labels=_labels_of_both(hints.labels, self.selections[index].hints.labels),
                drops_metadata=hints.drops_metadata or self.selections[index].hints.drops_metadata,
            )
            self.selections[index] = replace(self.selections[index], hints=shared)


def _matchers_of(selector: VectorSelector, context: Context) -> tuple[LabelMatcher, ...]:
    """The matchers of an instant selector; those of info metrics have the names that are read."""
    given = selector.matchers
    if not context.selects_info:
        return given
    return (*info_name_matchers(given), *info_data_matchers(given))


def _labels_read(context: Context, matchers: tuple[LabelMatcher, ...]) -> tuple[str, ...] | None:
    """The names of the only labels that the query reads of a selector's series; None: any.

    Where metric names are dropped, series of different metrics may get equal labels, which is an
    error that only all labels show. So all are read unless the selector has an exact name.
    Annotations show the name.
    """
    if context.labels is None or not context.drops_metadata:
        return context.labels
    if not any(one.name == METRIC_NAME and one.op is MatchOp.EQUAL for one in matchers):
        return None
    return tuple(sorted({*context.labels, *METADATA_LABELS}))


def _labels_of_both(
    labels: tuple[str, ...] | None, others: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """The labels that either of two uses reads."""
    return None if labels is None or others is None else tuple(sorted({*labels, *others}))


def _is_looked_up_elsewhere(selector: VectorSelector, context: Context) -> bool:
    """Whether samples are looked up at other times than they are selected for.

    `timestamp(x @ t offset d)` looks them up at t, see `LeafSamples.times`.
    """
    modifiers = selector.modifiers
    is_moved = modifiers.timestamp_ms is not None and modifiers.offset_ms != 0
    return is_moved and context.function == "timestamp"


def _is_scalar(expr: Expr) -> bool:
    """Whether an operand is a number or a call that returns one.

    Operators are not looked into: in a long chain of them, that would take quadratic time.
    """
    operand = unwrap_parens(expr)
    if isinstance(operand, Call):
        return FUNCTIONS[operand.func].return_type is ValueType.SCALAR
    return isinstance(operand, NumberLiteral)


def _context_within(expr: Expr, context: Context) -> Context:
    """The context of the children of a node."""
    hint_use = _hint_use(expr, context.hint_use)
    if hint_use is not context.hint_use:
        context = replace(context, hint_use=hint_use)
    match expr:
        case SubqueryExpr():
            inner = context.moved(expr.modifiers, expr.range_ms, expr.step_ms).aligned()
            return replace(inner, labels=None)
        case Call():
            function = FUNCTIONS[expr.func]
            # Any other function may read labels, or make them.
            labels = context.labels if isinstance(function, RangeFunction) else None
            drops = context.drops_metadata or not function.keeps_name
            return replace(context, function=expr.func, labels=labels, drops_metadata=drops)
        case AggregateExpr():
            is_grouped = expr.op in _READS_GROUPS and not expr.without
            labels = tuple(sorted(set(expr.grouping))) if is_grouped else None
            return replace(context, function=expr.op, labels=labels, drops_metadata=False)
        case BinaryExpr():
            is_elementwise = _is_scalar(expr.lhs) or _is_scalar(expr.rhs)
            labels = context.labels if is_elementwise else None
            drops = context.drops_metadata or expr.return_bool or makes_other_metric(expr.op)
            return replace(context, function="", labels=labels, drops_metadata=drops)
        case UnaryExpr():
            return replace(context, drops_metadata=context.drops_metadata or expr.op == "-")
        case ParenExpr():
            return context
        case _:
            return replace(context, labels=None)
