"""Reads the samples of a selection from rollups where these hold, and from raw samples elsewhere.

Rollups hold for days that are rolled up, kept as a whole, and neither marked nor changed by what
is still in the head. All of that is asked in the snapshot of the query, so the answer is the same
to the bit as that of all raw samples. Series for which a rollup turns out not to be exact are read
raw.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from sql.catalog import MS_PER_DAY
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, joined_samples
from sql.samples.reading.reader import SampleAllowance
from sql.samples.reading.rollup_choice import RollupUse, Stand
from sql.samples.reading.snapshots import StoredSnapshot
from sql.samples.rollups.rollup_kernels import (
    FINEST,
    GRAIN,
    NO_ABSOLUTE,
    UNBOUNDED,
    find_certain_sums,
)
from sql.samples.rollups.rollup_pages import Column, Columns, decoded
from sql.samples.tables.rollup_marks import QUERIES
from sql.samples.tables.slots import day_of

_MOST_GAPS: Final = 8
"""Between more days that are not rolled up, only the longest stretch is read from rollups."""
_PAYLOAD_OF: Final = {
    Stand.ENDS: ("ends_of", (Column.ENDS, Column.STANDS_FOR)),
    Stand.RESETS: ("ends_of", (Column.ENDS, Column.STANDS_FOR)),
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
    rollups are not exact for them.
    """

    samples: SeriesSamples
    n_rolled: int
    n_series_raw: int

    async def folded(self) -> SeriesSamples:
        """The samples, which are folded already."""
        return self.samples


@dataclass(frozen=True, slots=True)
class _Span:
    """The adjacent days that are read from rollups, without those of changed series.

    Series `changed` (ids, ascending) are read raw from `changed_days[0]` to `changed_days[1]`.
    """

    days: Sequence[tuple[int, int]]
    changed: IntArray
    changed_days: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RollupQuestion:
    """A selection of wanted series (ids of the tenant, ascending) in `(start_ms, end_ms]`."""

    tenant_id: int
    wanted: IntArray
    start_ms: int
    end_ms: int


class RollupReader:
    """Reads rollups in the caller's snapshot."""

    async def read(
        self,
        snapshot: StoredSnapshot,
        question: RollupQuestion,
        use: RollupUse,
        allowance: SampleAllowance,
    ) -> RolledSamples | None:
        """The samples of a question; None if none of its days can be read from rollups.

        Raises what the allowance raises, and CorruptPageError.
        """
        span = await self._span(snapshot, question, allowance)
        if span is None:
            return None
        rolled = await self._rolled(snapshot, question, use, span)
        allowance.add(len(rolled.samples))
        raw = await _raw_parts(snapshot, question, span, allowance)
        joined = await asyncio.to_thread(_joined, rolled, raw)
        inexact = await asyncio.to_thread(_inexact_series, joined, use)
        if len(inexact):
            whole = await snapshot.read(
                question.tenant_id, inexact, question.start_ms, question.end_ms, allowance
            )
            rest = joined.samples.where_series(~np.isin(joined.samples.ids, inexact))
            joined = replace(joined, samples=joined_samples([rest, whole]))
        samples = joined.samples
        if use.stand in (Stand.ENDS, Stand.RESETS) and samples.counts is not None:
            samples = replace(samples, counts=np.abs(samples.counts))
        return RolledSamples(samples, len(rolled.samples), len(inexact))

    async def count_days(self, snapshot: StoredSnapshot, question: RollupQuestion) -> int:
        """How many days of a question are rolled up; some of them may have changed since."""
        bounds = await _kept_days(snapshot, question)
        days = await snapshot.connection.fetchval(
            QUERIES["rolled_days"], question.tenant_id, bounds.first, bounds.last
        )
        return len(days)

    async def _span(
        self, snapshot: StoredSnapshot, question: RollupQuestion, allowance: SampleAllowance
    ) -> _Span | None:
        tenant_id, wanted = question.tenant_id, question.wanted
        kept = await _kept_days(snapshot, question)
        bounds = tenant_id, kept.first, kept.last
        days = await snapshot.connection.fetchval(QUERIES["rolled_days"], *bounds)
        runs = _runs(days)
        if not runs:
            return None
        days = [day for run in runs for day in range(run[0], run[1] + 1)]
        marks = await snapshot.connection.fetch(
            QUERIES["marks"], *bounds, int(wanted[0]), int(wanted[-1])
        )
        changes = [_Change(first, last, day, day) for day, first, last in marks]
        changes += kept.changes
        changes += await _changes_in_head(snapshot, question, runs, allowance)
        changed, changed_days = _changed_series(wanted, changes, (days[0], days[-1]))
        return _Span(runs, changed, changed_days)

    async def _rolled(
        self, snapshot: StoredSnapshot, question: RollupQuestion, use: RollupUse, span: _Span
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
        rolled = await asyncio.to_thread(_standing, found, use.stand)
        return _without_changed(rolled, span)


@dataclass(frozen=True, slots=True)
class _Change:
    """Series and days that rollups do not hold for, all bounds inclusive."""

    first_series: int
    last_series: int
    first_day: int
    last_day: int


@dataclass(frozen=True, slots=True)
class _KeptDays:
    """The days of a question that some of its series keep as a whole, from `first` to `last`.

    `changes` has the series that keep fewer of them.
    """

    first: int
    last: int
    changes: Sequence[_Change]


@dataclass(frozen=True, slots=True)
class _Rolled:
    """Samples that stand for others, and the magnitudes of these (see `rollup_kernels.GRAIN`).

    `magnitudes` is None where nothing is summed.
    """

    samples: SeriesSamples
    magnitudes: IntArray | None = None


async def _kept_days(snapshot: StoredSnapshot, question: RollupQuestion) -> _KeptDays:
    """Which days a question may read from rollups, as far as the retention of its series goes."""
    first, last = day_of(question.start_ms + 1), day_of(question.end_ms)
    kept = snapshot.kept[question.tenant_id]
    from_ms = await kept.from_ms(question.wanted, snapshot.connection)
    first_days = np.maximum(-(-from_ms // MS_PER_DAY), first)
    first = int(first_days.min())
    is_later = first_days > first
    later = zip(question.wanted[is_later].tolist(), first_days[is_later].tolist(), strict=True)
    return _KeptDays(first, last, [_Change(one, one, first, day - 1) for one, day in later])


def _runs(days: Sequence[int]) -> list[tuple[int, int]]:
    """The first and last of adjacent days; only the longest run when there are too many."""
    runs: list[tuple[int, int]] = []
    for day in days:
        if runs and runs[-1][1] == day - 1:
            runs[-1] = runs[-1][0], day
        else:
            runs.append((day, day))
    if len(runs) > _MOST_GAPS:
        return [max(runs, key=lambda run: run[1] - run[0])]
    return runs


async def _changes_in_head(
    snapshot: StoredSnapshot,
    question: RollupQuestion,
    runs: Sequence[tuple[int, int]],
    allowance: SampleAllowance,
) -> list[_Change]:
    """What undrained samples and deletions change of the rolled-up days."""
    start_ms = max(question.start_ms, runs[0][0] * MS_PER_DAY - 1)
    end_ms = min(question.end_ms, (runs[-1][1] + 1) * MS_PER_DAY - 1)
    scope = question.tenant_id, question.wanted, start_ms, end_ms
    view = await snapshot.head.complete(snapshot.view, snapshot.connection, *scope)
    changes = []
    for piece in await asyncio.to_thread(view.samples, *scope):
        samples = piece.samples
        firsts, lasts = samples.offsets[:-1], samples.offsets[1:] - 1
        rows = zip(
            samples.ids.tolist(),
            (samples.timestamps[firsts] // MS_PER_DAY).tolist(),
            (samples.timestamps[lasts] // MS_PER_DAY).tolist(),
            strict=True,
        )
        changes += [_Change(one, one, *days) for one, *days in rows]
    for deletion in view.deletions(question.tenant_id):
        if deletion.first_ms > end_ms or deletion.last_ms <= start_ms:
            continue
        days = day_of(deletion.first_ms), day_of(deletion.last_ms)
        ids = question.wanted[[0, -1]] if deletion.series_ids is None else deletion.series_ids
        if deletion.series_ids is None:
            changes.append(_Change(int(ids[0]), int(ids[-1]), *days))
        else:
            changes += [_Change(one, one, *days) for one in ids.tolist()]
    return changes


def _changed_series(
    wanted: IntArray, changes: Sequence[_Change], bounds: tuple[int, int]
) -> tuple[IntArray, tuple[int, int]]:
    """The wanted series that are in a change, and the days from the first to the last one."""
    depth = np.zeros(len(wanted) + 1, np.int64)
    days = []
    for change in changes:
        first, behind = np.searchsorted(wanted, [change.first_series, change.last_series + 1])
        if first < behind and change.first_day <= bounds[1] and change.last_day >= bounds[0]:
            depth[first] += 1
            depth[behind] -= 1
            days += [max(change.first_day, bounds[0]), min(change.last_day, bounds[1])]
    changed = wanted[np.cumsum(depth[:-1]) > 0]
    return changed, (min(days, default=0), max(days, default=-1))


def _standing(columns: Columns, stand: Stand) -> _Rolled:
    """The columns as samples that stand for others."""
    match stand:
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


def _without_changed(rolled: _Rolled, span: _Span) -> _Rolled:
    """Without days that are not rolled up, and without changed series on days that may differ."""
    samples = rolled.samples
    if not len(samples):
        return rolled
    days = samples.timestamps // MS_PER_DAY
    is_kept = np.zeros(len(samples), np.bool_)
    for first, last in span.days:
        is_kept |= (days >= first) & (days <= last)
    if len(span.changed):
        is_changed = np.repeat(np.isin(samples.ids, span.changed), np.diff(samples.offsets))
        is_kept &= ~(is_changed & _are_within(days, span.changed_days))
    if is_kept.all():
        return rolled
    magnitudes = None if rolled.magnitudes is None else rolled.magnitudes[is_kept]
    return _Rolled(samples.where(is_kept) if is_kept.any() else NO_SAMPLES, magnitudes)


def _are_within(days: IntArray, bounds: tuple[int, int]) -> BoolArray:
    return np.asarray((days >= bounds[0]) & (days <= bounds[1]))


async def _raw_parts(
    snapshot: StoredSnapshot, question: RollupQuestion, span: _Span, allowance: SampleAllowance
) -> list[SeriesSamples]:
    """What is read raw: times that are not rolled up, and changed series."""
    wanted = [(question.wanted, times) for times in _raw_times(question, span)]
    if len(span.changed):
        wanted += [(span.changed, times) for times in _changed_times(question, span)]
    return [
        await snapshot.read(question.tenant_id, ids, *times, allowance) for ids, times in wanted
    ]


def _raw_times(question: RollupQuestion, span: _Span) -> list[Times]:
    """The times before, between and after the days that are read from rollups."""
    edges = [question.start_ms]
    for first, last in span.days:
        edges += [first * MS_PER_DAY - 1, (last + 1) * MS_PER_DAY - 1]
    edges = [min(max(edge, question.start_ms), question.end_ms) for edge in edges]
    edges.append(question.end_ms)
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [(start_ms, end_ms) for start_ms, end_ms in pairs if start_ms < end_ms]


def _changed_times(question: RollupQuestion, span: _Span) -> list[Times]:
    """The times of the changed days that are rolled up otherwise."""
    times = []
    for first, last in span.days:
        first, last = max(first, span.changed_days[0]), min(last, span.changed_days[1])
        start_ms = max(first * MS_PER_DAY - 1, question.start_ms)
        end_ms = min((last + 1) * MS_PER_DAY - 1, question.end_ms)
        if start_ms < end_ms:
            times.append((start_ms, end_ms))
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


def _inexact_series(joined: _Rolled, use: RollupUse) -> IntArray:
    """The series whose windows may have another value than with raw samples."""
    samples = joined.samples
    if not len(samples) or samples.counts is None:
        return NO_SAMPLES.ids
    if use.stand is Stand.RESETS:
        is_lost = np.logical_or.reduceat(samples.counts < 0, samples.offsets[:-1])
        return samples.ids[is_lost]
    if use.stand not in (Stand.SUM, Stand.MEAN):
        return NO_SAMPLES.ids
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
    return samples.ids[~are_certain]
