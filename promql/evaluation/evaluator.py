"""Evaluates a plan: one value per node for all steps of the grid. Pure, without I/O."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import EvalRange, FloatArray, IntArray, SampleBlock
from promcompat.core.texts.strconv import is_utf8, quote
from promql.aggregation.aggregations import aggregate
from promql.aggregation.count_values import count_values
from promql.aggregation.sample_selection import SELECTIONS, select_samples
from promql.ast import (
    SET_OPERATORS,
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    NumberLiteral,
    ParenExpr,
    PositionRange,
    StringLiteral,
    SubqueryExpr,
    TimeModifiers,
    UnaryExpr,
    ValueType,
    VectorMatching,
    VectorSelector,
    run_nested,
    unwrap_parens,
)
from promql.budget import BYTES_PER_MADE_LABELS, BYTES_PER_SAMPLE, QueryBudget
from promql.evaluation.leaf_samples import BYTES_PER_STEP, LeafSamples, moved_times
from promql.functions.absent_functions import absence
from promql.functions.extended_ranges import (
    check_extension,
    extended_call,
    extended_windows,
    extension_of,
)
from promql.functions.function_calls import InstantCall, RangeCall
from promql.functions.registry import (
    FUNCTIONS,
    PRESENT_OVER_TIME,
    InstantFunction,
    RangeFunction,
)
from promql.operators.negation import negated
from promql.operators.set_operators import Union, apply_set_operator, united_operands
from promql.operators.vector_matching import (
    VectorOperator,
    scalar_operation,
    vector_operation,
    vector_scalar_operation,
)
from promql.planning.plan import Plan
from promql.values.annotation_texts import SORT_IN_RANGE
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue, Value, Windows
from promql.values.name_removal import drop_names, merge_rows
from promql.values.range_vectors import RangeVector
from promql.values.shapes import (
    byte_count,
    repeat_step,
    sample_count,
    without_empty_rows,
)
from promql.values.windows import matrix_to_block

_BYTES_PER_WINDOW = 16
"""The two bounds of a window."""
_BYTES_PER_COUNT = 8
"""The number of samples that a step of a subquery reads."""
_MIN_UNITED = 2
"""Two operands are joined faster by a plain `or`; more of them by `Union`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationOptions:
    """What the values of a query depend on besides its text and samples."""

    lookback_ms: int
    delayed_name_removal: bool = False
    uses_start_timestamps: bool = False


ResultT = TypeVar("ResultT")
Request = tuple[Expr, EvalRange]
"""An expression to evaluate, and the grid."""
Evaluating = Generator[Request, Value, ResultT]
"""An evaluation in progress: it yields each part it needs and receives the part's value.

`run_nested` drives it, so no depth of the expression exhausts the stack.
"""


class Evaluator:
    """Evaluates one plan once; `blocks[i]` holds the samples of `plan.selections[i]`."""

    def __init__(
        self,
        plan: Plan,
        blocks: Sequence[SampleBlock],
        options: EvaluationOptions,
        budget: QueryBudget,
        annotations: Annotations,
    ) -> None:
        self._plan = plan
        self._options = options
        self._budget = budget
        self._annotations = annotations
        self._leaves = LeafSamples(plan, blocks, options.lookback_ms, budget, annotations)
        self._subquery_samples = 0

    @property
    def samples_per_step(self) -> IntArray:
        """Samples read for each step, int64 [n_steps]; a window counts in full at every step."""
        return self._leaves.per_step

    def release(self) -> None:
        """Give up what was made of the blocks; call this after `evaluate`."""
        self._leaves.release()

    def evaluate(self) -> Value:
        """The value of the plan's expression over its grid, without rows that have no sample.

        Names whose removal is delayed are still there, see `name_removal.finish`. Raises
        ExecutionError with Prometheus' text when the query fails at a step or needs too many
        samples, QueryTimeoutError when it runs out of time.
        """
        return run_nested(self._eval, (self._plan.expr, self._plan.eval_range))

    def _eval(self, request: Request) -> Evaluating[Value]:
        expr, grid = request
        self._budget.check_time()
        held, held_bytes = self._budget.held_samples, self._budget.held_bytes
        is_range, invariant = grid.start_ms != grid.end_ms, self._plan.step_invariant
        if is_range and invariant and expr in invariant:
            value = yield from self._eval_invariant(expr, grid)
        else:
            value = yield from self._eval_node(expr, grid)
        n_bytes = byte_count(value)
        if isinstance(value, Matrix) and not isinstance(expr, VectorSelector):
            n_bytes += len(value.labels) * BYTES_PER_MADE_LABELS
        self._budget.hold(held + sample_count(value), held_bytes + n_bytes)
        return value

    def _eval_invariant(self, expr: Expr, grid: EvalRange) -> Evaluating[Value]:
        """Evaluate the first step only; all other steps have the same value."""
        before, self._leaves.per_step = self._leaves.per_step, np.zeros(1, np.int64)
        value = yield from self._eval_node(expr, EvalRange.instant(grid.start_ms))
        self._leaves.per_step = before + self._leaves.per_step
        if isinstance(value, Matrix):
            self._budget.check_size(len(value.labels) * grid.n_steps)
        return repeat_step(value, grid.n_steps)

    def _eval_node(self, expr: Expr, grid: EvalRange) -> Evaluating[Value]:
        match expr:
            case NumberLiteral():
                self._budget.check_size(grid.n_steps)
                return ScalarGrid(np.full(grid.n_steps, expr.value))
            case StringLiteral():
                return StringValue(expr.value)
            case VectorSelector():
                return self._leaves.values(expr, grid)
            case MatrixSelector() | SubqueryExpr():
                return (yield from self._eval_range_vector(expr, grid))
            case Call():
                return (yield from self._eval_call(expr, grid))
            case AggregateExpr():
                return (yield from self._eval_aggregate(expr, grid))
            case BinaryExpr():
                return (yield from self._eval_binary(expr, grid))
            case UnaryExpr():
                return (yield from self._eval_unary(expr, grid))
            case ParenExpr():
                return (yield expr.expr, grid)

    def _range_vector(self, expr: Expr, grid: EvalRange) -> Evaluating[RangeVector]:
        expr = unwrap_parens(expr)
        self._budget.check_bytes(grid.n_steps * BYTES_PER_STEP)
        if isinstance(expr, SubqueryExpr):
            return (yield from self._subquery_samples_of(expr, grid))
        assert isinstance(expr, MatrixSelector)
        return self._leaves.range_vector(expr, grid)

    def _eval_range_vector(
        self, expr: MatrixSelector | SubqueryExpr, grid: EvalRange
    ) -> Evaluating[Windows]:
        """A range vector that is the whole query."""
        vector = yield from self._range_vector(expr, grid)
        n_bytes = len(vector.block.labels) * grid.n_steps * _BYTES_PER_WINDOW
        if vector.histograms is not None and vector.block.histograms is None:
            n_bytes += vector.histograms.n_bytes
        self._budget.check_bytes(n_bytes)
        extension = extension_of(expr)
        if extension:
            windows = extended_windows(extension, vector, self._options.lookback_ms)
        else:
            windows = vector.windows()
        # For a subquery, the samples its expression reads are counted, not those of the window.
        if isinstance(expr, SubqueryExpr):
            self._leaves.per_step = np.full(grid.n_steps, self._subquery_samples)
        else:
            self._leaves.per_step += _counted_samples(windows, vector.histograms)
        return windows

    def _subquery_samples_of(
        self, subquery: SubqueryExpr, grid: EvalRange
    ) -> Evaluating[RangeVector]:
        """Evaluate the inner expression at every multiple of the step within the windows."""
        step_ms = subquery.step_ms
        first_ms = int(moved_times(EvalRange.instant(grid.start_ms), subquery.modifiers)[0])
        start_ms = (first_ms - subquery.range_ms) // step_ms * step_ms + step_ms
        inner = EvalRange(start_ms, _inner_end_ms(grid, subquery.modifiers), step_ms)
        if start_ms > inner.end_ms:
            end_ms = moved_times(grid, subquery.modifiers)
            return RangeVector.of(SampleBlock.empty(), end_ms, subquery.range_ms)
        # Subqueries may nest thousands deep, and each holds its counts until the inner one is done.
        n_bytes = inner.n_steps * _BYTES_PER_COUNT
        self._budget.keep(n_bytes)
        before, self._leaves.per_step = self._leaves.per_step, np.zeros(inner.n_steps, np.int64)
        matrix = yield subquery.expr, inner
        # These samples are counted together with the windows over the result.
        self._subquery_samples = int(self._leaves.per_step.sum())
        self._leaves.per_step = before
        self._budget.release(n_bytes)
        end_ms = moved_times(grid, subquery.modifiers)
        assert isinstance(matrix, Matrix)
        self._budget.check_bytes(
            sample_count(matrix) * BYTES_PER_SAMPLE + inner.n_steps * BYTES_PER_STEP
        )
        block = matrix_to_block(matrix, inner.timestamps())
        # What a hint says of the sample before is not true of the values of a subquery.
        pool = matrix.histograms
        histograms = None if pool is None else pool.without_reset_hints()
        return RangeVector(block, end_ms, subquery.range_ms, matrix.drop_name, histograms)

    def _eval_call(self, call: Call, grid: EvalRange) -> Evaluating[Value]:
        function = FUNCTIONS[call.func]
        if function.check is not None:
            function.check(call)
        match function:
            case RangeFunction():
                return (yield from self._eval_range_call(function, call, grid))
            case InstantFunction():
                return (yield from self._eval_instant_call(function, call, grid))
        if call.func == "absent_over_time":
            found = yield from self._reduce_windows(PRESENT_OVER_TIME, call, grid)
            return without_empty_rows(
                absence(np.logical_or.reduce(found.present, axis=0), call.args[0])
            )
        if call.func == "start_timestamp":
            return (yield from self._eval_start_timestamp(call, grid))
        base = yield call.args[0], grid
        assert call.func == "info"
        assert isinstance(base, Matrix)
        return self._leaves.info(call, base, grid)

    def _eval_range_call(
        self, function: RangeFunction, call: Call, grid: EvalRange
    ) -> Evaluating[Matrix]:
        result = yield from self._reduce_windows(function, call, grid)
        if function.keeps_name:
            return result
        return drop_names(result, self._options.delayed_name_removal, merge=False)

    def _reduce_windows(
        self, function: RangeFunction, call: Call, grid: EvalRange
    ) -> Evaluating[Matrix]:
        range_arg = function.arg_types.index(ValueType.MATRIX)
        extension = extension_of(call.args[range_arg])
        check_extension(extension, call.func)
        vector = yield from self._range_vector(call.args[range_arg], grid)
        scalars = []
        for index, arg in enumerate(call.args):
            if index != range_arg:
                scalars.append((yield from self._eval_scalar(arg, grid)))
        range_call = RangeCall(
            vector,
            tuple(scalars),
            _arg_positions(call),
            grid.timestamps(),
            self._annotations,
            self._budget,
            self._leaves.per_step,
        )
        if extension:
            return extended_call(extension, call.func, range_call, self._options.lookback_ms)
        return function.body(range_call)

    def _eval_scalar(self, expr: Expr, grid: EvalRange) -> Evaluating[FloatArray]:
        value = yield expr, grid
        assert isinstance(value, ScalarGrid)
        return value.values

    def _eval_instant_call(
        self, function: InstantFunction, call: Call, grid: EvalRange
    ) -> Evaluating[Value]:
        first = unwrap_parens(call.args[0]) if call.args else None
        if call.func == "timestamp" and isinstance(first, VectorSelector):
            times = self._leaves.times(first, grid)
            return drop_names(times, self._options.delayed_name_removal)
        if not call.args:
            self._budget.check_size(grid.n_steps)
        args: list[Value] = []
        for arg in call.args:
            arg_value = yield arg, grid
            args.append(arg_value)
        # After the arguments: of nested sorts, the position of the outermost is shown. A subquery
        # may have a single step, and is a range of time all the same.
        if function.sorts and grid.start_ms != grid.end_ms:
            self._annotations.warn(SORT_IN_RANGE, call.pos)
        value = function.value_of(self._instant_call(call, args, grid))
        return without_empty_rows(value) if isinstance(value, Matrix) else value

    def _eval_start_timestamp(self, call: Call, grid: EvalRange) -> Evaluating[Matrix]:
        """When the counters of a selector began, 0 where that is not known.

        As in Prometheus, there is no result without the feature, nor of another expression.
        """
        selector = unwrap_parens(call.args[0])
        if self._options.uses_start_timestamps and isinstance(selector, VectorSelector):
            starts = self._leaves.start_times(selector, grid)
            return drop_names(starts, self._options.delayed_name_removal)
        yield call.args[0], grid
        return Matrix.empty(grid.n_steps)

    def _instant_call(self, call: Call, args: Sequence[Value], grid: EvalRange) -> InstantCall:
        return InstantCall(
            tuple(args),
            call.args,
            grid.timestamps(),
            self._annotations,
            self._options.delayed_name_removal,
            _arg_positions(call),
            self._budget,
        )

    def _eval_aggregate(self, expr: AggregateExpr, grid: EvalRange) -> Evaluating[Matrix]:
        param: FloatArray | None = None
        label = ""
        if expr.op == "count_values":
            label = self._value_label(expr)
        elif expr.param is not None:
            param = yield from self._eval_scalar(expr.param, grid)
        matrix = yield expr.expr, grid
        assert isinstance(matrix, Matrix)
        if expr.op == "count_values":
            return count_values(expr, matrix, label, self._budget)
        if param is not None and expr.op in SELECTIONS:
            chosen = select_samples(expr, matrix, param, self._annotations, self._budget)
            return without_empty_rows(chosen)
        # A group that has only what is left out, or no result, has no sample.
        return without_empty_rows(aggregate(expr, matrix, param, self._annotations))

    def _value_label(self, expr: AggregateExpr) -> str:
        assert expr.param is not None
        literal = unwrap_parens(expr.param)
        assert isinstance(literal, StringLiteral)
        if not literal.value or not is_utf8(literal.value):
            raise ExecutionError(f"invalid label name {quote(literal.value)}")
        return literal.value

    def _eval_binary(self, expr: BinaryExpr, grid: EvalRange) -> Evaluating[Value]:
        united = united_operands(expr, self._plan.step_invariant)
        if len(united) > _MIN_UNITED:
            return (yield from self._eval_union(expr, united, grid))
        lhs = yield expr.lhs, grid
        rhs = yield expr.rhs, grid
        # `or` joins both sides in one matrix.
        both = byte_count(lhs) + byte_count(rhs)
        largest = max(byte_count(lhs), byte_count(rhs))
        self._budget.check_bytes(both if expr.op == "or" else largest)
        if isinstance(lhs, ScalarGrid) and isinstance(rhs, ScalarGrid):
            return scalar_operation(expr.op, lhs, rhs)
        assert isinstance(lhs, Matrix | ScalarGrid)
        assert isinstance(rhs, Matrix | ScalarGrid)
        if isinstance(lhs, ScalarGrid) or isinstance(rhs, ScalarGrid):
            return without_empty_rows(vector_scalar_operation(lhs, rhs, self._operator(expr)))
        if expr.op in SET_OPERATORS:
            matching = expr.matching or VectorMatching()
            result = apply_set_operator(expr.op, lhs, rhs, matching)
        else:
            result = vector_operation(lhs, rhs, self._operator(expr))
        return self._with_merged_rows(without_empty_rows(result))

    def _operator(self, expr: BinaryExpr) -> VectorOperator:
        return VectorOperator(
            expr.op,
            expr.matching or VectorMatching(),
            expr.return_bool,
            self._options.delayed_name_removal,
            self._annotations,
            expr.pos,
            self._budget,
        )

    def _with_merged_rows(self, result: Matrix) -> Matrix:
        # With delayed name removal, Prometheus looks for equal label sets only at the end of an
        # instant query.
        is_instant = result.present.shape[1] == 1
        return result if self._options.delayed_name_removal and is_instant else merge_rows(result)

    def _eval_union(
        self, expr: BinaryExpr, operands: Sequence[Expr], grid: EvalRange
    ) -> Evaluating[Matrix]:
        held, held_bytes = self._budget.held_samples, self._budget.held_bytes
        union = Union(expr.matching or VectorMatching(), grid.n_steps)
        for operand in operands:
            part = yield operand, grid
            assert isinstance(part, Matrix)
            union.add(part)
            self._budget.hold(held + union.n_samples, held_bytes + union.n_bytes)
        # The operands and the union of them are in memory together.
        self._budget.check_bytes(union.n_bytes)
        return self._with_merged_rows(union.matrix())

    def _eval_unary(self, expr: UnaryExpr, grid: EvalRange) -> Evaluating[Value]:
        value = yield expr.expr, grid
        if expr.op == "+":
            return value
        if isinstance(value, ScalarGrid):
            return ScalarGrid(-value.values)
        assert isinstance(value, Matrix)
        return drop_names(negated(value), self._options.delayed_name_removal)


def _inner_end_ms(grid: EvalRange, modifiers: TimeModifiers) -> int:
    """The time up to which Prometheus evaluates a subquery: the end of the query's range.

    That may lie after the last step. No value depends on the extra steps, but they may warn or
    fail.
    """
    at_ms = modifiers.timestamp_ms
    return (grid.end_ms if at_ms is None else at_ms) - modifiers.offset_ms


def _arg_positions(call: Call) -> tuple[PositionRange, ...]:
    """The positions of the arguments of a call, as annotations show them: without parentheses.

    Prometheus replaces a subquery by its samples, which have no position: it shows the start of the
    query instead.
    """
    return tuple(
        PositionRange(0, 0) if isinstance(part, SubqueryExpr) else part.pos
        for part in map(unwrap_parens, call.args)
    )


def _counted_samples(windows: Windows, histograms: HistogramColumns | None) -> IntArray:
    """The samples in all windows of a step, int64 [n_steps]; a histogram counts as several."""
    if histograms is None:
        return np.asarray(windows.sizes().sum(axis=0))
    values = windows.block.values
    chosen = is_histogram(values)
    weights = np.ones(len(values), np.int64)
    weights[chosen] = histograms.n_samples_like()[histogram_numbers(values[chosen])]
    until = np.concatenate(([0], np.cumsum(weights)))
    return np.asarray((until[windows.hi] - until[windows.lo]).sum(axis=0))
