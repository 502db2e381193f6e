"""A bounded table from ids of series to a number, for many ids at once."""

from typing import Final

import numpy as np

from promcompat.core.model import BoolArray, IntArray

_MAX_RECENT: Final = 65_536


class SeriesColumn:
    """A number for each of many series.

    Numbers are kept in arrays that are sorted by id: 16 bytes a series, and 50 ns to look one up.
    New series go to a small array first, because inserting into an array copies all of it.
    """

    def __init__(self, max_series: int) -> None:
        """When more than `max_series` are put, all of the earlier ones are forgotten."""
        self._max_series = max_series
        self._large = _SortedColumn()
        self._recent = _SortedColumn()

    def __len__(self) -> int:
        return len(self._large.ids) + len(self._recent.ids)

    def get(self, series_ids: IntArray, default: int) -> IntArray:
        """The numbers of series; `default` for those that have none."""
        numbers = np.full(len(series_ids), default, np.int64)
        for column in (self._large, self._recent):
            at, is_known = column.find(series_ids)
            numbers[is_known] = column.numbers[at[is_known]]
        return numbers

    def put(self, series_ids: IntArray, numbers: IntArray) -> None:
        """Set the numbers of series, whose ids ascend strictly."""
        at, is_known = self._large.find(series_ids)
        self._large.numbers[at[is_known]] = numbers[is_known]
        is_new = ~is_known
        if not is_new.any():
            return
        self._recent = self._recent.updated(series_ids[is_new], numbers[is_new])
        if len(self) > self._max_series:
            self._large = _SortedColumn()
        if len(self._recent.ids) > _MAX_RECENT:
            self._large = self._large.updated(self._recent.ids, self._recent.numbers)
            self._recent = _SortedColumn()

    def raise_to(self, series_ids: IntArray, numbers: IntArray, default: int) -> IntArray:
        """Set each series' number to the larger of its own and the given one.

        Returns the numbers before, `default` where there was none. The ids ascend strictly.
        """
        for column in (self._large, self._recent):
            at = column.places(series_ids)
            if at is not None:
                before = column.numbers[at].copy()
                column.numbers[at] = np.maximum(before, numbers)
                return before
        earlier = self.get(series_ids, default)
        is_new = earlier == default
        self.put(series_ids, np.where(is_new, numbers, np.maximum(earlier, numbers)))
        return earlier


class _SortedColumn:
    """Ids that ascend strictly, and a number for each."""

    __slots__ = ("ids", "numbers")

    def __init__(self, ids: IntArray | None = None, numbers: IntArray | None = None) -> None:
        self.ids = np.empty(0, np.int64) if ids is None else ids
        self.numbers = np.empty(0, np.int64) if numbers is None else numbers

    def find(self, wanted: IntArray) -> tuple[IntArray, BoolArray]:
        """Where each id is or would be, and which ones are there."""
        if not len(self.ids):
            return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
        at: IntArray = np.searchsorted(self.ids, wanted)
        is_known: BoolArray = self.ids.take(at, mode="clip") == wanted
        return at, is_known

    def places(self, wanted: IntArray) -> IntArray | slice | None:
        """Where the ids are, which ascend strictly; None if not all of them are there.

        Series of one request were mostly made together, so that they follow each other. To look at
        that takes a tenth of the time of finding them one by one.
        """
        first = int(self.ids.searchsorted(wanted[0])) if len(wanted) else 0
        run = slice(first, first + len(wanted))
        if np.array_equal(self.ids[run], wanted):
            return run
        at, is_known = self.find(wanted)
        return at if is_known.all() else None

    def updated(self, ids: IntArray, numbers: IntArray) -> "_SortedColumn":
        """This column with the numbers of further or known ids."""
        at, is_known = self.find(ids)
        kept = self.numbers.copy()
        kept[at[is_known]] = numbers[is_known]
        at, new, of_new = at[~is_known], ids[~is_known], numbers[~is_known]
        if len(new) and at[0] == len(self.ids):
            # New series have the highest ids: 1 ms instead of 30 for 200,000 of them.
            return _SortedColumn(np.concatenate((self.ids, new)), np.concatenate((kept, of_new)))
        return _SortedColumn(np.insert(self.ids, at, new), np.insert(kept, at, of_new))
