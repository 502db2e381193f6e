"""The stages of a query between its text and its answer: pure, wherever they run."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeVar

import numpy as np

from promcompat.core.bounded_caches import ByteBoundedCache
from promcompat.core.errors import BadDataError, ExecutionError
from promcompat.core.model import EMPTY_LABELS, EvalRange, IntArray, SampleBlock, SeriesSelection
from promcompat.core.value_classes import value_class
from promql.ast import Expr, ValueType
from promql.budget import QueryBudget
from promql.evaluation.chunks import Evaluation, evaluate_plan
from promql.evaluation.evaluator import EvaluationOptions
from promql.features import Features
from promql.histograms.found_resets import without_said_resets
from promql.parsing.lalr_parser import ParseCheck
from promql.parsing.parser import (
    BYTES_PER_CHARACTER,
    BYTES_PER_TOKEN,
    LONGEST_REMEMBERED,
    parse_expr,
)
from promql.parsing.type_checker import value_type
from promql.planning.durations import DurationError
from promql.planning.plan import Plan
from promql.planning.planner import make_plan
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue, Value, Windows
from promql.values.shapes import byte_count, take_rows
from promql.values.windows import windows_to_block

ResultT = TypeVar("ResultT")

FinalValue = Matrix | ScalarGrid | StringValue | SampleBlock
_BYTES_PER_COPIED_SAMPLE = 24
"""A raw sample copied into the answer, and the index it is copied from."""


_PlanKey = tuple[str, Features, EvaluationOptions, int, tuple[int, int]]
_PLANS: Final = ByteBoundedCache[_PlanKey, Plan](16 << 20)
"""Plans of queries that are asked again for another time, as of rules and dashboards."""


@value_class(frozen=True, slots=True, kw_only=True)
class QueryText:
    """All that the plan and the values of a query depend on besides its samples."""

    text: str
    eval_range: EvalRange
    is_range: bool
    options: EvaluationOptions
    features: Features
    default_subquery_step_ms: int
    trusts_reset_hints: bool


@value_class(frozen=True, slots=True)
class Evaluated:
    """The value as the answer has it, its annotations, and how many samples each step read."""

    value: FinalValue
    annotations: Annotations
    samples_per_step: IntArray


class QueryProcesses(Protocol):
    """Processes of lower priority that do the stages of long queries; called from threads."""

    def prepare(self) -> None:
        """A query of a second tenant has come: there will be long ones soon. Returns at once."""

    def are_ready(self) -> bool:
        """Whether one of them waits for work; otherwise one more starts. Returns at once."""

    def selections(self, query: QueryText, budget: QueryBudget) -> tuple[SeriesSelection, ...]:
        """Which samples the query needs. Raises as `plan_query`, and NoProcessError."""

    def evaluate(
        self, query: QueryText, blocks: Sequence[SampleBlock], budget: QueryBudget
    ) -> Evaluated:
        """The answer over the samples of the selections, in their order.

        Raises as `evaluate_query`, and NoProcessError before it takes anything.
        """

    def call(self, work: Callable[[], ResultT], budget: QueryBudget) -> ResultT:
        """The result of something else, which can be pickled and is not stopped when time is over.

        Raises as `work`, as the budget does, and NoProcessError.
        """


class NoProcessError(Exception):
    """No process is ready; the work has to be done here."""


def parse_query(query: QueryText, budget: QueryBudget) -> Expr:
    """The checked tree of the text. Raises ParseError and BadDataError."""
    return parse_expr(query.text, _token_counter(budget), features=query.features)


def plan_query(query: QueryText, expr: Expr) -> Plan:
    """The plan of a parsed query. Raises BadDataError."""
    grid = query.eval_range
    span = grid.end_ms - grid.start_ms, grid.step_ms
    key = query.text, query.features, query.options, query.default_subquery_step_ms, span
    known = _PLANS.get(key)
    if known is not None:
        return known.moved(grid)
    plan = _new_plan(query, expr)
    if plan.can_move and len(query.text) <= LONGEST_REMEMBERED:
        _PLANS.add(key, plan, len(query.text) * BYTES_PER_CHARACTER)
    return plan


def _new_plan(query: QueryText, expr: Expr) -> Plan:
    result_type = value_type(expr)
    if query.is_range:
        _require_range_type(result_type)
    try:
        return make_plan(
            expr,
            result_type,
            query.eval_range,
            lookback_ms=query.options.lookback_ms,
            default_subquery_step_ms=query.default_subquery_step_ms,
            uses_starts=query.options.uses_start_timestamps,
        )
    except DurationError as exc:
        raise exc.in_bytes(query.text) from exc


def evaluate_query(
    query: QueryText, plan: Plan, blocks: Sequence[SampleBlock], budget: QueryBudget
) -> Evaluation:
    """Evaluate a plan. Raises ExecutionError and what the budget raises."""
    if not query.trusts_reset_hints:
        blocks = [without_said_resets(block) for block in blocks]
    try:
        return evaluate_plan(plan, blocks, query.options, budget)
    except RecursionError as exc:
        raise ExecutionError("expression is nested too deeply") from exc
    except MemoryError as exc:
        raise ExecutionError("query ran out of memory in query execution") from exc


def final_value(query: QueryText, value: Value, budget: QueryBudget) -> FinalValue:
    """The value as the answer has it: the series of a range query are sorted by their labels."""
    match value:
        case Windows():
            n_samples = int((value.hi - value.lo).sum())
            budget.check_bytes(n_samples * _BYTES_PER_COPIED_SAMPLE)
            return windows_to_block(value)
        case Matrix() if query.is_range:
            return _sorted_by_labels(value, budget)
        case ScalarGrid() if query.is_range:
            row = value.values[None, :]
            return Matrix.of((EMPTY_LABELS,), row, np.ones(row.shape, bool))
        case Matrix() | ScalarGrid() | StringValue():
            return value


def _sorted_by_labels(matrix: Matrix, budget: QueryBudget) -> Matrix:
    order = sorted(range(len(matrix.labels)), key=lambda row: matrix.labels[row].pairs)
    if all(row == place for place, row in enumerate(order)):
        return matrix
    budget.check_bytes(byte_count(matrix))
    return take_rows(matrix, order)


def _token_counter(budget: QueryBudget) -> ParseCheck:
    """Counts the tokens of a text against the budget while it is parsed."""
    n_counted = 0

    def check(n_tokens: int) -> None:
        nonlocal n_counted
        budget.check_time()
        budget.keep((n_tokens - n_counted) * BYTES_PER_TOKEN)
        n_counted = n_tokens

    return check


def _require_range_type(result_type: ValueType) -> None:
    if result_type not in (ValueType.VECTOR, ValueType.SCALAR):
        raise BadDataError(
            f'invalid expression type "{result_type.document_name}" for range query, '
            "must be Scalar or instant Vector"
        )
