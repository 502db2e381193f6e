"""What a run of rollups leaves as it is: rollups of samples that are no longer there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from promcompat.core.model import BoolArray, IntArray
from sql.samples.columns.fold import first_of
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.rollups.rollup_pages import Column, Columns, Level
from sql.times import MS_PER_DAY, MS_PER_HOUR

_NO_HOURS: Final = (np.empty(0, np.int64), np.empty(0, np.int64))


@dataclass(frozen=True, slots=True)
class Deleted:
    """A deletion of samples within a day; series and times (Unix ms) are inclusive.

    `series_ids` are those of the range that it is of; None: all.
    """

    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    series_ids: IntArray | None = None

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Deleted":
        """A row of `deletion_marks`."""
        payload = row[4]
        ids = None if payload is None else np.frombuffer(payload, ">i8").astype(np.int64)
        return cls(row[0], row[1], row[2], row[3], ids)

    def has(self, ids: IntArray) -> BoolArray:
        """Which of some series it is of."""
        is_within = (ids >= self.first_series) & (ids <= self.last_series)
        return is_within if self.series_ids is None else is_within & np.isin(ids, self.series_ids)


@dataclass(frozen=True, slots=True)
class Outlived:
    """Which days of which series keep the rollups that they have: `is_kept[series, day]`.

    `ids` and `days` ascend. Buckets that one of `deletions` touches go all the same.
    """

    ids: IntArray
    days: IntArray
    is_kept: BoolArray
    deletions: Sequence[Deleted] = ()

    @classmethod
    def of(
        cls,
        counts: tuple[IntArray, IntArray],
        first_whole: IntArray,
        ids: IntArray,
        days: IntArray,
        deletions: Sequence[Deleted],
    ) -> "Outlived":
        """`counts` are how many samples rollups stand for, and how many exist, shaped as `is_kept`.

        Rollups stand for no stale markers; these count among the samples that are there.
        `first_whole` is the first day that each series keeps samples of as a whole. Before it, no
        rollup is computed a second time. From it on, rollups are computed again unless samples are
        missing that nobody has deleted: those of a retention that was shorter before.
        """
        n_rolled, n_there = counts
        is_gone = first_whole[:, None] > days[None, :]
        is_deleted = np.zeros_like(is_gone)
        for one in deletions:
            is_day = (days >= one.first_ms // MS_PER_DAY) & (days <= one.last_ms // MS_PER_DAY)
            is_deleted |= one.has(ids)[:, None] & is_day[None, :]
        is_kept = (n_rolled > 0) & (is_gone | (~is_deleted & (n_there < n_rolled)))
        return cls(ids, days, is_kept, deletions)

    def covers(self, samples: SeriesSamples) -> BoolArray:
        """Which elements of a column are of a series and day that keep their rollups."""
        series = np.searchsorted(self.ids, np.repeat(samples.ids, np.diff(samples.offsets)))
        day_of_each = samples.timestamps // MS_PER_DAY
        places = np.minimum(np.searchsorted(self.days, day_of_each), len(self.days) - 1)
        return np.asarray((self.days[places] == day_of_each) & self.is_kept[series, places])

    def touched(self, samples: SeriesSamples, width_ms: int) -> BoolArray:
        """Which elements of a column are of a bucket that a deletion touches."""
        ids = np.repeat(samples.ids, np.diff(samples.offsets))
        bucket = samples.timestamps // width_ms
        found = np.zeros(len(ids), np.bool_)
        for one in self.deletions:
            is_within = (bucket >= one.first_ms // width_ms) & (bucket <= one.last_ms // width_ms)
            found |= one.has(ids) & is_within
        return found

    def merged(self, old: Columns, new: Columns, level: Level) -> Columns:
        """The columns of a level: of days that keep their rollups the old ones, else the new."""
        return {
            column: self._merged(old.get(column, NO_SAMPLES), new[column], level.width_ms)
            for column in Column
        }

    def _merged(self, old: SeriesSamples, new: SeriesSamples, width_ms: int) -> SeriesSamples:
        parts = []
        if len(new):
            parts.append(new.where(~self.covers(new)))
        if len(old):
            is_outside = ~np.isin(old.timestamps // MS_PER_DAY, self.days)
            is_left = self.covers(old) & ~self.touched(old, width_ms)
            parts.append(old.where(is_outside | is_left))
        return first_of([part for part in parts if len(part)])

    def left_hours(self) -> tuple[IntArray, IntArray]:
        """The series and hours (since 1970-01-01) that deletions take from kept days."""
        found = [_NO_HOURS]
        for one in self.deletions:
            hours = np.arange(one.first_ms // MS_PER_HOUR, one.last_ms // MS_PER_HOUR + 1)
            day = np.searchsorted(self.days, one.first_ms // MS_PER_DAY)
            ids = self.ids[one.has(self.ids) & self.is_kept[:, day]]
            found.append((np.repeat(ids, len(hours)), np.tile(hours, len(ids))))
        return (
            np.concatenate([series for series, _ in found]),
            np.concatenate([hours for _, hours in found]),
        )


def counted(columns: Columns, ids: IntArray, days: IntArray) -> IntArray:
    """How many samples the columns of a level stand for, of each series and day."""
    column = columns.get(Column.COUNT, NO_SAMPLES)
    found = np.zeros((len(ids), len(days)), np.int64)
    if not len(column):
        return found
    day_of_each = column.timestamps // MS_PER_DAY
    places = np.minimum(np.searchsorted(days, day_of_each), len(days) - 1)
    is_wanted = days[places] == day_of_each
    series = np.searchsorted(ids, np.repeat(column.ids, np.diff(column.offsets)))
    np.add.at(
        found, (series[is_wanted], places[is_wanted]), column.values[is_wanted].astype(np.int64)
    )
    return found
