"""The plan of a query: the resolved tree and the leaves storage is asked for, all at once."""

from collections.abc import Mapping
from dataclasses import dataclass

from promcompat.core.model import EvalRange, SeriesSelection
from promql.ast import Expr, ValueType, VectorSelector


@dataclass(frozen=True, slots=True)
class Plan:
    """What to fetch and what to compute.

    `parsed` is the query as it was written. `expr` has every duration expression computed and every
    `@ start()`/`@ end()` resolved, so that only `offset_ms`, `range_ms`, `step_ms` and
    `timestamp_ms` are left to read. `selections[leaf_of[selector]]` is what to fetch for a selector
    of `expr`: it covers every step at which the evaluator can need it, subqueries, lookback,
    offsets and `@` included. One statement of storage answers one selection. `step_invariant` are
    the largest parts of `expr` that read samples and have one value at every step; they are
    evaluated on one step. `shown_parens` are those in parentheses, with samples or without:
    annotations show their parentheses, as Prometheus' do.
    """

    parsed: Expr
    expr: Expr
    result_type: ValueType
    eval_range: EvalRange
    selections: tuple[SeriesSelection, ...]
    leaf_of: Mapping[VectorSelector, int]
    step_invariant: frozenset[Expr] = frozenset()
    shown_parens: frozenset[Expr] = frozenset()
