"""Reads the samples of a selection from rollups where these hold, and from raw samples elsewhere.

Rollups hold for days that are rolled up, kept as a whole, and neither marked nor changed by what
is still in the head. All of that is asked in the snapshot of the query, so the answer is the same
to the bit as that of all raw samples. Series for which a rollup turns out not to be exact are read
raw.

Of series with histograms among their samples, rollups keep only how many samples there were, and a
mark; they are read raw as well.

Where rollups outlive their samples, what arrives too late to be kept changes no rollup. A coarse
reading takes from rollups only the days of which samples are no longer kept.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.histograms.columns import is_histogram
from promcompat.core.model import IntArray
from promcompat.core.offloading import in_thread_if
from sql.database.storage_stats import StorageStats
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, joined_samples
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.rollups.cache import (
    KnownRollups,
    RollupCache,
    RollupKey,
    RollupVersion,
)
from sql.samples.reading.rollups.choice import RollupUse, Stand, coarse_note, inexact_note
from sql.samples.reading.rollups.days import (
    DamagedRollupError,
    RollupQuestion,
    RollupScope,
    Span,
    rolled_pages,
    rollup_scope,
)
from sql.samples.reading.rollups.rolled_samples import Rolled, rolled_samples
from sql.samples.reading.sample_snapshot import SampleSnapshot
from sql.samples.rollups.rollup_kernels import (
    FINEST,
    GRAIN,
    NO_ABSOLUTE,
    UNBOUNDED,
    find_certain_sums,
)
from sql.samples.rollups.rollup_pages import Column, decoded
from sql.times import MS_PER_DAY

_LOGGER: Final = logging.getLogger(__name__)
_PAYLOAD_OF: Final = {
    Stand.ENDS: ("ends", (Column.ENDS, Column.STANDS_FOR)),
    Stand.RESETS: ("ends", (Column.ENDS, Column.STANDS_FOR)),
    Stand.SOME: ("ends", (Column.ENDS,)),
    Stand.MINIMUM: ("extremes", (Column.MINIMUM,)),
    Stand.MAXIMUM: ("extremes", (Column.MAXIMUM,)),
    Stand.COUNT: ("sums", (Column.COUNT,)),
    Stand.SUM: ("sums", (Column.COUNT, Column.SUM, Column.LOST, Column.MAGNITUDE)),
    Stand.MEAN: ("sums", (Column.COUNT, Column.SUM, Column.LOST, Column.MAGNITUDE)),
}
_LOW_HALF: Final = (1 << 32) - 1
_WORTH_A_THREAD: Final = 20_000
"""Fewer samples, or bytes of pages, take less time than a thread."""
Times = tuple[int, int]
"""`(start_ms, end_ms]`."""


@dataclass(frozen=True, slots=True)
class RolledSamples:
    """The samples of a selection, some of which stand for many; see `SeriesSamples.counts`.

    `n_rolled` of them come from rollups, `n_series_raw` series are read raw throughout because
    rollups are not exact for them. `notes` say where the answer is not that of all samples.
    """

    samples: SeriesSamples
    n_rolled: int
    n_series_raw: int
    notes: Sequence[str] = ()

    async def folded(self) -> SeriesSamples:
        """The samples, which are folded already."""
        return self.samples


class RollupReader:
    """Reads rollups in the caller's snapshot, or what `cache` knows of them."""

    def __init__(self, cache: RollupCache, stats: StorageStats) -> None:
        self._cache = cache
        self._stats = stats

    async def read(
        self,
        snapshot: SampleSnapshot,
        question: RollupQuestion,
        use: RollupUse,
        allowance: SampleAllowance,
        *,
        coarse: bool = False,
    ) -> RolledSamples | None:
        """The samples of a question; None if none of its days can be read from rollups.

        Nor can they if a rollup is damaged, while all of their samples are kept. `coarse`: where
        samples are gone, series are read from rollups that are not exact for them. Raises what the
        allowance raises, StaleViewError and StoredPageError.
        """
        scope = await rollup_scope(snapshot, question, use.level, is_coarse=use.is_coarse)
        try:
            found = None if scope is None else await self._rolled(snapshot, scope, use, allowance)
        except DamagedRollupError as exc:
            self._stats.rollups_unreadable += 1
            fields = {"tenant_id": question.tenant_id, "reason": str(exc)}
            _LOGGER.error("a stored rollup cannot be decoded", extra=fields)
            if await _outlive_samples(snapshot, question):
                raise
            return None
        if found is None:
            return None
        rolled, span = found
        raw = await _raw_parts(snapshot, question, span, allowance)
        n_samples = len(rolled.samples) + sum(map(len, raw))
        joined = await in_thread_if(n_samples >= _WORTH_A_THREAD, _joined, rolled, raw)
        inexact = NO_SAMPLES.ids
        if not use.is_coarse:
            is_long = n_samples >= _WORTH_A_THREAD
            inexact = await in_thread_if(is_long, _inexact_series, joined, use)
            inexact = distinct(inexact, rolled.marked.ids)
        samples, notes = joined.samples, []
        if len(inexact):
            whole = await snapshot.read(
                question.tenant_id, inexact, question.start_ms, question.end_ms, allowance
            )
            samples, n_old = _with_raw(samples, whole, inexact, question, span, coarse)
            notes = [inexact_note(use)] if n_old else []
        elif use.is_coarse and len(rolled.samples):
            notes = [coarse_note(use)]
        if use.stand in (Stand.ENDS, Stand.RESETS) and samples.counts is not None:
            samples = replace(samples, counts=np.abs(samples.counts))
        return RolledSamples(samples, len(rolled.samples), len(inexact), notes)

    async def _rolled(
        self,
        snapshot: SampleSnapshot,
        scope: RollupScope,
        use: RollupUse,
        allowance: SampleAllowance,
    ) -> tuple[Rolled, Span] | None:
        """What stands for the samples of a scope, and its span; None if no day is rolled up."""
        question, epoch = scope.question, snapshot.view.epoch
        times, n_counted = (question.start_ms, question.end_ms), 0
        key = RollupKey.of(question, use)
        known = self._cache.find(key, scope.periods)
        if known is not None and known.version.epoch != epoch:
            known = None
        payload, columns = _PAYLOAD_OF[use.stand]

        async def decode(payloads: Sequence[bytes]) -> Rolled:
            """Counts what the question asks for, so that no more is read than is allowed."""
            nonlocal n_counted
            is_long = sum(map(len, payloads)) >= _WORTH_A_THREAD
            part = await in_thread_if(is_long, _decoded, payloads, scope, use, columns)
            n_new = part.count_between(*times)
            n_counted += n_new
            allowance.add(n_new)
            return part

        number = None if known is None else known.version.number
        pages = await rolled_pages(snapshot, scope, payload, number, decode)
        if pages is None:
            return None
        self._stats.rollup_cache_hits += not pages.parts
        self._stats.rollup_cache_misses += bool(pages.parts)
        if pages.parts:
            rolled = Rolled.of_parts(pages.parts)
            known = KnownRollups(RollupVersion(epoch, pages.version), scope.periods, rolled)
            self._cache.add(key, known)
            self._stats.rollup_cache_bytes = self._cache.n_bytes
        assert known is not None
        is_long = len(known.rolled.samples) >= _WORTH_A_THREAD
        rolled = await in_thread_if(is_long, known.rolled.within, *times, pages.span)
        allowance.add(len(rolled.samples) - n_counted)
        return rolled, pages.span


async def _outlive_samples(snapshot: SampleSnapshot, question: RollupQuestion) -> bool:
    """Whether rollups may be all that is left of a part of a question."""
    kept = snapshot.kept[question.tenant_id]
    if kept.rollup_days is None:
        return False
    from_ms = await kept.from_ms(question.wanted, snapshot.connection)
    return question.start_ms + 1 < int(from_ms.max())


def _decoded(
    payloads: Sequence[bytes], scope: RollupScope, use: RollupUse, columns: Sequence[Column]
) -> Rolled:
    """The pages of all periods of a scope."""
    wanted, periods = scope.question.wanted, scope.periods
    return rolled_samples(decoded(payloads, wanted, columns, use.level, periods), use)


async def _raw_parts(
    snapshot: SampleSnapshot, question: RollupQuestion, span: Span, allowance: SampleAllowance
) -> list[SeriesSamples]:
    """What is read raw: times that are not rolled up, and changed series."""
    tenant_id = question.tenant_id
    parts = [
        await snapshot.read(tenant_id, question.wanted, *times, allowance)
        for times in _raw_times(question, span)
    ]
    for ids, start_ms, end_ms in _changed_times(question, span):
        changed = await snapshot.read(tenant_id, ids, start_ms, end_ms, allowance)
        parts.append(changed.where(span.changed.holds(changed)) if len(changed) else changed)
    return parts


def _raw_times(question: RollupQuestion, span: Span) -> list[Times]:
    """The times before, between and after the days that are read from rollups."""
    edges = [question.start_ms]
    for first, last in span.days:
        edges += [first * MS_PER_DAY - 1, (last + 1) * MS_PER_DAY - 1]
    edges = [min(max(edge, question.start_ms), question.end_ms) for edge in edges]
    edges.append(question.end_ms)
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start_ms, end_ms) for start_ms, end_ms in pairs if start_ms < end_ms]


def _changed_times(question: RollupQuestion, span: Span) -> list[tuple[IntArray, int, int]]:
    """Changed series, and the times `(start_ms, end_ms]` of days that are rolled up otherwise."""
    times = []
    for ids, changed_from, changed_to in span.changed.reads():
        for first, last in span.days:
            first, last = max(first, changed_from), min(last, changed_to)
            start_ms = max(first * MS_PER_DAY - 1, question.start_ms)
            end_ms = min((last + 1) * MS_PER_DAY - 1, question.end_ms)
            if start_ms < end_ms:
                times.append((ids, start_ms, end_ms))
    return times


def _joined(rolled: Rolled, raw: Sequence[SeriesSamples]) -> Rolled:
    parts = [part for part in raw if len(part)]
    if not parts:
        return rolled
    if rolled.magnitudes is None:
        return Rolled(joined_samples([rolled.samples, *parts]))
    # Magnitudes are joined in the upper halves of the counts, as copying takes most of the time.
    counted = [_with_magnitudes(part, 1, _magnitudes(part)) for part in parts]
    if rolled.samples.counts is not None:
        counted.append(_with_magnitudes(rolled.samples, rolled.samples.counts, rolled.magnitudes))
    joined = joined_samples(counted)
    assert joined.counts is not None
    counts = joined.counts & _LOW_HALF
    return Rolled(replace(joined, counts=counts), (joined.counts >> 32) + NO_ABSOLUTE)


def _with_magnitudes(
    samples: SeriesSamples, counts: IntArray | int, magnitudes: IntArray
) -> SeriesSamples:
    """The samples with magnitudes above their counts, which both are below 2^31 then."""
    return replace(samples, counts=((magnitudes - NO_ABSOLUTE) << 32) + counts)


def _magnitudes(samples: SeriesSamples) -> IntArray:
    """The magnitude of each sample, see `rollup_kernels.GRAIN`."""
    sizes = np.where(np.isfinite(samples.values), np.abs(samples.values), 0.0)
    fractions, exponents = np.frexp(sizes)
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    lowest_bits = np.frexp((mantissas & -mantissas).astype(np.float64))[1] - 1
    found = exponents + GRAIN * (exponents - 53 + lowest_bits - FINEST)
    found = np.where(sizes == 0, NO_ABSOLUTE, found)
    return np.asarray(np.where(np.isfinite(samples.values), found, UNBOUNDED), np.int64)


def _with_raw(
    samples: SeriesSamples,
    whole: SeriesSamples,
    inexact: IntArray,
    question: RollupQuestion,
    span: Span,
    coarse: bool,
) -> tuple[SeriesSamples, int]:
    """The samples, raw for inexact series, and how many of these series have rolled-up ones too.

    `coarse`: on days of which these series do not keep all samples, rollups are used all the same.
    """
    is_inexact = np.isin(samples.ids, inexact)
    rest = samples.where_series(~is_inexact)
    if not coarse:
        return joined_samples([rest, whole]), 0
    old = _of_gone_days(samples.where_series(is_inexact), question, span, gone=True)
    kept = _of_gone_days(whole, question, span, gone=False)
    return joined_samples([part for part in (rest, old, kept) if len(part)] or [whole]), len(old)


def _of_gone_days(
    samples: SeriesSamples, question: RollupQuestion, span: Span, *, gone: bool
) -> SeriesSamples:
    """The samples of days that their series does not keep as a whole, or of the other days."""
    if not len(samples):
        return samples
    first_whole = span.first_whole[np.searchsorted(question.wanted, samples.ids)]
    is_gone = samples.timestamps < np.repeat(first_whole * MS_PER_DAY, np.diff(samples.offsets))
    return samples.where(is_gone == gone)


def _inexact_series(joined: Rolled, use: RollupUse) -> IntArray:
    """The series whose windows may have another value than with raw samples."""
    samples = joined.samples
    if not len(samples):
        return NO_SAMPLES.ids
    refers = np.zeros(len(samples.ids), np.bool_)
    if samples.histograms is not None:
        refers = np.logical_or.reduceat(is_histogram(samples.values), samples.offsets[:-1])
    if samples.counts is None:
        return samples.ids[refers]
    if use.stand is Stand.RESETS:
        is_lost = np.logical_or.reduceat(samples.counts < 0, samples.offsets[:-1])
        return samples.ids[is_lost | refers]
    if use.stand not in (Stand.SUM, Stand.MEAN):
        return samples.ids[refers]
    assert joined.magnitudes is not None
    # Windows of raw samples are certain, and known by their count. What a sum lost must not make
    # others look like them.
    counts = np.where(samples.counts == 0, 2, samples.counts)
    are_certain = np.zeros(len(samples.ids), np.bool_)
    grid = use.grid
    ends = grid.first_ms + np.arange(grid.n_steps, dtype=np.int64) * grid.step_ms
    find_certain_sums(
        samples.offsets, samples.timestamps, samples.values,
        np.append(0, np.cumsum(counts)), joined.magnitudes, ends, grid.reach_ms,
        use.stand is Stand.MEAN, are_certain,
    )  # fmt: skip
    return samples.ids[~are_certain | refers]
