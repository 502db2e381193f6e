"""Which days of a question rollups hold for, and which series have changed on some of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from sql.catalog import MS_PER_DAY
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.reading.reader import SampleAllowance
from sql.samples.reading.snapshots import StoredSnapshot
from sql.samples.tables.rollup_marks import QUERIES
from sql.samples.tables.slots import day_of, first_whole_days

_MOST_GAPS: Final = 8
"""Between more days that are not rolled up, only the longest stretch is read from rollups."""
_NO_DAY: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class Span:
    """The adjacent days that are read from rollups, without those of changed series.

    Series `changed` (ids, ascending) are read raw from day `changed_from` to day `changed_to` of
    each. `first_whole` is the first day of which each wanted series keeps all samples.
    """

    days: Sequence[tuple[int, int]]
    changed: IntArray
    changed_from: IntArray
    changed_to: IntArray
    first_whole: IntArray

    def is_changed(self, samples: SeriesSamples) -> BoolArray:
        """Which samples are of a changed series, on days that it is read raw."""
        if not len(self.changed) or not len(samples):
            return np.zeros(len(samples), np.bool_)
        places = np.minimum(np.searchsorted(self.changed, samples.ids), len(self.changed) - 1)
        is_one = self.changed[places] == samples.ids
        lengths = np.diff(samples.offsets)
        first = np.repeat(np.where(is_one, self.changed_from[places], _NO_DAY), lengths)
        last = np.repeat(np.where(is_one, self.changed_to[places], -_NO_DAY), lengths)
        days = samples.timestamps // MS_PER_DAY
        return np.asarray((days >= first) & (days <= last))


@dataclass(frozen=True, slots=True)
class RollupQuestion:
    """A selection of wanted series (ids of the tenant, ascending) in `(start_ms, end_ms]`."""

    tenant_id: int
    wanted: IntArray
    start_ms: int
    end_ms: int


async def rolled_span(
    snapshot: StoredSnapshot,
    question: RollupQuestion,
    allowance: SampleAllowance,
    *,
    is_coarse: bool,
) -> Span | None:
    """The days to read from rollups, None if there are none; errors as of the allowance.

    `is_coarse`: only days of which samples are no longer kept.
    """
    tenant_id, wanted = question.tenant_id, question.wanted
    kept = await _kept_days(snapshot, question)
    if is_coarse:
        kept = kept.without_whole_days(wanted)
    bounds = tenant_id, kept.first, kept.last
    days = await snapshot.connection.fetchval(QUERIES["rolled_days"], *bounds)
    runs = _runs(days)
    if not runs:
        return None
    days = [day for run in runs for day in range(run[0], run[1] + 1)]
    marks = await snapshot.connection.fetch(
        QUERIES["marks"], *bounds, int(wanted[0]), int(wanted[-1])
    )
    changes = [_Change(first, last, day, day, gone) for day, first, last, gone in marks]
    changes += await _changes_in_head(snapshot, question, runs, allowance)
    if kept.is_outlived:
        changes = [_of_whole_days(change, wanted, kept.first_whole) for change in changes]
    changes += kept.changes
    changed = _changed_series(wanted, changes, (days[0], days[-1]))
    return Span(runs, *changed, kept.first_whole)


async def count_rolled_days(snapshot: StoredSnapshot, question: RollupQuestion) -> tuple[int, int]:
    """How many days of a question are rolled up, and how many of these have lost samples.

    Some of them may have changed since.
    """
    kept = await _kept_days(snapshot, question)
    days = await snapshot.connection.fetchval(
        QUERIES["rolled_days"], question.tenant_id, kept.first, kept.last
    )
    end = int(kept.first_whole.max())
    return len(days), sum(day < end for day in days)


@dataclass(frozen=True, slots=True)
class _Change:
    """Series and days that rollups do not hold for, all bounds inclusive."""

    first_series: int
    last_series: int
    first_day: int
    last_day: int
    is_deletion: bool = False


@dataclass(frozen=True, slots=True)
class _KeptDays:
    """The days of a question of which some of its series keep rollups, from `first` to `last`.

    `changes` has the series that keep fewer of them. `first_whole` is the first day of which each
    series keeps all samples; `is_outlived`: rollups may be kept longer.
    """

    first: int
    last: int
    changes: Sequence[_Change]
    first_whole: IntArray
    is_outlived: bool

    def without_whole_days(self, wanted: IntArray) -> "_KeptDays":
        """Only the days of which some wanted series no longer keeps all samples."""
        end = int(self.first_whole.max())
        whole = [
            _Change(one, one, day, end - 1)
            for one, day in zip(wanted.tolist(), self.first_whole.tolist(), strict=True)
            if day < end
        ]
        return replace(self, last=min(self.last, end - 1), changes=[*self.changes, *whole])


async def _kept_days(snapshot: StoredSnapshot, question: RollupQuestion) -> _KeptDays:
    """Which days a question may read from rollups, as far as the retention of its series goes."""
    first, last = day_of(question.start_ms + 1), day_of(question.end_ms)
    kept = snapshot.kept[question.tenant_id]
    from_ms = await kept.from_ms(question.wanted, snapshot.connection)
    first_days = np.maximum(kept.first_rolled_days(from_ms), first)
    first = int(first_days.min())
    is_later = first_days > first
    later = zip(question.wanted[is_later].tolist(), first_days[is_later].tolist(), strict=True)
    changes = [_Change(one, one, first, day - 1) for one, day in later]
    is_outlived = kept.rollup_days is not None
    return _KeptDays(first, last, changes, first_whole_days(from_ms), is_outlived)


def _of_whole_days(change: _Change, wanted: IntArray, first_whole: IntArray) -> _Change:
    """A change without the days whose samples are gone, where only a deletion changes rollups."""
    first, behind = np.searchsorted(wanted, [change.first_series, change.last_series + 1])
    if change.is_deletion or first == behind:
        return change
    return replace(change, first_day=max(change.first_day, int(first_whole[first:behind].min())))


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
            changes.append(_Change(int(ids[0]), int(ids[-1]), *days, is_deletion=True))
        else:
            changes += [_Change(one, one, *days, is_deletion=True) for one in ids.tolist()]
    return changes


def _changed_series(
    wanted: IntArray, changes: Sequence[_Change], bounds: tuple[int, int]
) -> tuple[IntArray, IntArray, IntArray]:
    """The wanted series that are in a change, and the first and last day that each changed."""
    first_days, last_days = np.full(len(wanted), _NO_DAY), np.full(len(wanted), -_NO_DAY)
    for change in changes:
        first, behind = np.searchsorted(wanted, [change.first_series, change.last_series + 1])
        days = max(change.first_day, bounds[0]), min(change.last_day, bounds[1])
        if first < behind and days[0] <= days[1]:
            some = slice(first, behind)
            first_days[some] = np.minimum(first_days[some], days[0])
            last_days[some] = np.maximum(last_days[some], days[1])
    is_changed = first_days <= last_days
    return wanted[is_changed], first_days[is_changed], last_days[is_changed]
