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

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from promcompat.core.histograms import is_histogram
from promcompat.core.model import BoolArray, FloatArray, IntArray
from sql.catalog import MS_PER_DAY
from sql.pushdown.window_grid import WindowGrid
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, joined_samples
from sql.samples.reading.reader import SampleAllowance
from sql.samples.reading.rollup_choice import RollupUse, Stand, coarse_note, inexact_note
from sql.samples.reading.rollup_days import RollupQuestion, Span, rolled_span
from sql.samples.reading.snapshots import StoredSnapshot
from sql.samples.rollups.rollup_kernels import (
    FINEST,
    GRAIN,
    NO_ABSOLUTE,
    UNBOUNDED,
    find_certain_sums,
)
from sql.samples.rollups.rollup_pages import Column, Columns, decoded, without_marked
from sql.samples.tables.rollup_marks import QUERIES

_PAYLOAD_OF: Final = {
    Stand.ENDS: ("ends_of", (Column.ENDS, Column.STANDS_FOR)),
    Stand.RESETS: ("ends_of", (Column.ENDS, Column.STANDS_FOR)),
    Stand.SOME: ("ends_of", (Column.ENDS,)),
    Stand.MINIMUM: ("extremes_of", (Column.MINIMUM,)),
    Stand.MAXIMUM: ("extremes_of", (Column.MAXIMUM,)),
    Stand.COUNT: ("sums_of", (Column.COUNT,)),
    Stand.SUM: ("sums_of", (Column.COUNT, Column.SUM, Column.LOST, Column.MAGNITUDE)),
    Stand.MEAN: ("sums_of", (Column.COUNT, Column.SUM, Column.LOST, Column.MAGNITUDE)),
}
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
    """Reads rollups in the caller's snapshot."""

    async def read(
        self,
        snapshot: StoredSnapshot,
        question: RollupQuestion,
        use: RollupUse,
        allowance: SampleAllowance,
        *,
        coarse: bool = False,
    ) -> RolledSamples | None:
        """The samples of a question; None if none of its days can be read from rollups.

        `coarse`: where samples are gone, series are read from rollups that are not exact for them.
        Raises what the allowance raises, and CorruptPageError.
        """
        span = await rolled_span(snapshot, question, allowance, is_coarse=use.is_coarse)
        if span is None:
            return None
        rolled = await self._rolled(snapshot, question, use, span)
        allowance.add(len(rolled.samples))
        raw = await _raw_parts(snapshot, question, span, allowance)
        joined = await asyncio.to_thread(_joined, rolled, raw)
        inexact = NO_SAMPLES.ids
        if not use.is_coarse:
            inexact = await asyncio.to_thread(_inexact_series, joined, use)
            inexact = np.union1d(inexact, rolled.marked_ids)
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
        self, snapshot: StoredSnapshot, question: RollupQuestion, use: RollupUse, span: Span
    ) -> "_Rolled":
        name, columns = _PAYLOAD_OF[use.stand]
        first_ms = span.days[0][0] * MS_PER_DAY - 1
        last_ms = (span.days[-1][1] + 1) * MS_PER_DAY - 1
        times = max(question.start_ms, first_ms), min(question.end_ms, last_ms)
        rows = await snapshot.connection.fetch(
            QUERIES[name],
            use.level.bucket_seconds,
            question.wanted.tolist(),
            (times[0] + 1) // use.level.period_ms,
            times[1] // use.level.period_ms,
        )
        payloads = [row[0] for row in rows]
        found = await asyncio.to_thread(decoded, payloads, question.wanted, columns, *times)
        found, marked_ids = without_marked(found)
        rolled = await asyncio.to_thread(_standing, found, use.stand)
        rolled = _without_changed(_in_windows(rolled, use.grid), span)
        return replace(rolled, marked_ids=marked_ids)


@dataclass(frozen=True, slots=True)
class _Rolled:
    """Samples that stand for others, and the magnitudes of these (see `rollup_kernels.GRAIN`).

    `magnitudes` is None where nothing is summed. Of the series `marked_ids` there are histograms.
    """

    samples: SeriesSamples
    magnitudes: IntArray | None = None
    marked_ids: IntArray = field(default_factory=lambda: NO_SAMPLES.ids)


def _standing(columns: Columns, stand: Stand) -> _Rolled:
    """The columns as samples that stand for others."""
    match stand:
        case Stand.SOME:
            return _Rolled(columns[Column.ENDS])
        case Stand.ENDS | Stand.RESETS:
            counts = columns[Column.STANDS_FOR].values.astype(np.int64)
            return _Rolled(replace(columns[Column.ENDS], counts=counts))
        case Stand.MINIMUM:
            return _Rolled(_single(columns[Column.MINIMUM]))
        case Stand.MAXIMUM:
            return _Rolled(_single(columns[Column.MAXIMUM]))
        case Stand.COUNT:
            count = columns[Column.COUNT]
            return _Rolled(replace(count, counts=count.values.astype(np.int64)))
        case Stand.SUM | Stand.MEAN:
            return _sums(columns)


def _single(samples: SeriesSamples) -> SeriesSamples:
    return replace(samples, counts=np.ones(len(samples), np.int64))


def _sums(columns: Columns) -> _Rolled:
    """Each sum, and a millisecond before it what it lost by rounding, which counts for nothing."""
    total, lost = columns[Column.SUM], columns[Column.LOST]
    counts = columns[Column.COUNT].values.astype(np.int64)
    magnitudes = columns[Column.MAGNITUDE].values.astype(np.int64)
    sums = replace(total, counts=counts)
    if not len(lost):
        return _Rolled(sums, magnitudes)
    before = replace(lost, timestamps=lost.timestamps - 1, counts=np.zeros(len(lost), np.int64))
    joined = joined_samples([sums, before])
    spread = np.full(len(joined), NO_ABSOLUTE, np.int64)
    # A sum counts for at least one sample, and what was lost for none.
    assert joined.counts is not None
    spread[joined.counts > 0] = magnitudes
    return _Rolled(joined, spread)


def _in_windows(rolled: _Rolled, grid: WindowGrid) -> _Rolled:
    """Without what is between windows: with an hour between windows of 5 minutes, most of it."""
    if not grid.has_gaps or not len(rolled.samples):
        return rolled
    until_next_ms = (grid.first_ms - rolled.samples.timestamps) % grid.step_ms
    return _where(rolled, until_next_ms < grid.reach_ms)


def _where(rolled: _Rolled, is_kept: BoolArray) -> _Rolled:
    if is_kept.all():
        return rolled
    magnitudes = None if rolled.magnitudes is None else rolled.magnitudes[is_kept]
    samples = rolled.samples.where(is_kept) if is_kept.any() else NO_SAMPLES
    return _Rolled(samples, magnitudes)


def _without_changed(rolled: _Rolled, span: Span) -> _Rolled:
    """Without days that are not rolled up, and without changed series on days that may differ."""
    samples = rolled.samples
    if not len(samples):
        return rolled
    days = samples.timestamps // MS_PER_DAY
    is_kept = np.zeros(len(samples), np.bool_)
    for first, last in span.days:
        is_kept |= (days >= first) & (days <= last)
    is_kept &= ~span.changed.holds(samples)
    return _where(rolled, is_kept)


async def _raw_parts(
    snapshot: StoredSnapshot, question: RollupQuestion, span: Span, allowance: SampleAllowance
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


def _joined(rolled: _Rolled, raw: Sequence[SeriesSamples]) -> _Rolled:
    parts = [part for part in raw if len(part)]
    if not parts:
        return rolled
    if rolled.magnitudes is None:
        return _Rolled(joined_samples([rolled.samples, *parts]))
    # Magnitudes take the place of the values while those are sorted in the same way.
    samples = joined_samples([rolled.samples, *parts])
    magnitudes = joined_samples(
        [
            replace(rolled.samples, values=rolled.magnitudes.astype(np.float64)),
            *(replace(part, values=_magnitudes(part)) for part in parts),
        ]
    )
    return _Rolled(samples, magnitudes.values.astype(np.int64))


def _magnitudes(samples: SeriesSamples) -> FloatArray:
    """The magnitude of each sample, see `rollup_kernels.GRAIN`."""
    sizes = np.where(np.isfinite(samples.values), np.abs(samples.values), 0.0)
    fractions, exponents = np.frexp(sizes)
    mantissas = np.ldexp(fractions, 53).astype(np.int64)
    lowest_bits = np.frexp((mantissas & -mantissas).astype(np.float64))[1] - 1
    found = exponents + GRAIN * (exponents - 53 + lowest_bits - FINEST)
    found = np.where(sizes == 0, NO_ABSOLUTE, found)
    return np.where(np.isfinite(samples.values), found, UNBOUNDED).astype(np.float64)


def _with_raw(
    samples: SeriesSamples,
    whole: SeriesSamples,
    inexact: IntArray,
    question: RollupQuestion,
    span: Span,
    coarse: bool,
) -> tuple[SeriesSamples, int]:
    """The samples with those of inexact series as they were stored, and how many are not.

    `coarse`: of days that these series do not keep as a whole, rollups count all the same.
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
    """The samples of days that their series does not keep as a whole, or only the others."""
    if not len(samples):
        return samples
    first_whole = span.first_whole[np.searchsorted(question.wanted, samples.ids)]
    is_gone = samples.timestamps < np.repeat(first_whole * MS_PER_DAY, np.diff(samples.offsets))
    return samples.where(is_gone == gone)


def _inexact_series(joined: _Rolled, use: RollupUse) -> IntArray:
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
