"""The days of a selection that rollups do not hold for, series by series, which are read raw."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import BoolArray, IntArray
from sql.samples.columns.series_samples import SeriesSamples
from sql.times import MIN_TIMESTAMP_MS, MS_PER_DAY

_FIRST_DAY: Final = MIN_TIMESTAMP_MS // MS_PER_DAY
_DAYS: Final = 1 << 22
"""More than there are days from the first timestamp to the last one."""
_NO_DAY: Final = 1 << 40
_MOST_READS: Final = 8
Intervals = tuple[IntArray, IntArray, IntArray]
"""Places of series in a selection, and the first and last day of each; empty where first > last."""


@dataclass(frozen=True, slots=True)
class Change:
    """Series and days whose samples have changed, all bounds inclusive."""

    first_series: int
    last_series: int
    first_day: int
    last_day: int
    is_deletion: bool = False


@dataclass(frozen=True, slots=True)
class ChangedDays:
    """Intervals of days of the series `wanted` (ascending ids): disjoint, none next to another.

    `firsts` and `lasts` ascend; they are days since the first timestamp, `_DAYS` later for each
    series than for the one before it.
    """

    wanted: IntArray
    firsts: IntArray
    lasts: IntArray

    @classmethod
    def of(
        cls, wanted: IntArray, parts: Sequence[Intervals], bounds: tuple[int, int]
    ) -> "ChangedDays":
        """What lies in any of the intervals, from the first to the last day of `bounds`."""
        places, first_days, last_days = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        first_days = np.maximum(first_days, bounds[0])
        last_days = np.minimum(last_days, bounds[1])
        is_some = first_days <= last_days
        starts = places[is_some] * _DAYS - _FIRST_DAY
        return cls(wanted, *_joined(starts + first_days[is_some], starts + last_days[is_some]))

    def __len__(self) -> int:
        return len(self.firsts)

    def holds(self, samples: SeriesSamples) -> BoolArray:
        """Which samples of wanted series are in an interval of their series."""
        if not len(self) or not len(samples):
            return np.zeros(len(samples), np.bool_)
        places = np.searchsorted(self.wanted, samples.ids)
        starts = np.repeat(places * _DAYS - _FIRST_DAY, np.diff(samples.offsets))
        days = starts + samples.timestamps // MS_PER_DAY
        found = np.searchsorted(self.firsts, days, side="right") - 1
        return np.asarray((found >= 0) & (days <= self.lasts[found]))

    def reads(self) -> list[tuple[IntArray, int, int]]:
        """A few reads (series, first and last day) that cover all intervals, and more than them."""
        if not len(self):
            return []
        places = self.firsts // _DAYS
        first_days, last_days = self.firsts % _DAYS, self.lasts % _DAYS
        runs = [run.tolist() for run in _joined(first_days, last_days)]
        if len(runs[0]) > _MOST_READS:
            runs = [runs[0][:1], runs[1][-1:]]
        return [
            (
                self.wanted[distinct(places[(first_days >= first) & (last_days <= last)])],
                first + _FIRST_DAY,
                last + _FIRST_DAY,
            )
            for first, last in zip(*runs, strict=True)
        ]


def changed_intervals(
    wanted: IntArray, first_whole: IntArray, changes: Sequence[Change]
) -> list[Intervals]:
    """The days of wanted series (ascending ids) for which rollups do not hold after some changes.

    `first_whole` is the first day of which each series keeps all samples. From it on, one interval
    has all that has changed, as raw samples are right anyway. Before it rollups may be all that is
    left: there nothing but deletions counts, and only their own days.
    """
    first_days, last_days = np.full(len(wanted), _NO_DAY), np.full(len(wanted), -_NO_DAY)
    firsts = np.searchsorted(wanted, [one.first_series for one in changes]).tolist()
    behinds = np.searchsorted(wanted, [one.last_series for one in changes], side="right").tolist()
    deleted = []
    for change, first, behind in zip(changes, firsts, behinds, strict=True):
        places = np.arange(first, behind)
        places = places[first_whole[first:behind] <= change.last_day]
        since = np.maximum(first_whole[places], change.first_day)
        first_days[places] = np.minimum(first_days[places], since)
        last_days[places] = np.maximum(last_days[places], change.last_day)
        if change.is_deletion and first < behind:
            deleted.append(replace(change, first_series=first, last_series=behind - 1))
    found = [(np.arange(len(wanted)), first_days, last_days)]
    for one in _joined_deletions(deleted):
        places = np.arange(one.first_series, one.last_series + 1)
        until = np.minimum(first_whole[places] - 1, one.last_day)
        found.append((places, np.full(len(places), one.first_day), until))
    return found


def _joined_deletions(deleted: Sequence[Change]) -> list[Change]:
    """The same deletions, without one for each day: a long one has a mark on each of its days."""
    found: list[Change] = []
    for one in sorted(deleted, key=lambda one: (one.first_series, one.last_series, one.first_day)):
        last = found[-1] if found else None
        if (
            last is not None
            and (last.first_series, last.last_series) == (one.first_series, one.last_series)
            and one.first_day <= last.last_day + 1
        ):
            found[-1] = replace(last, last_day=max(last.last_day, one.last_day))
        else:
            found.append(one)
    return found


def _joined(firsts: IntArray, lasts: IntArray) -> tuple[IntArray, IntArray]:
    """Intervals (inclusive) in ascending order; those that overlap or meet are one."""
    if not len(firsts):
        return firsts, lasts
    order = np.argsort(firsts, kind="stable")
    firsts, lasts = firsts[order], np.maximum.accumulate(lasts[order])
    begins = np.append(True, firsts[1:] > lasts[:-1] + 1)
    return firsts[begins], lasts[np.append(begins[1:], True)]
