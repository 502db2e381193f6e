"""Which samples are late, and what is noted for them."""

import numpy as np

from sql.caching.late_writes import late_writes
from sql.catalog import MS_PER_DAY, MS_PER_HOUR
from sql.database.copy_format import SampleRows

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000


def rows_aged(*ages_ms: int) -> SampleRows:
    times = np.array([NOW_MS - age for age in ages_ms], np.int64)
    return SampleRows(np.arange(len(times), dtype=np.int64), times, np.zeros(len(times), np.uint64))


def test_samples_in_time_note_nothing() -> None:
    assert late_writes(rows_aged(0, 119_000, -5_000), NOW_MS) is None


def test_samples_of_the_running_hour_note_their_day_only() -> None:
    late = late_writes(rows_aged(0, 3 * MINUTE_MS, 49 * MINUTE_MS), NOW_MS)
    assert late is not None
    days = [(NOW_MS - 3 * MINUTE_MS) // MS_PER_DAY]
    assert late.columns() == ([1, 2], days, [])


def test_samples_of_hours_that_may_be_computed_note_each_hour_once() -> None:
    ages_ms = (51 * MINUTE_MS, 52 * MINUTE_MS, 5 * MS_PER_DAY, NOW_MS + 7)
    late = late_writes(rows_aged(*ages_ms), NOW_MS)
    assert late is not None
    hours = {(NOW_MS - age) // MS_PER_HOUR for age in ages_ms}
    assert late.columns()[2] == sorted(hours)
    assert late.columns()[2][0] == -1  # 7 ms before 1970.
