"""`time`, `timestamp`, and parts of dates in UTC.

The calendar is computed with integers, because `datetime64` has neither the year 292277026596,
which Prometheus shows for NaN, nor Go's wrap-around.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.model import EMPTY_LABELS, BoolArray, FloatArray, IntArray
from promql.functions.function_calls import InstantCall
from promql.values.matrix import Matrix, ScalarGrid, Value
from promql.values.row_pieces import map_cells

_DAY_SECONDS = 86_400
_MIN_INT64 = -(1 << 63)
_EPOCH_DAYS = 106_751_991_073_094
"""Days from the start of Go's absolute time, in the year -292277022399, to the Unix epoch."""
_ERA_DAYS = 146_097
_EPOCH_ERA_DAYS = 719_468
"""Days from 1 March of the year 0, where the eras of 400 years start, to the Unix epoch."""
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def unix_seconds(values: FloatArray) -> IntArray:
    """Whole seconds, truncated. What int64 cannot hold, NaN included, becomes its least value.

    The conversion instruction of amd64 does that, and so does Prometheus there.
    """
    fits = np.abs(values) < -float(_MIN_INT64)
    return np.where(fits, np.where(fits, values, 0.0).astype(np.int64), _MIN_INT64)


@dataclass(frozen=True, slots=True)
class _Dates:
    """The date of each second: `days` since the epoch, year, month, day, and time of day."""

    days: IntArray
    year: IntArray
    month: IntArray
    day: IntArray
    second_of_day: IntArray

    @classmethod
    def of(cls, seconds: IntArray) -> "_Dates":
        """Proleptic Gregorian dates; the unsigned arithmetic wraps around where Go's does."""
        absolute = seconds.astype(np.uint64) + np.uint64(_EPOCH_DAYS * _DAY_SECONDS)
        days = (absolute // np.uint64(_DAY_SECONDS)).astype(np.int64) - _EPOCH_DAYS
        second_of_day = (absolute % np.uint64(_DAY_SECONDS)).astype(np.int64)
        # If years start in March, the leap day comes last and every part is a division.
        era, day_of_era = np.divmod(days + _EPOCH_ERA_DAYS, _ERA_DAYS)
        year_of_era = (
            day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
        ) // 365
        day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
        shifted_month = (5 * day_of_year + 2) // 153
        month = np.where(shifted_month < 10, shifted_month + 3, shifted_month - 9)
        day = day_of_year - (153 * shifted_month + 2) // 5 + 1
        return cls(days, era * 400 + year_of_era + (month <= 2), month, day, second_of_day)

    def is_leap(self) -> IntArray:
        """1 in leap years, else 0."""
        year = self.year
        leap: BoolArray = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        return leap.astype(np.int64)

    def day_of_year(self) -> IntArray:
        """1 on the first of January."""
        before: IntArray = (np.cumsum(_MONTH_DAYS) - _MONTH_DAYS)[self.month - 1]
        return before + self.day + self.is_leap() * (self.month > 2)

    def days_in_month(self) -> IntArray:
        """28 to 31."""
        days: IntArray = _MONTH_DAYS[self.month - 1] + self.is_leap() * (self.month == 2)
        return days


def time(call: InstantCall) -> Value:
    """`time()`: the eval time in Unix seconds."""
    return ScalarGrid(call.timestamps / 1000)


def timestamp(call: InstantCall) -> Value:
    """`timestamp(v)`: the eval time of each sample.

    The evaluator itself computes `timestamp(selector)`, which is the time of the raw sample.
    """
    matrix = call.matrix(0)
    values = np.broadcast_to(call.timestamps / 1000, matrix.values.shape)
    return replace(matrix, values=values, histograms=None)


def _date_function(part: Callable[[_Dates], IntArray]) -> Callable[[InstantCall], Value]:
    """A function of the dates of the samples, or of the eval time when there is no argument."""

    def date_function(call: InstantCall) -> Value:
        if not call.args:
            seconds = np.trunc(call.timestamps / 1000).astype(np.int64)
            values = part(_Dates.of(seconds)).astype(np.float64)[None, :]
            return Matrix.of((EMPTY_LABELS,), values, np.ones(values.shape, bool))
        matrix = call.matrix(0)
        values = map_cells(
            lambda cells: part(_Dates.of(unix_seconds(cells))), matrix.values.shape, matrix.values
        )
        return replace(matrix, values=values)

    return date_function


day_of_month = _date_function(lambda dates: dates.day)
day_of_week = _date_function(lambda dates: (dates.days + 4) % 7)
day_of_year = _date_function(_Dates.day_of_year)
days_in_month = _date_function(_Dates.days_in_month)
hour = _date_function(lambda dates: dates.second_of_day // 3600)
minute = _date_function(lambda dates: dates.second_of_day // 60 % 60)
month = _date_function(lambda dates: dates.month)
year = _date_function(lambda dates: dates.year)
