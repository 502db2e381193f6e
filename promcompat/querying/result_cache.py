"""Answers range queries from the steps of earlier answers where that is exact.

Dashboards repeat the same query with the window moved by a step or two. The cache keeps the steps
of an answer, and what the store knew of changes before (see docs/adr/0010); a later query on the
same step grid takes those whose samples did not change, and the engine evaluates only the rest.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.bounded_caches import ByteBoundedCache, texts_bytes
from promcompat.core.errors import QueryTimeoutError
from promcompat.core.model import BoolArray, EvalRange
from promcompat.core.ports import ChangeReader, SampleState
from promcompat.querying.step_columns import drop_empty_rows, join_steps, take_steps
from promql.engine import Engine
from promql.planning.step_reuse import StepReach, is_reusable, step_reach
from promql.query import Query, QueryRunner
from promql.values.matrix import Matrix, QueryResult, QueryStats

_MIN_STEPS: Final = 2
"""A single step is evaluated as an instant query, whose rules differ."""
_BYTES_PER_SERIES: Final = 400
"""Roughly the size of a set of ten labels."""
_BYTES_PER_CELL: Final = 9
_LONGEST_TEXT: Final = 4_096
"""Characters. The engine plans the query again, which takes too long for a longer text."""


@dataclass(slots=True)
class ResultCacheStats:
    """Totals since the start, and the present content."""

    hits: int = 0
    misses: int = 0
    steps_reused: int = 0
    bytes_held: int = 0
    entries: int = 0


@dataclass(frozen=True, slots=True)
class _Key:
    tenant: str
    text: str
    step_ms: int
    phase_ms: int
    lookback_ms: int | None


@dataclass(frozen=True, slots=True)
class _Entry:
    """The steps `grid` of an answer without annotations, which includes the changes of `state`."""

    grid: EvalRange
    matrix: Matrix
    state: SampleState

    @property
    def n_bytes(self) -> int:
        arrays = self.matrix.values.nbytes + self.matrix.present.nbytes
        return (
            int(arrays)
            + _bytes_of_histograms(self.matrix)
            + _BYTES_PER_SERIES * len(self.matrix.labels)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """A range query, with what was known when it arrived."""

    query: Query
    key: _Key
    reach: StepReach
    state: SampleState
    n_forgotten: int


class RangeResultCache(QueryRunner):
    """Keeps answers of the engine, at most `max_bytes` of them."""

    def __init__(self, engine: Engine, changes: ChangeReader, *, max_bytes: int) -> None:
        self.stats = ResultCacheStats()
        self._engine = engine
        self._changes = changes
        self._max_bytes = max_bytes
        self._largest_entry = max_bytes // 4
        self._entries: ByteBoundedCache[_Key, _Entry] = ByteBoundedCache(max_bytes)
        self._n_forgotten = 0

    def forget(self) -> None:
        """Drop every entry, and keep nothing of the queries that are running now.

        Called when the database went back in time: a state may then equal an unrelated one.
        """
        self._n_forgotten += 1
        self._entries.clear()
        self._count_entries()

    async def run(self, query: Query) -> QueryResult:
        """See the port. Steps of an earlier answer are used where they cannot have changed."""
        reach = await self._reach(query)
        if reach is None:
            return await self._engine.run(query)
        # So that the store asks the database once, for the state and for samples.
        asked_at = time.monotonic() if query.asked_at is None else query.asked_at
        query, asked = replace(query, asked_at=asked_at), query.eval_range
        limit = self._engine.time_limit(query)
        times = asked.start_ms - reach.back_ms, asked.end_ms + reach.ahead_ms
        # Read the state before samples: a change in between makes an entry invalid, never wrong.
        try:
            async with asyncio.timeout(limit.remaining_seconds):
                state = await self._changes.sample_state(query.tenant, *times, asked_at=asked_at)
        except TimeoutError as exc:
            raise QueryTimeoutError("query timed out in query execution") from exc
        request = _Request(
            query=query,
            key=_key_of(query),
            reach=reach,
            state=state,
            n_forgotten=self._n_forgotten,
        )
        return await self._answer(request)

    async def _reach(self, query: Query) -> StepReach | None:
        """What the steps depend on; None for a query that the cache does not answer."""
        if not query.is_range or query.counts_samples or not query.use_cache or not self._max_bytes:
            return None
        if query.eval_range.n_steps <= _MIN_STEPS or len(query.text) > _LONGEST_TEXT:
            return None
        plan = await self._engine.plan(query)
        is_usable = is_reusable(plan.parsed) and not plan.keeps_first_param
        return step_reach(plan) if is_usable else None

    async def _answer(self, request: _Request) -> QueryResult:
        asked = request.query.eval_range
        entry = self._entries.get(request.key)
        reused = _usable_steps(entry, request) if entry is not None else None
        if entry is None or reused is None:
            self.stats.misses += 1
            result = await self._evaluate(request, asked)
            self._keep(request, result)
            return result
        self.stats.hits += 1
        self.stats.steps_reused += reused.n_steps
        pieces: list[tuple[EvalRange, QueryResult]] = []
        for grid in _missing_steps(asked, reused):
            pieces.append((grid, await self._evaluate(request, grid)))
            if _joined_bytes(asked, entry, pieces) > self._max_bytes:
                # The limit of one query does not cover the joined answer.
                pieces.clear()
                return await self._evaluate(request, asked)
        known = take_steps(entry.matrix, entry.grid, reused)
        result = _join(asked, (reused, known), pieces)
        self._keep(request, result)
        return result

    async def _evaluate(self, request: _Request, grid: EvalRange) -> QueryResult:
        return await self._engine.run(replace(request.query, eval_range=grid))

    def _keep(self, request: _Request, result: QueryResult) -> None:
        """Store the steps of settled samples, of an answer without annotations."""
        grid = request.query.eval_range
        settled_ms = request.state.settled_ms - request.reach.ahead_ms
        n_steps = (min(settled_ms, grid.end_ms) - grid.start_ms) // grid.step_ms + 1
        matrix = result.value
        if n_steps < _MIN_STEPS or result.warnings or result.infos:
            return
        if request.n_forgotten != self._n_forgotten:
            return
        if not isinstance(matrix, Matrix):
            return
        if _cell_bytes(len(matrix.labels), n_steps) + _bytes_of_histograms(matrix) > (
            self._largest_entry
        ):
            return
        kept = replace(grid, end_ms=grid.start_ms + (n_steps - 1) * grid.step_ms)
        old = self._entries.get(request.key)
        if old is not None and _is_within(kept, old.grid) and _is_current(old, request):
            return
        columns = drop_empty_rows(take_steps(matrix, grid, kept))
        entry = _Entry(kept, columns, request.state)
        key_bytes = texts_bytes((request.key.tenant, request.key.text))
        self._entries.add(request.key, entry, key_bytes + entry.n_bytes)
        self._count_entries()

    def _count_entries(self) -> None:
        self.stats.bytes_held = self._entries.n_bytes
        self.stats.entries = len(self._entries)


def _key_of(query: Query) -> _Key:
    step_ms = query.eval_range.step_ms
    phase_ms = query.eval_range.start_ms % step_ms
    return _Key(query.tenant, query.text, step_ms, phase_ms, query.lookback_ms)


def _cell_bytes(n_series: int, n_steps: int) -> int:
    return n_series * (n_steps * _BYTES_PER_CELL + _BYTES_PER_SERIES)


def _bytes_of_histograms(matrix: Matrix) -> int:
    return 0 if matrix.histograms is None else matrix.histograms.n_bytes


def _joined_bytes(
    grid: EvalRange, entry: _Entry, pieces: Sequence[tuple[EvalRange, QueryResult]]
) -> int:
    """The largest size of an answer on `grid` that is joined from these."""
    values = [entry.matrix, *(result.value for _, result in pieces)]
    matrices = [value for value in values if isinstance(value, Matrix)]
    n_series = sum(len(matrix.labels) for matrix in matrices)
    return _cell_bytes(n_series, grid.n_steps) + sum(map(_bytes_of_histograms, matrices))


def _is_within(inner: EvalRange, outer: EvalRange) -> bool:
    return outer.start_ms <= inner.start_ms and inner.end_ms <= outer.end_ms


def _unchanged_steps(entry: _Entry, request: _Request, grid: EvalRange) -> BoolArray:
    """Which steps of `grid` depend on no sample that changed since the entry was made."""
    is_unchanged = np.ones(grid.n_steps, np.bool_)
    for first_ms, last_ms in request.state.changed_since(entry.state):
        first = -((grid.start_ms + request.reach.ahead_ms - first_ms) // grid.step_ms)
        behind = (last_ms + request.reach.back_ms - grid.start_ms) // grid.step_ms + 1
        is_unchanged[max(0, first) : max(0, behind)] = False
    return is_unchanged


def _is_current(entry: _Entry, request: _Request) -> bool:
    """Whether an entry agrees with the database, as far as the state of the request tells."""
    if not _is_within(entry.grid, request.query.eval_range):
        return False
    return bool(_unchanged_steps(entry, request, entry.grid).all())


def _usable_steps(entry: _Entry, request: _Request) -> EvalRange | None:
    """The longest run of the entry's steps that the query needs and that did not change."""
    asked = request.query.eval_range
    start_ms = max(asked.start_ms, entry.grid.start_ms)
    end_ms = min(asked.end_ms, entry.grid.end_ms)
    if end_ms < start_ms:
        return None
    shared = EvalRange(start_ms, end_ms, asked.step_ms)
    changed = np.flatnonzero(~_unchanged_steps(entry, request, shared))
    starts, ends = np.append(-1, changed) + 1, np.append(changed, shared.n_steps)
    longest = int(np.argmax(ends - starts))
    first, behind = int(starts[longest]), int(ends[longest])
    if first == behind:
        return None
    first_ms = start_ms + first * asked.step_ms
    return EvalRange(first_ms, first_ms + (behind - first - 1) * asked.step_ms, asked.step_ms)


def _missing_steps(asked: EvalRange, known: EvalRange) -> list[EvalRange]:
    """The steps before and after the known ones, each filled up to two with known steps."""
    step_ms = asked.step_ms
    missing = []
    if known.start_ms > asked.start_ms:
        end_ms = max(known.start_ms - step_ms, asked.start_ms + step_ms)
        missing.append(EvalRange(asked.start_ms, end_ms, step_ms))
    last_ms = asked.start_ms + (asked.n_steps - 1) * step_ms
    if known.end_ms < last_ms:
        start_ms = min(known.end_ms + step_ms, last_ms - step_ms)
        missing.append(EvalRange(start_ms, last_ms, step_ms))
    return missing


def _join(
    grid: EvalRange,
    known: tuple[EvalRange, Matrix],
    pieces: Sequence[tuple[EvalRange, QueryResult]],
) -> QueryResult:
    columns = [known]
    for piece, result in pieces:
        assert isinstance(result.value, Matrix)
        columns.append((piece, result.value))
    warnings = dict.fromkeys(text for _, result in pieces for text in result.warnings)
    infos = dict.fromkeys(text for _, result in pieces for text in result.infos)
    return QueryResult(
        join_steps(grid, columns),
        grid.timestamps(),
        True,
        tuple(warnings),
        tuple(infos),
        _sum_stats([result.stats for _, result in pieces], known[0].n_steps),
    )


def _sum_stats(parts: Sequence[QueryStats], reused_steps: int) -> QueryStats:
    timings: dict[str, float] = {}
    for part in parts:
        for stage, seconds in part.timings_seconds.items():
            timings[stage] = timings.get(stage, 0.0) + seconds
    return QueryStats(
        timings,
        sum(part.total_samples for part in parts),
        max((part.peak_samples for part in parts), default=0),
        reused_steps,
    )
