"""The query engine: text in, result out. One await per query for samples, the rest is pure.

parse → check → plan → one `select` for all leaves → evaluate (in a thread when it is long).
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np

from promcompat.core.errors import (
    ExecutionError,
    QueryCanceledError,
    QueryTimeoutError,
    without_frames,
)
from promcompat.core.limits.limit_definitions import LIMIT_OF
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import SampleReader
from promcompat.core.value_classes import value_class
from promql.budget import (
    BYTES_PER_MADE_LABELS,
    BYTES_PER_SAMPLE,
    DEFAULT_MAX_BYTES,
    LimitExceededError,
    MemoryTakenError,
    QueryBudget,
    QueryMemory,
    TimeLimit,
    memory_stays_taken,
    run_limited,
)
from promql.evaluation.chunks import Evaluation
from promql.evaluation.evaluator import EvaluationOptions
from promql.evaluation.stages import (
    Evaluated,
    FinalValue,
    NoProcessError,
    QueryProcesses,
    QueryText,
    evaluate_query,
    final_value,
    parse_query,
    plan_query,
)
from promql.features import DEFAULT_FEATURES, Feature, Features
from promql.long_work import LongWork, cells_of
from promql.planning.plan import Plan
from promql.query import Query, QueryRunner
from promql.query_slots import QuerySlots
from promql.stage_timings import StageTimings
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
from promql.values.shapes import byte_count

ResultT = TypeVar("ResultT")

_MAX_THREADS = max(2, os.cpu_count() or 1)
"""More threads delay the event loop, which also answers writes: work that takes it 1.8 ms (p99 22)
beside two busy threads takes 4.0 ms (p99 50) beside six."""
_EXPECTED_ERRORS = ExecutionError, QueryTimeoutError, QueryCanceledError, asyncio.CancelledError
_LARGE_QUERY_BYTES = 64 << 20
_MEMORY_CHECK_SECONDS = 0.05
_LONG_TEXT = 4_096
"""Characters. Parsing so many takes up to 90 ms, and evaluating as many operators 120."""
_INLINE_TEXT = 500
"""Characters of a text that the event loop may parse and evaluate: 10 to 20 ms at worst."""
_SORTED_IN_THREAD_FROM = 2_000
_INLINE_CELLS = 50_000
"""Evaluating so many takes about a millisecond: as long as handing it to a thread and waiting there
for the interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Limits and defaults of all queries of an engine.

    `trusts_reset_hints`: the store says of histograms what Prometheus' storage would say.
    """

    lookback_delta_ms: int = 300_000
    max_samples: int = 50_000_000
    max_memory_bytes: int = DEFAULT_MAX_BYTES
    max_shared_memory_bytes: int = 2 * DEFAULT_MAX_BYTES
    timeout_seconds: float = 120.0
    features: Features = DEFAULT_FEATURES
    default_subquery_step_ms: int = 60_000
    max_concurrency: int = 20
    trusts_reset_hints: bool = False

    def tenant_limits(self) -> TenantLimits:
        """The limits of every tenant, where nobody gives others."""
        return TenantLimits(
            max_samples_per_query=self.max_samples,
            max_estimated_memory_consumption_per_query=self.max_memory_bytes,
            max_outstanding_requests_per_tenant=1 << 30,
        )


@value_class(frozen=True, slots=True)
class _Run:
    """One attempt to answer a query; `timings` are filled as its stages end."""

    query: Query
    budget: QueryBudget
    text: QueryText
    timings: StageTimings = field(default_factory=StageTimings)


@dataclass(frozen=True, slots=True)
class _PlannedElsewhere:
    """What a plan that another process made has to read."""

    selections: tuple[SeriesSelection, ...]


class Engine(QueryRunner):
    """Evaluates queries of the samples of a `SampleReader`."""

    def __init__(
        self,
        reader: SampleReader,
        options: EngineOptions,
        large_query_ended: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
        processes: QueryProcesses | None = None,
        is_writing: Callable[[], bool] = lambda: False,
    ) -> None:
        """`large_query_ended` is called after each query that took much memory.

        Without `limits`, every tenant has those of the options. `processes` do long work while
        several tenants have queries, or while `is_writing` says that samples are stored.
        """
        self._reader = reader
        self._options = options
        self._evaluation_options = EvaluationOptions(
            lookback_ms=options.lookback_delta_ms,
            delayed_name_removal=Feature.DELAYED_NAME_REMOVAL in options.features,
            uses_start_timestamps=Feature.USE_START_TIMESTAMPS in options.features,
        )
        self._large_query_ended = large_query_ended
        self._limits = limits or Limits(SameLimits(options.tenant_limits()))
        self._slots = QuerySlots(self._limits, options.max_concurrency, _MAX_THREADS)
        # As many as there may be turns for queries and for other work: none of them waits here.
        self._threads = ThreadPoolExecutor(4 * _MAX_THREADS, "promql")
        self._long = LongWork(processes, self._slots.has_others, is_writing)
        # A shared limit below that of one query would let that query wait for ever.
        self.memory = QueryMemory(max(options.max_shared_memory_bytes, options.max_memory_bytes))
        self._memory_of: WeakValueDictionary[str, QueryMemory] = WeakValueDictionary()

    async def run(self, query: Query) -> QueryResult:
        """See the port."""
        run, result = await self._with_memory(self._new_run(query), self._answer)
        self._end(run, *_held_by(result.value))
        return result

    async def plan(self, query: Query) -> Plan:
        """The plan of a query, made within its time and memory. Raises as `run` before it reads."""
        run = self._new_run(query)
        limits = self._limits.of(query.tenant)
        budget = QueryBudget(
            run.budget.deadline,
            limits.max_samples_per_query,
            limits.max_estimated_memory_consumption_per_query,
        )
        return await self._plan(replace(run, budget=budget))

    @asynccontextmanager
    async def reading(
        self, tenant: str, selections: Sequence[SeriesSelection]
    ) -> AsyncIterator[list[SampleBlock]]:
        """The samples of selections, for computations that are not PromQL.

        Until the `async with` block ends they count as those of a query. Raises as `run` does.
        """

        async def read(run: _Run) -> list[SampleBlock]:
            async with self._slots.slot(run.query, run.budget):
                self._long.prepare(run.query.tenant)
                return await self._read(run, selections)

        run = self._new_run(Query(tenant, "", EvalRange.instant(0)))
        run, blocks = await self._with_memory(run, read)
        try:
            yield blocks
        finally:
            self._end(run)

    async def work(
        self, tenant: str, n_characters: int, function: Callable[[], ResultT]
    ) -> ResultT:
        """The result of parsing so many characters of rules, and the like.

        Many are parsed in the tenant's turn, and where long queries are evaluated: the function can
        be pickled, and does no I/O. Raises as it does, and QueryTimeoutError.
        """
        if n_characters <= _LONG_TEXT:
            return await asyncio.to_thread(function)
        run = self._new_run(Query(tenant, "", EvalRange.instant(0)))
        async with self._slots.work(run.query, run.budget):
            if processes := self._long.processes_for(run.query.tenant):
                with suppress(NoProcessError):
                    elsewhere = partial(processes.call, function, run.budget)
                    return await run_limited(self._threads, run.budget, elsewhere)
            return await run_limited(self._threads, run.budget, function)

    def time_limit(self, query: Query) -> TimeLimit:
        """The time that a query may take from now on."""
        return TimeLimit.after(min(query.timeout_seconds or np.inf, self._options.timeout_seconds))

    def _new_run(self, query: Query) -> _Run:
        budget = self._new_budget(query.tenant, self.time_limit(query).deadline)
        options = self._evaluation_options
        if query.lookback_ms:
            options = replace(options, lookback_ms=query.lookback_ms)
        text = QueryText(
            text=query.text,
            eval_range=query.eval_range,
            is_range=query.is_range,
            options=options,
            features=self._options.features,
            default_subquery_step_ms=self._options.default_subquery_step_ms,
            trusts_reset_hints=self._options.trusts_reset_hints,
        )
        return _Run(query, budget, text)

    def _new_budget(self, tenant: str, deadline: float) -> QueryBudget:
        limits, shared = self._limits.of(tenant), self._memory_for(tenant)
        max_bytes = min(limits.max_estimated_memory_consumption_per_query, shared.max_bytes)
        return QueryBudget(deadline, limits.max_samples_per_query, max_bytes, shared=shared)

    def _memory_for(self, tenant: str) -> QueryMemory:
        """The part of the shared memory that a tenant may hold: an eighth is left for others."""
        memory = self._memory_of.get(tenant)
        if memory is None:
            most = max(self.memory.max_bytes * 7 // 8, self._options.max_memory_bytes)
            memory = self._memory_of[tenant] = QueryMemory(most, self.memory)
        return memory

    async def _with_memory(
        self, run: _Run, work: Callable[[_Run], Awaitable[ResultT]]
    ) -> tuple[_Run, ResultT]:
        """Do the work of a run, and repeat it when other queries hold the memory it needs.

        A waiting query holds no memory itself, so no two queries wait for each other. Returns the
        run that succeeded, which the caller has to end.
        """
        while True:
            try:
                return run, await work(run)
            except MemoryTakenError as exc:
                n_bytes = exc.n_bytes
                self._end(run)
            except BaseException as exc:
                self._end(run)
                if isinstance(exc, LimitExceededError):
                    self._limits.refusals.count(run.query.tenant, exc.limit)
                if isinstance(exc, _EXPECTED_ERRORS):
                    # None of these means a bug, so the traceback is not missed.
                    raise without_frames(exc) from None
                raise
            await self._wait_for_memory(run.query.tenant, n_bytes, run.budget)
            run = replace(run, budget=self._new_budget(run.query.tenant, run.budget.deadline))

    def _end(self, run: _Run, result: object = None, n_bytes: int = 0) -> None:
        """Give back the memory of a run; that of its result once the result is collected."""
        run.budget.close(result, n_bytes)
        if run.budget.peak_bytes >= _LARGE_QUERY_BYTES:
            self._large_query_ended()

    async def _wait_for_memory(self, tenant: str, n_bytes: int, limit: TimeLimit) -> None:
        """Wait until this much memory is free. Raises QueryTimeoutError after the time limit."""
        memory = self._memory_for(tenant)
        while not memory.has_room(n_bytes):
            if not limit.remaining_seconds:
                raise QueryTimeoutError(memory_stays_taken(self.memory.max_bytes))
            await asyncio.sleep(_MEMORY_CHECK_SECONDS)

    async def _answer(self, run: _Run) -> QueryResult:
        with run.timings.timed("execTotalTime"):
            asked = time.perf_counter()
            async with self._slots.slot(run.query, run.budget):
                run.timings.add("execQueueTime", time.perf_counter() - asked)
                self._long.prepare(run.query.tenant)
                with run.timings.timed("evalTotalTime"):
                    return _result(run, await self._stages(run))

    async def _stages(self, run: _Run) -> Evaluated:
        with run.timings.timed("queryPreparationTime"):
            planned = await self._plan_anywhere(run)
            blocks = await self._select(run, planned.selections)
        notes = dict.fromkeys(note for block in blocks for note in block.notes)
        with run.timings.timed("innerEvalTime"):
            evaluation = await self._evaluate(run, planned, blocks)
            for note in notes:
                evaluation.annotations.info(note)
        with run.timings.timed("resultSortTime"):
            if isinstance(evaluation, Evaluated):
                return evaluation
            value = await self._finalize(run, evaluation.value)
            return Evaluated(value, evaluation.annotations, evaluation.samples_per_step)

    async def _plan_anywhere(self, run: _Run) -> Plan | _PlannedElsewhere:
        """The plan, or of a text that takes long to parse what a process says it has to read."""
        text, tenant = run.text, run.query.tenant
        if len(text.text) > _LONG_TEXT and (processes := self._long.processes_for(tenant)):
            with suppress(NoProcessError):
                work = partial(processes.selections, text, run.budget)
                return _PlannedElsewhere(await self._run_in_thread(run, work))
        return await self._plan(run)

    async def _plan(self, run: _Run) -> Plan:
        """Plan here, or in a thread when the text would keep the event loop from other requests.

        A short text takes long only when it has a regular expression to compile.
        """
        text = run.query.text
        if len(text) <= _INLINE_TEXT and "~" not in text:
            return self._plan_now(run)
        return await self._run_in_thread(run, partial(self._plan_now, run))

    def _plan_now(self, run: _Run) -> Plan:
        text = run.text
        return plan_query(text, parse_query(text, run.budget))

    async def _select(
        self, run: _Run, selections: tuple[SeriesSelection, ...]
    ) -> list[SampleBlock]:
        if not selections:
            return []
        if run.query.counts_samples:
            selections = tuple(map(_with_every_sample, selections))
        return await self._read(run, selections)

    async def _read(self, run: _Run, selections: Sequence[SeriesSelection]) -> list[SampleBlock]:
        budget = run.budget
        try:
            async with asyncio.timeout(budget.remaining_seconds):
                blocks = await self._reader.select(
                    run.query.tenant,
                    selections,
                    budget.check_bytes,
                    asked_at=run.query.asked_at,
                )
        except TimeoutError as exc:
            raise QueryTimeoutError("query timed out in query execution") from exc
        n_samples = sum(len(block.timestamps) for block in blocks)
        n_series = sum(len(block.labels) for block in blocks)
        n_bytes = sum(block.histograms.n_bytes for block in blocks if block.histograms is not None)
        n_bytes += sum(block.starts.nbytes for block in blocks if block.starts is not None)
        self._check_series(run.query.tenant, n_series)
        budget.check_size(n_samples, 0)
        n_bytes += n_samples * BYTES_PER_SAMPLE + n_series * BYTES_PER_MADE_LABELS
        budget.keep(n_bytes)
        return blocks

    def _check_series(self, tenant: str, n_series: int) -> None:
        """Raises LimitExceededError for more series than a query of the tenant may read."""
        limit = self._limits.of(tenant).max_fetched_series_per_query
        if n_series > limit > 0:
            name = "max_fetched_series_per_query"
            raise LimitExceededError(name, LIMIT_OF[name].exceeded(limit))

    async def _evaluate(
        self, run: _Run, planned: Plan | _PlannedElsewhere, blocks: list[SampleBlock]
    ) -> Evaluation | Evaluated:
        """Evaluate a short query here, and others in a thread: ingest keeps its latency.

        What is longer goes to a process while others would wait for it, see `LongWork`.
        """
        text, n_cells = run.text, np.inf
        if isinstance(planned, Plan) and len(text.text) <= _LONG_TEXT:
            n_cells = cells_of(planned, blocks)
            if n_cells <= _INLINE_CELLS and len(text.text) <= _INLINE_TEXT:
                return evaluate_query(text, planned, blocks, run.budget)
        if processes := self._long.processes_for(run.query.tenant, n_cells):
            with suppress(NoProcessError):
                elsewhere = partial(processes.evaluate, text, blocks, run.budget)
                return await self._run_in_thread(run, elsewhere)
        plan = planned if isinstance(planned, Plan) else await self._plan(run)
        evaluate = partial(evaluate_query, text, plan, blocks, run.budget)
        return await self._run_in_thread(run, evaluate)

    async def _finalize(self, run: _Run, value: Value) -> FinalValue:
        """The value as the result has it; made in a thread when there are many series to sort."""
        finalize = partial(final_value, run.text, value, run.budget)
        if _n_series(value) < _SORTED_IN_THREAD_FROM:
            return finalize()
        return await self._run_in_thread(run, finalize)

    async def _run_in_thread(self, run: _Run, work: Callable[[], ResultT]) -> ResultT:
        """Work in one of the engine's threads, waiting no longer than the query may take."""
        async with self._slots.thread(run.query, run.budget):
            started = time.monotonic()
            try:
                return await run_limited(self._threads, run.budget, partial(run.budget.run, work))
            finally:
                self._long.add_seconds(run.query.tenant, time.monotonic() - started)


def _held_by(value: FinalValue) -> tuple[object, int]:
    """An array that lives as long as the result, and the size of the whole result in bytes."""
    match value:
        case Matrix():
            return value.values, byte_count(value) + len(value.labels) * BYTES_PER_MADE_LABELS
        case SampleBlock():
            return value.values, len(value.values) * BYTES_PER_SAMPLE
        case ScalarGrid() | StringValue():
            return None, 0


def _with_every_sample(selection: SeriesSelection) -> SeriesSelection:
    return replace(selection, hints=replace(selection.hints, reach_ms=0))


def _n_series(value: Value) -> int:
    match value:
        case Matrix():
            return len(value.labels)
        case Windows():
            return len(value.block.labels)
        case ScalarGrid() | StringValue():
            return 0


def _result(run: _Run, evaluation: Evaluated) -> QueryResult:
    query = run.query
    warnings, infos = annotation_texts(evaluation.annotations, query.text)
    return QueryResult(
        evaluation.value,
        query.eval_range.timestamps(),
        query.is_range,
        warnings,
        infos,
        QueryStats(
            run.timings.seconds,
            int(evaluation.samples_per_step.sum()),
            run.budget.peak_samples,
            samples_per_step=evaluation.samples_per_step,
        ),
    )
