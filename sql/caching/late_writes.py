"""Which writes of the row store may change earlier results, and what is recorded for them.

A cache keeps no step within the last `CACHEABLE_AFTER_MS` of now (see docs/adr/0010). A write of
samples that are younger than `LATE_AFTER_MS` cannot affect such a step unless it takes minutes to
commit; all others count their days in the transaction that stores them. They also note hours that
`metrics_hourly` may have computed already.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from promcompat.core.ports import ALL_TIME, SampleState, TimeRange
from sql.catalog import MS_PER_DAY, MS_PER_HOUR
from sql.database.copy_format import SampleRows

LATE_AFTER_MS: Final = 120_000
"""A sample that is older than this when written is late: its day counts as changed."""

CACHEABLE_AFTER_MS: Final = 300_000
"""Only steps and samples older than this are cached.

The three minutes between the two allow for differing clocks and slow writes: a write takes at most
70 s, then its statement is cancelled.
"""

_MAX_DAY: Final = (1 << 31) - 1
_HOUR_NOTED_AFTER_MS: Final = 50 * 60_000
"""Maintenance computes an hour when it ended an hour ago; the ten minutes are for slow writes."""


def clamp_day(day: int) -> int:
    """A day since 1970-01-01, or the nearest that the database can hold."""
    return max(-_MAX_DAY, min(day, _MAX_DAY))


@dataclass(frozen=True, slots=True)
class LateWrites:
    """The series that late samples belong to, and their days and hours, each distinct.

    Days and hours count from 1970-01-01; only hours that may have been computed are among them.
    """

    series_ids: IntArray
    days: IntArray
    hours: IntArray

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """The parameters of the statement that counts them."""
        return self.series_ids.tolist(), self.days.tolist(), self.hours.tolist()


@dataclass(frozen=True, slots=True)
class ReadState:
    """The state that a query reads first: nothing it reads afterwards is older.

    `horizon_ms` is the latest time whose samples may be cached; `late_writes` counts the late
    writes of each day since 1970-01-01 that the query covers, without days that have none. All of
    it is valid within one epoch of the `InstallationGuard`, whose number is part of `generation`.
    """

    epoch: int
    generation: int
    horizon_ms: int
    late_writes: Mapping[int, int]

    @classmethod
    def at(
        cls, now_ms: int, epoch: int, generation: int, late_writes: Mapping[int, int]
    ) -> "ReadState":
        """The state read after the clock said `now_ms`."""
        return cls(epoch, generation, now_ms - CACHEABLE_AFTER_MS, late_writes)


@dataclass(frozen=True, slots=True)
class LateWriteState:
    """The `SampleState` of the row store: how often each day's samples were changed late.

    Days without a late write are left out. The counts are valid within one epoch of the
    `InstallationGuard`.
    """

    settled_ms: int
    epoch: int
    late_writes: Mapping[int, int]

    def changed_since(self, earlier: SampleState) -> Sequence[TimeRange]:
        """The days whose counts differ; see the port."""
        assert isinstance(earlier, LateWriteState)
        if earlier.epoch != self.epoch:
            return [ALL_TIME]
        own, others = self.late_writes, earlier.late_writes
        days = sorted(day for day in own.keys() | others.keys() if own.get(day) != others.get(day))
        return [(day * MS_PER_DAY, (day + 1) * MS_PER_DAY - 1) for day in days]


def wall_clock_ms() -> int:
    """Now, Unix milliseconds."""
    return time.time_ns() // 1_000_000


def late_writes(rows: SampleRows, now_ms: int) -> LateWrites | None:
    """What to count for the rows that are late at `now_ms`; None when none is."""
    is_late = rows.timestamps < now_ms - LATE_AFTER_MS
    if not is_late.any():
        return None
    late = rows.timestamps[is_late]
    of_computed_hours = late[late < now_ms - _HOUR_NOTED_AFTER_MS]
    return LateWrites(
        np.unique(rows.series_ids[is_late]),
        np.unique(late // MS_PER_DAY),
        np.unique(of_computed_hours // MS_PER_HOUR),
    )
