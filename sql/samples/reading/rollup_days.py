"""Which days of a question rollups hold for, and which series have changed on some of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.catalog import MS_PER_DAY
from sql.samples.reading.changed_days import (
    Change,
    ChangedDays,
    Intervals,
    changed_intervals,
)
from sql.samples.reading.reader import SampleAllowance
from sql.samples.reading.snapshots import StoredSnapshot
from sql.samples.tables.rollup_marks import QUERIES
from sql.samples.tables.slots import day_of, first_whole_days

_MOST_GAPS: Final = 8
"""Between more days that are not rolled up, only the longest stretch is read from rollups."""


@dataclass(frozen=True, slots=True)
class Span:
    """The adjacent days that are read from rollups, without the changed days of series.

    `changed` are days of series that are read raw. `first_whole` is the first day of which each
    wanted series keeps all samples.
    """

    days: Sequence[tuple[int, int]]
    changed: ChangedDays
    first_whole: IntArray


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
        kept = kept.without_whole_days()
    bounds = tenant_id, kept.first, kept.last
    days = await snapshot.connection.fetchval(QUERIES["rolled_days"], *bounds)
    runs = _runs(days)
    if not runs:
        return None
    marks = await snapshot.connection.fetch(
        QUERIES["marks"], *bounds, int(wanted[0]), int(wanted[-1])
    )
    changes = [Change(first, last, day, day, gone) for day, first, last, gone in marks]
    changes += await _changes_in_head(snapshot, question, runs, allowance)
    parts = [*changed_intervals(wanted, kept.first_whole, changes), *kept.raw]
    changed = ChangedDays.of(wanted, parts, (runs[0][0], runs[-1][1]))
    return Span(runs, changed, kept.first_whole)


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
class _KeptDays:
    """The days of a question of which some of its series keep rollups, from `first` to `last`.

    `raw` are days that series read raw all the same: first of all those that they do not keep.
    `first_whole` is the first day of which each series keeps all samples.
    """

    first: int
    last: int
    raw: Sequence[Intervals]
    first_whole: IntArray

    def without_whole_days(self) -> "_KeptDays":
        """Only the days of which some wanted series no longer keeps all samples."""
        end = int(self.first_whole.max())
        places = np.arange(len(self.first_whole))
        whole = places, self.first_whole, np.full(len(places), end - 1)
        return replace(self, last=min(self.last, end - 1), raw=[*self.raw, whole])


async def _kept_days(snapshot: StoredSnapshot, question: RollupQuestion) -> _KeptDays:
    """Which days a question may read from rollups, as far as the retention of its series goes."""
    first, last = day_of(question.start_ms + 1), day_of(question.end_ms)
    kept = snapshot.kept[question.tenant_id]
    from_ms = await kept.from_ms(question.wanted, snapshot.connection)
    first_days = np.maximum(kept.first_rolled_days(from_ms), first)
    first = int(first_days.min())
    places = np.arange(len(first_days))
    not_kept = places, np.full(len(places), first), first_days - 1
    return _KeptDays(first, last, [not_kept], first_whole_days(from_ms))


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
) -> list[Change]:
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
        changes += [Change(one, one, *days) for one, *days in rows]
    for deletion in view.deletions(question.tenant_id):
        if deletion.first_ms > end_ms or deletion.last_ms <= start_ms:
            continue
        days = day_of(deletion.first_ms), day_of(deletion.last_ms)
        ids = question.wanted[[0, -1]] if deletion.series_ids is None else deletion.series_ids
        if deletion.series_ids is None:
            changes.append(Change(int(ids[0]), int(ids[-1]), *days, is_deletion=True))
        else:
            changes += [Change(one, one, *days, is_deletion=True) for one in ids.tolist()]
    return changes
