"""Which days of a question rollups hold for, and which series have changed on some of them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

import numpy as np

from promcompat.core.model import IntArray
from sql.samples.codec.page_decoding import CorruptPageError
from sql.samples.head.head import StaleViewError
from sql.samples.reading.rollups.changed_days import (
    Change,
    ChangedDays,
    Intervals,
    changed_intervals,
)
from sql.samples.reading.sample_snapshot import SampleSnapshot
from sql.samples.rollups.rollup_pages import PAYLOADS, Level
from sql.samples.tables.damaged_pages import StoredPageError
from sql.samples.tables.rollup_marks import QUERIES
from sql.samples.tables.slots import day_of, first_whole_days
from sql.times import MS_PER_DAY

_MOST_GAPS: Final = 8
"""Between more days that are not rolled up, only the longest stretch is read from rollups."""
_MOST_PAGES: Final = 10_000
"""In one answer: a page has at most 64 KiB, and an array of them at most 1 GB."""
_FEW_PAGES: Final = 1_000
"""They take a millisecond. More would keep the heads of other queries waiting for a connection."""
_ROLLED_UP_MEANWHILE: Final = "samples were rolled up during a query; try again"
T = TypeVar("T")


class DamagedRollupError(StoredPageError):
    """A stored rollup cannot be decoded. The samples that it stands for may still be there."""


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


@dataclass(frozen=True, slots=True)
class RollupScope:
    """A question with what its series keep of it, and the periods of a level (inclusive)."""

    question: RollupQuestion
    kept: "_KeptDays"
    level: Level
    periods: tuple[int, int]


@dataclass(frozen=True, slots=True)
class RolledPages(Generic[T]):
    """A span, and what was decoded of its rollups, in parts with some series each, ascending.

    There are no parts where their version is the one that was known already.
    """

    span: Span
    version: int
    parts: Sequence[T]


async def rollup_scope(
    snapshot: SampleSnapshot, question: RollupQuestion, level: Level, *, is_coarse: bool
) -> RollupScope | None:
    """What a question may read from rollups, None if nothing.

    `is_coarse`: only days of which samples are no longer kept. Raises StorageUnavailableError.
    """
    kept = await _kept_days(snapshot, question)
    if is_coarse:
        kept = kept.without_whole_days()
    if kept.first > kept.last:
        return None
    first_ms = max(question.start_ms + 1, kept.first * MS_PER_DAY)
    last_ms = min(question.end_ms, (kept.last + 1) * MS_PER_DAY - 1)
    periods = first_ms // level.period_ms, last_ms // level.period_ms
    return RollupScope(question, kept, level, periods)


async def rolled_pages(
    snapshot: SampleSnapshot,
    scope: RollupScope,
    payload: str,
    known_version: int | None,
    decode: Callable[[Sequence[bytes]], Awaitable[T]],
) -> RolledPages[T] | None:
    """The rollups of a scope, None if no day is rolled up.

    `decode` gets the payloads of some series, in the order of series and period, before those of
    others are read. Raises what it raises, DamagedRollupError in place of CorruptPageError,
    StaleViewError or StorageUnavailableError.
    """
    question, kept, periods = scope.question, scope.kept, scope.periods
    n_periods = periods[1] - periods[0] + 1
    at_once, number = max(1, _MOST_PAGES // n_periods), list(PAYLOADS).index(payload)
    is_short = known_version is not None or len(question.wanted) * n_periods <= _FEW_PAGES
    days: Sequence[int] = ()
    changes: list[Change] = []
    parts: list[T] = []
    version: int | None = None
    for first in range(0, len(question.wanted), at_once):
        ids = question.wanted[first : first + at_once].tolist()
        row = await snapshot.row_of(
            QUERIES["rolled_pages"],
            question.tenant_id,
            kept.first,
            kept.last,
            number,
            scope.level.bucket_seconds,
            ids,
            *periods,
            known_version,
            is_short=is_short,
        )
        days = days or row["days"]
        if not days:
            return None
        if version is not None and row["version"] != version:
            raise StaleViewError(_ROLLED_UP_MEANWHILE)
        version = row["version"]
        changes += [
            Change(first, last, day, day, bool(is_deletion))
            for day, first, last, is_deletion in row["marks"]
        ]
        if version != known_version:
            try:
                parts.append(await decode(row["payloads"]))
            except CorruptPageError as exc:
                which = number, scope.level.bucket_seconds, ids, *periods
                raise await _named(snapshot, which, row["payloads"], exc) from exc
    assert version is not None
    runs = _runs(days)
    changes += await _changes_in_head(snapshot, question, runs)
    raw = [*changed_intervals(question.wanted, kept.first_whole, changes), *kept.raw]
    changed = ChangedDays.of(question.wanted, raw, (runs[0][0], runs[-1][1]))
    span = Span(runs, changed, kept.first_whole)
    return RolledPages(span, version, parts)


async def _named(
    snapshot: SampleSnapshot,
    which: tuple[object, ...],
    payloads: Sequence[bytes],
    exc: CorruptPageError,
) -> DamagedRollupError:
    """The error with what finds the row of a page; `which` are the parameters that chose them."""
    row = await snapshot.row_of(QUERIES["rollup_keys"], *which)
    if len(row["keys"]) != sum(map(bool, payloads)):
        raise StaleViewError(_ROLLED_UP_MEANWHILE)
    bucket_seconds, series_id, period = row["keys"][exc.index]
    return DamagedRollupError(
        f"stored rollups are damaged: the row of sample_rollup with bucket_seconds = "
        f"{bucket_seconds}, series_id = {series_id} and period = {period} cannot be decoded "
        f"({exc.reason}). See docs/runbooks/damaged-page.md"
    )


async def count_rolled_days(snapshot: SampleSnapshot, question: RollupQuestion) -> tuple[int, int]:
    """How many days of a question are rolled up, and how many of these have lost samples.

    Some of them may have changed since.
    """
    kept = await _kept_days(snapshot, question)
    bounds = question.tenant_id, kept.first, kept.last
    of_no_series: tuple[object, ...] = 0, 0, [], 0, 0, None
    days = (await snapshot.row_of(QUERIES["rolled_pages"], *bounds, *of_no_series))["days"]
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


async def _kept_days(snapshot: SampleSnapshot, question: RollupQuestion) -> _KeptDays:
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
    snapshot: SampleSnapshot, question: RollupQuestion, runs: Sequence[tuple[int, int]]
) -> list[Change]:
    """What undrained samples and deletions change of the rolled-up days."""
    start_ms = max(question.start_ms, runs[0][0] * MS_PER_DAY - 1)
    end_ms = min(question.end_ms, (runs[-1][1] + 1) * MS_PER_DAY - 1)
    recent = await snapshot.recent(question.tenant_id, question.wanted, start_ms, end_ms)
    changes = []
    for piece in recent.pieces:
        samples = piece.samples
        firsts, lasts = samples.offsets[:-1], samples.offsets[1:] - 1
        rows = zip(
            samples.ids.tolist(),
            (samples.timestamps[firsts] // MS_PER_DAY).tolist(),
            (samples.timestamps[lasts] // MS_PER_DAY).tolist(),
            strict=True,
        )
        changes += [Change(one, one, *days) for one, *days in rows]
    for deletion in recent.deletions:
        if deletion.first_ms > end_ms or deletion.last_ms <= start_ms:
            continue
        days = day_of(deletion.first_ms), day_of(deletion.last_ms)
        ids = question.wanted[[0, -1]] if deletion.series_ids is None else deletion.series_ids
        if deletion.series_ids is None:
            changes.append(Change(int(ids[0]), int(ids[-1]), *days, is_deletion=True))
        else:
            changes += [Change(one, one, *days, is_deletion=True) for one in ids.tolist()]
    return changes
