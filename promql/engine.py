"""The query engine: text in, result out. One await per query for samples, the rest is pure.

parse → check → plan → one `select` for all leaves → evaluate (in a thread when it is long).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from promcompat.core.errors import BadDataError, ExecutionError, QueryTimeoutError
from promcompat.core.model import EMPTY_LABELS, EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import SampleReader
from promql.ast import Call, Expr, SubqueryExpr, ValueType, walk
from promql.budget import (
    BYTES_PER_MADE_LABELS,
    BYTES_PER_SAMPLE,
    DEFAULT_MAX_BYTES,
    MemoryTakenError,
    QueryBudget,
    QueryMemory,
    TimeLimit,
    memory_stays_taken,
    run_limited,
)
from promql.evaluation.chunks import Evaluation, evaluate_plan
from promql.evaluation.evaluator import EvaluationOptions
from promql.parsing.lalr_parser import ParseCheck, no_check
from promql.parsing.parser import BYTES_PER_TOKEN, parse_expr
from promql.parsing.type_checker import value_type
from promql.planning.durations import DurationError
from promql.planning.plan import Plan
from promql.planning.planner import make_plan
from promql.query_parameters import DEFAULTS, QueryParameters
from promql.values.annotation_texts import annotation_texts
from promql.values.matrix import (
    Matrix,
    QueryResult,
    QueryStats,
    ScalarGrid,
    StringValue,
    Value,
    Windows,
)
from promql.values.name_removal import take_rows
from promql.values.shapes import byte_count
from promql.values.windows import windows_to_block

ResultT = TypeVar("ResultT")
ShownValue = Matrix | ScalarGrid | StringValue | SampleBlock

_MAX_THREADS = max(2, os.cpu_count() or 1)
"""More would take turns at the interpreter and the cores with the event loop, which has writes to
answer: what takes it 1.8 ms (p99 22) beside two busy threads takes 4.0 (50) beside six."""
_LARGE_QUERY_BYTES = 64 << 20
_MEMORY_CHECK_SECONDS = 0.05
_MATCHING = ("label_replace", "info")
_LONG_TEXT = 4_096
"""Characters; parsing 20,000 takes 25 ms, and evaluating as many operators a second."""
_BYTES_PER_SHOWN_SAMPLE = 24
"""A raw sample that is copied into the answer, and where it comes from."""
_SORTED_IN_THREAD_FROM = 2_000
_INLINE_CELLS = 50_000
"""Below this many samples and grid cells an evaluation takes about as long as handing it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits and defaults of all queries of an engine."""

    lookback_delta_ms: int = 300_000
    max_samples: int = 50_000_000
    max_memory_bytes: int = DEFAULT_MAX_BYTES
    max_shared_memory_bytes: int = 2 * DEFAULT_MAX_BYTES
    timeout_seconds: float = 120.0
    delayed_name_removal: bool = False
    default_subquery_step_ms: int = 60_000
    max_concurrency: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    """One query on its way; `timings_seconds` grows as its stages end."""

    tenant: str
    text: str
    eval_range: EvalRange
    lookback_ms: int
    counts_samples: bool
    budget: QueryBudget
    is_range: bool = False
    timings_seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time a block takes to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.timings_seconds[stage] = self.timings_seconds.get(stage, 0.0) + spent


class Engine:
    """Answers PromQL queries over what a `SampleReader` holds."""

    def __init__(
        self,
        reader: SampleReader,
        options: EngineOptions,
        large_query_ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`large_query_ended` is told of the end of each query that took much memory."""
        self._reader = reader
        self._options = options
        self._large_query_ended = large_query_ended
        self._slots = asyncio.Semaphore(options.max_concurrency)
        self._threads = ThreadPoolExecutor(_MAX_THREADS, "promql")
        # Less than one query may hold would let that query wait for ever.
        self.memory = QueryMemory(max(options.max_shared_memory_bytes, options.max_memory_bytes))

    async def query(
        self,
        tenant: str,
        text: str,
        time_ms: int,
        parameters: QueryParameters = DEFAULTS,
    ) -> QueryResult:
        """Evaluate `text` at one time.

        Raises ParseError for a text that is no PromQL, ExecutionError when it fails while running,
        QueryTimeoutError when it, or its turn, takes too long.
        """
        query = self._new_query(tenant, text, EvalRange.instant(time_ms), parameters)
        return await self._run(query)

    async def query_range(
        self,
        tenant: str,
        text: str,
        eval_range: EvalRange,
        parameters: QueryParameters = DEFAULTS,
    ) -> QueryResult:
        """Evaluate `text`, an instant vector or scalar, at every step of `eval_range`.

        Raises as `query` does, and BadDataError for a string or a range vector.
        """
        query = self._new_query(tenant, text, eval_range, parameters)
        return await self._run(replace(query, is_range=True))

    def _new_query(
        self,
        tenant: str,
        text: str,
        eval_range: EvalRange,
        parameters: QueryParameters,
    ) -> _Query:
        seconds = min(parameters.timeout_seconds or np.inf, self._options.timeout_seconds)
        return _Query(
            tenant=tenant,
            text=text,
            eval_range=eval_range,
            lookback_ms=parameters.lookback_ms or self._options.lookback_delta_ms,
            counts_samples=parameters.counts_samples,
            budget=self._new_budget(time.monotonic() + seconds),
        )

    def _new_budget(self, deadline: float) -> QueryBudget:
        options = self._options
        return QueryBudget(
            deadline, options.max_samples, options.max_memory_bytes, shared=self.memory
        )

    async def _run(self, query: _Query) -> QueryResult:
        """Answer a query, from the beginning again when others held the memory it needs.

        What it held itself is given back meanwhile, so that no two queries wait for each other.
        """
        while True:
            try:
                return await self._run_once(query)
            except MemoryTakenError as exc:
                n_bytes = exc.n_bytes
            await self._wait_for_memory(n_bytes, query.budget)
            query = replace(query, budget=self._new_budget(query.budget.deadline))

    async def _run_once(self, query: _Query) -> QueryResult:
        result: QueryResult | None = None
        try:
            result = await self._answer(query)
        except (ExecutionError, QueryTimeoutError, asyncio.CancelledError) as exc:
            raise _without_frames(exc) from None
        finally:
            if result is None:
                query.budget.close()
            else:
                query.budget.close(*_held_by(result.value))
            if query.budget.peak_bytes >= _LARGE_QUERY_BYTES:
                self._large_query_ended()
        return result

    async def _wait_for_memory(self, n_bytes: int, limit: TimeLimit) -> None:
        """Wait until so much is free. Raises QueryTimeoutError when that takes too long."""
        while not self.memory.has_room(n_bytes):
            if not limit.remaining_seconds:
                raise QueryTimeoutError(memory_stays_taken(self.memory.max_bytes))
            await asyncio.sleep(_MEMORY_CHECK_SECONDS)

    async def _answer(self, query: _Query) -> QueryResult:
        with query.timed("execTotalTime"):
            async with self._slot(query):
                with query.timed("evalTotalTime"):
                    with query.timed("queryPreparationTime"):
                        plan = await self._plan_of(query)
                        blocks = await self._select(query, plan)
                    with query.timed("innerEvalTime"):
                        evaluation = await self._evaluate(query, plan, blocks)
                    with query.timed("resultSortTime"):
                        shown = await self._shown(query, evaluation.value)
        return _result(query, shown, evaluation)

    @asynccontextmanager
    async def _slot(self, query: _Query) -> AsyncIterator[None]:
        """Hold one of the places for running queries, waiting for it no longer than allowed."""
        with query.timed("execQueueTime"):
            try:
                async with asyncio.timeout(query.budget.remaining_seconds):
                    await self._slots.acquire()
            except TimeoutError as exc:
                raise QueryTimeoutError("query timed out in query queue") from exc
        try:
            yield
        finally:
            self._slots.release()

    async def _plan_of(self, query: _Query) -> Plan:
        """Plan here, or in a thread when the text is so long that others would wait for it.

        Of a short text a regular expression can take long.
        """
        n_counted = 0

        def check(n_tokens: int) -> None:
            nonlocal n_counted
            query.budget.check_time()
            query.budget.keep((n_tokens - n_counted) * BYTES_PER_TOKEN)
            n_counted = n_tokens

        arguments = query.text, query.eval_range, query.is_range, query.lookback_ms, check
        if len(query.text) <= _LONG_TEXT and "~" not in query.text:
            return self.plan_query(*arguments)
        return await self._aside(query, partial(self.plan_query, *arguments))

    async def plan_aside(
        self,
        text: str,
        eval_range: EvalRange,
        is_range: bool,
        parameters: QueryParameters = DEFAULTS,
    ) -> Plan:
        """The plan of a query, within its time and memory. Raises as `plan_query`."""
        query = self._new_query("", text, eval_range, parameters)
        options = self._options
        budget = QueryBudget(query.budget.deadline, options.max_samples, options.max_memory_bytes)
        return await self._plan_of(replace(query, is_range=is_range, budget=budget))

    def plan_query(
        self,
        text: str,
        eval_range: EvalRange,
        is_range: bool,
        lookback_ms: int | None = None,
        check: ParseCheck = no_check,
    ) -> Plan:
        """The plan of a query. Raises what `query`, or `query_range`, raises before it runs.

        `check` as in `parse_expr`.
        """
        expr = parse_expr(text, check)
        if is_range:
            _require_range_type(value_type(expr))
        try:
            return self.plan(expr, eval_range, lookback_ms)
        except DurationError as exc:
            raise exc.in_bytes(text) from exc

    def plan(self, expr: Expr, eval_range: EvalRange, lookback_ms: int | None = None) -> Plan:
        """The plan this engine runs for `expr`. Raises BadDataError for a bad duration."""
        return make_plan(
            expr,
            value_type(expr),
            eval_range,
            lookback_ms=lookback_ms or self._options.lookback_delta_ms,
            default_subquery_step_ms=self._options.default_subquery_step_ms,
        )

    async def _select(self, query: _Query, plan: Plan) -> list[SampleBlock]:
        if not plan.selections:
            return []
        selections = plan.selections
        if query.counts_samples:
            selections = tuple(map(_with_every_sample, selections))
        return await self._read(query, selections)

    @asynccontextmanager
    async def reading(
        self, tenant: str, selections: Sequence[SeriesSelection]
    ) -> AsyncIterator[list[SampleBlock]]:
        """The samples of selections, for what is computed from them without PromQL.

        Until the `async with` block ends they count as those of a query. Raises as `query` does.
        """
        query = self._new_query(tenant, "", EvalRange.instant(0), DEFAULTS)
        try:
            while True:
                try:
                    async with self._slot(query):
                        blocks = await self._read(query, selections)
                    break
                except MemoryTakenError as exc:
                    n_bytes = exc.n_bytes
                query.budget.close()
                await self._wait_for_memory(n_bytes, query.budget)
                query = replace(query, budget=self._new_budget(query.budget.deadline))
            yield blocks
        finally:
            query.budget.close()
            if query.budget.peak_bytes >= _LARGE_QUERY_BYTES:
                self._large_query_ended()

    async def _read(
        self, query: _Query, selections: Sequence[SeriesSelection]
    ) -> list[SampleBlock]:
        try:
            async with asyncio.timeout(query.budget.remaining_seconds):
                blocks = await self._reader.select(
                    query.tenant, selections, query.budget.check_bytes
                )
        except TimeoutError as exc:
            raise QueryTimeoutError("query timed out in query execution") from exc
        n_samples = sum(len(block.timestamps) for block in blocks)
        n_series = sum(len(block.labels) for block in blocks)
        query.budget.check_size(n_samples, 0)
        query.budget.keep(n_samples * BYTES_PER_SAMPLE + n_series * BYTES_PER_MADE_LABELS)
        return blocks

    async def _evaluate(
        self, query: _Query, plan: Plan, blocks: Sequence[SampleBlock]
    ) -> Evaluation:
        """Evaluate here when it is short, else in a thread, so that ingest keeps its latency."""
        options = EvaluationOptions(
            lookback_ms=query.lookback_ms,
            delayed_name_removal=self._options.delayed_name_removal,
        )
        if len(query.text) <= _LONG_TEXT and not _is_long(plan, blocks):
            return _evaluate_now(plan, blocks, options, query.budget)
        evaluation = partial(_evaluate_now, plan, blocks, options, query.budget)
        return await self._aside(query, evaluation)

    async def _shown(self, query: _Query, value: Value) -> ShownValue:
        """The value as it is shown; in a thread when there are many series to sort."""
        if _n_series(value) < _SORTED_IN_THREAD_FROM:
            return _shown_value(value, query)
        return await self._aside(query, partial(_shown_value, value, query))

    async def _aside(self, query: _Query, work: Callable[[], ResultT]) -> ResultT:
        """Work in one of the few threads for that, waiting no longer than the query may take."""
        return await run_limited(self._threads, query.budget, partial(query.budget.run, work))


def _held_by(value: ShownValue) -> tuple[object, int]:
    """The array of a result that lives as long as the result, and what all of the result takes."""
    match value:
        case Matrix():
            return value.values, byte_count(value) + len(value.labels) * BYTES_PER_MADE_LABELS
        case SampleBlock():
            return value.values, len(value.values) * BYTES_PER_SAMPLE
        case ScalarGrid() | StringValue():
            return None, 0


def _with_every_sample(selection: SeriesSelection) -> SeriesSelection:
    return replace(selection, hints=replace(selection.hints, reach_ms=0))


def _without_frames(error: BaseException) -> BaseException:
    """The error without the frames it came through, which hold all samples of the query.

    An exception and the frames that refer to it would stay until the garbage collector comes by,
    which here is seldom. None of these errors tells of a fault of ours.
    """
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _require_range_type(result_type: ValueType) -> None:
    if result_type not in (ValueType.VECTOR, ValueType.SCALAR):
        raise BadDataError(
            f'invalid expression type "{result_type.document_name}" for range query, '
            "must be Scalar or instant Vector"
        )


def _is_long(plan: Plan, blocks: Sequence[SampleBlock]) -> bool:
    n_steps = plan.eval_range.n_steps
    cells = sum(len(block.timestamps) + len(block.labels) * n_steps for block in blocks)
    return cells + n_steps > _INLINE_CELLS or any(map(_may_take_long, walk(plan.expr)))


def _may_take_long(node: Expr) -> bool:
    """Whether a node may take long over few samples: many steps, or a regular expression."""
    return isinstance(node, SubqueryExpr) or (isinstance(node, Call) and node.func in _MATCHING)


def _evaluate_now(
    plan: Plan, blocks: Sequence[SampleBlock], options: EvaluationOptions, budget: QueryBudget
) -> Evaluation:
    try:
        return evaluate_plan(plan, blocks, options, budget)
    except RecursionError as exc:
        raise ExecutionError("expression is nested too deeply") from exc
    except MemoryError as exc:
        raise ExecutionError("query ran out of memory in query execution") from exc


def _n_series(value: Value) -> int:
    match value:
        case Matrix():
            return len(value.labels)
        case Windows():
            return len(value.block.labels)
        case ScalarGrid() | StringValue():
            return 0


def _shown_value(value: Value, query: _Query) -> ShownValue:
    match value:
        case Windows():
            n_samples = int((value.hi - value.lo).sum())
            query.budget.check_bytes(n_samples * _BYTES_PER_SHOWN_SAMPLE)
            return windows_to_block(value)
        case Matrix() if query.is_range:
            return _sorted_by_labels(value, query.budget)
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


def _result(query: _Query, value: ShownValue, evaluation: Evaluation) -> QueryResult:
    warnings, infos = annotation_texts(evaluation.annotations, query.text)
    return QueryResult(
        value,
        query.eval_range.timestamps(),
        query.is_range,
        warnings,
        infos,
        QueryStats(
            query.timings_seconds,
            int(evaluation.samples_per_step.sum()),
            query.budget.peak_samples,
            samples_per_step=evaluation.samples_per_step,
        ),
    )
