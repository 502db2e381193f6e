"""Answers the selections of a query from one snapshot."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from promcompat.core.explanations import (
    ExplanationDepth,
    ReadMeasurement,
    RuleOutcome,
    SelectionExplanation,
)
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import (
    METRIC_TYPE,
    METRIC_UNIT,
    LabelSets,
    PartialLabelSets,
    SampleBlock,
    SeriesSelection,
)
from promcompat.core.ports import CheckBytes, any_bytes
from promcompat.core.texts.storable_text import is_storable_text
from promcompat.core.value_classes import value_class
from sql.caching.selector_cache import LabelledSeries, LabelNames, ResolvedSelector
from sql.database.connection_pool import Pool, acquired
from sql.database.storage_stats import StorageStats
from sql.pushdown.read_planner import ASSUMED_INTERVAL_MS
from sql.pushdown.rule_choice import PushdownMode
from sql.pushdown.rules import RULES
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.allowance import SampleAllowance, shared_out
from sql.samples.reading.rollups.cache import RollupCache
from sql.samples.reading.rollups.choice import (
    RollupVerdict,
    judge_coarse_rollups,
    judge_rollups,
    unanswered_note,
)
from sql.samples.reading.rollups.days import RollupQuestion, count_rolled_days
from sql.samples.reading.rollups.reader import RolledSamples, RollupReader
from sql.samples.reading.sample_snapshot import SampleSnapshot, UnfoldedSamples
from sql.samples.reading.sample_starts import read_starts
from sql.samples.reading.snapshots import SampleSnapshots
from sql.samples.storage_options import StorageOptions
from sql.series.reader import SeriesReader
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

_Collected = UnfoldedSamples | RolledSamples
_LARGE_SAMPLES: Final = 50_000
_MOST_CHOSEN_NAMES: Final = 10
_MANY_SERIES: Final = 10_000
"""From so many series on, only the labels that the query reads are read. All labels would also push
those of other series out of their cache."""
_HEAD_PER_ROLLUP_CACHE: Final = 8
"""Rollups that were read lately may take an eighth of what the head may take."""
_ROWS_HAVE_NONE: Final = "this store keeps rows; the other rules say what the database computes"


@value_class(frozen=True, slots=True)
class _Request:
    """A selection of a query, its series, and its times as `(start_ms, end_ms]`."""

    selection: SeriesSelection
    selector: ResolvedSelector
    start_ms: int
    end_ms: int

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be selected."""
        return not len(self.selector.ids) or self.start_ms >= self.end_ms

    def rollup_question(self, tenant_id: int) -> RollupQuestion:
        """What to ask rollups for it."""
        return RollupQuestion(tenant_id, self.selector.ids, self.start_ms, self.end_ms)

    @property
    def is_large(self) -> bool:
        """Whether reading it takes much longer than preparing another connection for it."""
        series_ms = len(self.selector.ids) * (self.end_ms - self.start_ms)
        return series_ms > _LARGE_SAMPLES * ASSUMED_INTERVAL_MS


class SnapshotSelections:
    """Reads the samples of selections; all of one query come from one snapshot."""

    def __init__(
        self,
        pool: Pool,
        series_reader: SeriesReader,
        snapshots: SampleSnapshots,
        stats: StorageStats,
        options: StorageOptions,
    ) -> None:
        """The bounds of `options` are those of all selections of one query together."""
        self._pool = pool
        self._series_reader = series_reader
        self._snapshots = snapshots
        self._stats = stats
        self._max_samples = options.max_samples
        self._max_bytes = options.max_memory_bytes
        self._uses_rollups = options.pushdown is not PushdownMode.OFF
        can_be_coarse = self._uses_rollups and snapshots.has_rollups
        self._coarse_rollups = options.coarse_rollups and can_be_coarse
        cache = RollupCache(options.max_head_bytes // _HEAD_PER_ROLLUP_CACHE)
        self._rollups = RollupReader(cache, stats)

    async def select(
        self,
        tenant_id: int,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes = any_bytes,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        """The blocks of a query's selections; see `promcompat.core.ports.SampleReader`."""
        started = time.perf_counter()
        times = _times_of(selections)
        read = partial(self._read, tenant_id, selections, check_bytes)
        collected, allowance = await self._snapshots.answer(read, tenant_id, times, asked_at)
        blocks = [
            await self._block_of(tenant_id, request, unfolded, allowance)
            for request, unfolded in collected
        ]
        self._stats.selections += len(blocks)
        self._stats.samples_selected += sum(len(block.timestamps) for block in blocks)
        self._stats.select_seconds += time.perf_counter() - started
        return blocks

    async def _read(
        self,
        tenant_id: int,
        selections: Sequence[SeriesSelection],
        check_bytes: CheckBytes,
        snapshot: SampleSnapshot,
    ) -> tuple[list[tuple[_Request, _Collected]], SampleAllowance]:
        """The selections with their samples, and what is left to be read after them."""
        allowance = SampleAllowance(self._max_samples, self._max_bytes, check_bytes)
        requests = await self._requests(snapshot, tenant_id, selections)
        collected = await self._collect_all(snapshot, tenant_id, requests, allowance)
        return list(zip(requests, collected, strict=True)), allowance

    async def _requests(
        self, snapshot: SampleSnapshot, tenant_id: int, selections: Sequence[SeriesSelection]
    ) -> list[_Request]:
        """The selections with their series, which are those of the snapshot or later."""
        view, reader = snapshot.view, self._series_reader
        generation = reader.generation_in(view.epoch, view.generations[tenant_id])
        requests = []
        for selection in selections:
            asked = tenant_id, selection.matchers, generation
            selector = reader.resolved(*asked) or await self._resolve(snapshot, *asked)
            requests.append(_Request(selection, selector, *_times_of([selection])))
        return requests

    async def _resolve(
        self,
        snapshot: SampleSnapshot,
        tenant_id: int,
        matchers: tuple[LabelMatcher, ...],
        generation: int,
    ) -> ResolvedSelector:
        if snapshot.connection is not None:
            asked = snapshot.connection, tenant_id, matchers, generation
            return await self._series_reader.resolve(*asked)
        async with acquired(self._pool) as connection:
            return await self._series_reader.resolve(connection, tenant_id, matchers, generation)

    async def _collect_all(
        self,
        snapshot: SampleSnapshot,
        tenant_id: int,
        requests: Sequence[_Request],
        allowance: SampleAllowance,
    ) -> list[_Collected]:
        """What is collected for each request: several large ones at a time, if the store can."""
        if len(requests) == 1:
            return [await self._collect(snapshot, tenant_id, requests[0], allowance)]
        n_large = sum(request.is_large for request in requests)
        async with self._snapshots.several(snapshot, n_large) as snapshots:

            async def collect(own: SampleSnapshot, request: _Request) -> _Collected:
                return await self._collect(own, tenant_id, request, allowance)

            return await shared_out(collect, snapshots, requests)

    async def _collect(
        self,
        snapshot: SampleSnapshot,
        tenant_id: int,
        request: _Request,
        allowance: SampleAllowance,
    ) -> _Collected:
        if request.is_empty:
            return UnfoldedSamples((), ())
        rolled = await self._from_rollups(snapshot, tenant_id, request, allowance)
        if rolled is not None:
            return rolled
        scope = tenant_id, request.selector.ids, request.start_ms, request.end_ms
        return await snapshot.collect(*scope, allowance, request.selection)

    async def _from_rollups(
        self,
        snapshot: SampleSnapshot,
        tenant_id: int,
        request: _Request,
        allowance: SampleAllowance,
    ) -> RolledSamples | None:
        """The samples of a request if some of them can be read from rollups."""
        can_use = self._uses_rollups and snapshot.drained.has_rollups
        if not can_use or not snapshot.reads_drained:
            return None
        coarse = self._coarse_rollups and await _has_lost_samples(snapshot, tenant_id, request)
        verdict = judge_rollups(request.selection)
        if coarse and verdict.use is None:
            verdict = judge_coarse_rollups(request.selection)
        if verdict.use is None:
            if not coarse:
                return None
            return await _said_to_be_missing(snapshot, tenant_id, request, allowance, verdict)
        question = request.rollup_question(tenant_id)
        return await self._rollups.read(snapshot, question, verdict.use, allowance, coarse=coarse)

    async def _block_of(
        self,
        tenant_id: int,
        request: _Request,
        unfolded: _Collected,
        allowance: SampleAllowance,
    ) -> SampleBlock:
        samples = await unfolded.folded()
        notes = unfolded.notes if isinstance(unfolded, RolledSamples) else ()
        if not len(samples):
            return replace(SampleBlock.empty(), notes=notes) if notes else SampleBlock.empty()
        labels = await self._labels_of(tenant_id, request, samples, allowance)
        block = samples.as_block(labels)
        if notes:
            block = replace(block, notes=notes)
        if not request.selection.hints.wants_starts:
            return block
        async with acquired(self._pool) as connection:
            starts = await read_starts(connection, samples.ids, request.end_ms, allowance)
        return replace(block, starts=starts.of_samples(samples))

    async def _labels_of(
        self, tenant_id: int, request: _Request, samples: SeriesSamples, allowance: SampleAllowance
    ) -> LabelSets:
        """The labels of series; of many, only those that the query reads."""
        may_choose = len(samples.ids) >= _MANY_SERIES and samples.histograms is None
        names = _chosen_names(request.selection) if may_choose else None
        labels = await self._labels_named(tenant_id, request, samples, allowance, names)
        if request.selection.hints.drops_metadata and _may_merge(labels):
            labels = await self._labels_named(tenant_id, request, samples, allowance, None)
        return labels

    async def _labels_named(
        self,
        tenant_id: int,
        request: _Request,
        samples: SeriesSamples,
        allowance: SampleAllowance,
        names: LabelNames | None,
    ) -> LabelSets:
        """The labels of series that have these names, or all labels if `names` is None."""
        labels = request.selector.labels_of(samples.ids, names)
        if labels is not None:
            return labels
        allowance.add_series(len(samples.ids))
        async with acquired(self._pool) as connection:
            if names is None:
                found = await self._series_reader.labels_of(connection, samples.ids)
                labels = LabelSets(found)
            else:
                asked = samples.ids, names
                labels = await self._series_reader.chosen_labels_of(connection, *asked)
        key, known = (tenant_id, request.selection.matchers), LabelledSeries(samples.ids, labels)
        self._series_reader.remember_labels(key, request.selector, known, names)
        return labels

    async def explain(
        self,
        tenant_id: int | None,
        selections: Sequence[SeriesSelection],
        depth: ExplanationDepth,
    ) -> list[SelectionExplanation]:
        """What head and blocks contribute to each selection; see `Store.explain_select`."""
        if tenant_id is None:
            return [_nothing(depth) for _ in selections]
        found, allowance = [], SampleAllowance(self._max_samples)
        for selection in selections:
            async with self._snapshots.open([tenant_id], *_times_of([selection])) as snapshot:
                (request,) = await self._requests(snapshot, tenant_id, [selection])
                if request.is_empty:
                    found.append(_nothing(depth))
                else:
                    found.append(
                        await self._explain_one(snapshot, tenant_id, request, depth, allowance)
                    )
        return found

    async def _explain_one(
        self,
        snapshot: SampleSnapshot,
        tenant_id: int,
        request: _Request,
        depth: ExplanationDepth,
        allowance: SampleAllowance,
    ) -> SelectionExplanation:
        scope = snapshot.kept_part(
            tenant_id, request.selector.ids, request.start_ms, request.end_ms
        )
        recent = await snapshot.recent(*scope)
        n_recent = sum(len(piece.samples) for piece in recent.pieces)
        n_series = max((len(piece.samples.ids) for piece in recent.pieces), default=0)
        reader, connection, selection = snapshot.drained, snapshot.connection, request.selection
        question = snapshot.question_of(scope, recent, selection)
        found = await reader.explain(connection, selection, question, depth)
        drained = f"{reader.contents} of the time range are read in the snapshot of the head"
        if connection is None:
            drained = "nothing in the time range was drained from the head"
        rollups, measured = await self._explain_rollups(snapshot, tenant_id, request), None
        if depth.analyze:
            started = time.perf_counter()
            collected = await self._collect(snapshot, tenant_id, request, allowance)
            samples = await collected.folded()
            measured = ReadMeasurement(rows=len(samples), seconds=time.perf_counter() - started)
            if isinstance(collected, RolledSamples):
                drained = _explain_rolled(collected)
            elif connection is not None:
                n_drained = max(len(samples) - n_recent, 0)
                drained = f"about {n_drained:,} samples come from {reader.contents}"
        head = f"{n_recent:,} samples of {n_series:,} series"
        rules = (
            RuleOutcome("head", n_recent > 0, head),
            RuleOutcome(reader.name, connection is not None, drained),
            *rollups,
            *found.rules,
        )
        estimate = found.estimated_rows
        rows = None if estimate is None else estimate + n_recent
        return replace(found, rules=rules, estimated_rows=rows, measured=measured)

    async def _explain_rollups(
        self, snapshot: SampleSnapshot, tenant_id: int, request: _Request
    ) -> Sequence[RuleOutcome]:
        """How rollups are used, or why not."""
        if not snapshot.drained.has_rollups:
            return [RuleOutcome("rollups", False, _ROWS_HAVE_NONE)]
        return [await self._judge_rollups(snapshot, tenant_id, request)]

    async def _judge_rollups(
        self, snapshot: SampleSnapshot, tenant_id: int, request: _Request
    ) -> RuleOutcome:
        verdict = judge_rollups(request.selection)
        if not self._uses_rollups:
            return RuleOutcome("rollups", False, "pushdown is turned off")
        if verdict.use is None:
            return await self._judge_coarse(snapshot, tenant_id, request, verdict.reason)
        if not snapshot.reads_drained:
            return RuleOutcome("rollups", False, f"{verdict.reason}, but the head has everything")
        n_days, _ = await count_rolled_days(snapshot, request.rollup_question(tenant_id))
        if not n_days:
            return RuleOutcome("rollups", False, f"{verdict.reason}, but no day is rolled up yet")
        return RuleOutcome("rollups", True, f"{n_days:,} days are rolled up; {verdict.reason}")

    async def _judge_coarse(
        self, snapshot: SampleSnapshot, tenant_id: int, request: _Request, reason: str
    ) -> RuleOutcome:
        """What becomes of the days whose samples are gone, if rollups are not exact."""
        if not snapshot.reads_drained:
            return RuleOutcome("rollups", False, reason)
        _, n_gone = await count_rolled_days(snapshot, request.rollup_question(tenant_id))
        if not n_gone:
            return RuleOutcome("rollups", False, reason)
        reason = f"{n_gone:,} days have rollups only, but {reason}"
        if not self._coarse_rollups:
            return RuleOutcome("rollups", False, f"{reason}; PROMCOMPAT_COARSE_ROLLUPS is off")
        coarse = judge_coarse_rollups(request.selection)
        text = f"{reason}; a coarse answer: {coarse.reason}"
        return RuleOutcome("rollups", coarse.use is not None, text)


def _times_of(selections: Sequence[SeriesSelection]) -> tuple[int, int]:
    """The times of all selections together, `(start_ms, end_ms]`, as far as samples can be."""
    if len(selections) == 1:
        start_ms, end_ms = selections[0].start_ms, selections[0].end_ms
    else:
        start_ms = min((selection.start_ms for selection in selections), default=0)
        end_ms = max((selection.end_ms for selection in selections), default=0)
    return max(start_ms, MIN_TIMESTAMP_MS - 1), min(end_ms, MAX_TIMESTAMP_MS)


async def _has_lost_samples(snapshot: SampleSnapshot, tenant_id: int, request: _Request) -> bool:
    """Whether some series no longer keeps samples of all of a request's time."""
    from_ms = await snapshot.kept[tenant_id].from_ms(request.selector.ids, snapshot.connection)
    return request.start_ms + 1 < int(from_ms.max())


def _chosen_names(selection: SeriesSelection) -> LabelNames | None:
    """The names of the only labels to read; None if all are to be read.

    Names that the database cannot hold are left out: no series has such a label.
    """
    names = selection.hints.labels
    if names is None or len(names) > _MOST_CHOSEN_NAMES:
        return None
    return tuple(name for name in names if is_storable_text(name))


def _may_merge(labels: LabelSets) -> bool:
    """Whether series that these are a part of may have equal labels without their metadata.

    They have the same name.
    """
    if not isinstance(labels, PartialLabelSets):
        return False
    distinct = labels.distinct

    def look() -> bool:
        return any(one.get(METRIC_TYPE) or one.get(METRIC_UNIT) for one in distinct)

    # Looking at 300,000 different label sets takes 66 ms, so a cached list keeps the result.
    return labels.kept("may merge", look)


async def _said_to_be_missing(
    snapshot: SampleSnapshot,
    tenant_id: int,
    request: _Request,
    allowance: SampleAllowance,
    verdict: RollupVerdict,
) -> RolledSamples | None:
    """The samples of a request that rollups do not answer, with a note; None if they are all."""
    _, n_gone = await count_rolled_days(snapshot, request.rollup_question(tenant_id))
    if not n_gone:
        return None
    scope = tenant_id, request.selector.ids, request.start_ms, request.end_ms
    samples = await snapshot.read(*scope, allowance)
    return RolledSamples(samples, 0, 0, [unanswered_note(verdict.reason)])


def _explain_rolled(rolled: RolledSamples) -> str:
    raw = len(rolled.samples) - rolled.n_rolled
    text = f"{raw:,} samples are read besides {rolled.n_rolled:,} of rollups"
    if rolled.n_series_raw:
        text += f"; rollups are not exact for {rolled.n_series_raw:,} series, which are read raw"
    return text


def _nothing(depth: ExplanationDepth) -> SelectionExplanation:
    return SelectionExplanation(
        n_series=0,
        rules=tuple(RuleOutcome(rule.__name__, False, "no series matches") for rule in RULES),
        estimated_rows=0.0,
        measured=ReadMeasurement(rows=0, seconds=0.0) if depth.analyze else None,
    )
