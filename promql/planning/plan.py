"""The plan of a query: the resolved tree, and all selections to read from storage."""

from collections.abc import Mapping
from typing import Self

from promcompat.core.model import EvalRange, SeriesSelection
from promcompat.core.value_classes import value_class
from promql.ast import Expr, ValueType, VectorSelector


@value_class(frozen=True, slots=True)
class Plan:
    """What to read and what to compute.

    `parsed` is the query as it was written. In `expr` every duration expression is computed and
    every `@ start()` and `@ end()` resolved: only `offset_ms`, `range_ms`, `step_ms` and
    `timestamp_ms` remain. `selections[leaf_of[selector]]` is what to read for a selector of `expr`;
    it covers every step the evaluator can need, with subqueries, lookback, offsets and `@`.
    `step_invariant` are the largest parts of `expr` that read samples, sort, or keep a parameter,
    and have the same value at every step; they are evaluated for one step.
    `find_resets` are the selectors whose histograms are compared with those before them, see
    `promql.histograms.found_resets`. Of the histograms of `without_buckets` only counts and sums
    are wanted; these selectors have no `anchored` and no `smoothed`. If a plan `can_move`, another
    time of the same length moves its selections, and changes nothing else. If it
    `keeps_first_param`, a step-invariant aggregation has at every step the parameter of the first
    one, as in Prometheus: steps of another range, or of a part of this one, have other values.
    """

    parsed: Expr
    expr: Expr
    result_type: ValueType
    eval_range: EvalRange
    selections: tuple[SeriesSelection, ...]
    leaf_of: Mapping[VectorSelector, int]
    step_invariant: frozenset[Expr] = frozenset()
    find_resets: frozenset[VectorSelector] = frozenset()
    without_buckets: frozenset[VectorSelector] = frozenset()
    can_move: bool = False
    keeps_first_param: bool = False

    def moved(self, grid: EvalRange) -> Self:
        """A plan that can move, for a grid of the same length and step; making one takes longer."""
        by_ms = grid.start_ms - self.eval_range.start_ms
        selections = tuple(
            SeriesSelection(
                matchers=one.matchers,
                start_ms=one.start_ms + by_ms,
                end_ms=one.end_ms + by_ms,
                hints=one.hints,
            )
            for one in self.selections
        )
        return type(self)(
            self.parsed,
            self.expr,
            self.result_type,
            grid,
            selections,
            self.leaf_of,
            self.step_invariant,
            self.find_resets,
            self.without_buckets,
            can_move=True,
            keeps_first_param=self.keeps_first_param,
        )
