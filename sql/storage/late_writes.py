"""Which writes may change results that a cache holds, and what to count for them.

A cache keeps no step within the last `CACHEABLE_AFTER_MS` of now (see docs/adr/0010). A write of
samples that are younger than `LATE_AFTER_MS` cannot touch such a step unless it takes minutes to
commit; all others count their days in the transaction that stores them.
"""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.caching import LATE_AFTER_MS
from promcompat.core.model import IntArray
from sql.catalog import MS_PER_DAY
from sql.storage.copy_format import SampleRows

_MAX_DAY: Final = (1 << 31) - 1


def clamp_day(day: int) -> int:
    """A day since 1970-01-01, or the nearest that the database can hold."""
    return max(-_MAX_DAY, min(day, _MAX_DAY))


@dataclass(frozen=True, slots=True)
class LateWrites:
    """The series that late samples belong to, and their days since 1970-01-01, each distinct."""

    series_ids: IntArray
    days: IntArray

    def columns(self) -> tuple[list[int], list[int]]:
        """The parameters of the statement that counts them."""
        return self.series_ids.tolist(), self.days.tolist()


def wall_clock_ms() -> int:
    """Now, Unix milliseconds."""
    return time.time_ns() // 1_000_000


def late_writes(rows: SampleRows, now_ms: int) -> LateWrites | None:
    """What to count for the rows that are late at `now_ms`; None when none is."""
    is_late = rows.timestamps < now_ms - LATE_AFTER_MS
    if not is_late.any():
        return None
    return LateWrites(
        np.unique(rows.series_ids[is_late]), np.unique(rows.timestamps[is_late] // MS_PER_DAY)
    )
