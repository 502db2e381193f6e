"""Samples without a sender's timestamp: each gets the next free millisecond of its series.

The server's clock gives the same millisecond to several samples of one series: within a request,
in concurrent requests, and in other processes. Such samples are different measurements, so none of
them is a duplicate, whatever its value. `RecentStamps` keeps those of one process apart before
anything is stored; `move_past_taken` finds a place for those that met a stored sample.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.copy_format import SampleRows
from sql.samples.columns.series_samples import SeriesSamples

_MAX_SERIES: Final = 100_000
_STEP_BACK_MS: Final = 60_000
"""Requests that come later have earlier times by less than that, unless the clock was set back."""


class RecentStamps:
    """The last timestamp that this process gave to each series within about the last millisecond.

    It forgets what the clock has passed, and everything when more series than that write at once,
    or the clock is set back: the database is asked in any case.
    """

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._latest_ms = -(1 << 63)

    def assign(self, rows: SampleRows) -> SampleRows:
        """The rows with server timestamps that no earlier row of this process has."""
        if rows.server_timed is None or not rows.server_timed.any():
            return rows
        at = np.flatnonzero(rows.server_timed)
        timestamps = rows.timestamps.copy()
        self._notice_step_back(int(timestamps[at].max()))
        if len(self._last) > _MAX_SERIES:
            self._forget_before(int(timestamps[at].min()))
        timestamps[at] = ascending(rows.series_ids[at], timestamps[at], self._last)
        return replace(rows, timestamps=timestamps)

    def _notice_step_back(self, now_ms: int) -> None:
        """Forget times that the clock no longer has, or new ones would be put behind them."""
        if now_ms < self._latest_ms - _STEP_BACK_MS:
            self._last.clear()
            self._latest_ms = now_ms
        self._latest_ms = max(self._latest_ms, now_ms)

    def _forget_before(self, now_ms: int) -> None:
        ahead = {series: last for series, last in self._last.items() if last >= now_ms}
        self._last = ahead if len(ahead) <= _MAX_SERIES else {}


def ascending(series_ids: IntArray, timestamps: IntArray, last: dict[int, int]) -> IntArray:
    """The timestamps, each later than those of its series before it and than `last[series]`.

    Order and distance stay where they can; `last` is brought up to date.
    """
    stamps: list[int] = []
    for series_id, timestamp in zip(series_ids.tolist(), timestamps.tolist(), strict=True):
        previous = last.get(series_id)
        stamp = timestamp if previous is None or timestamp > previous else previous + 1
        last[series_id] = stamp
        stamps.append(stamp)
    return np.array(stamps, np.int64)


def move_past_taken(rows: SampleRows, taken: Sequence[SeriesSamples]) -> SampleRows:
    """The rows with times at which their series have no sample yet, each at or after its own.

    `rows` are ordered by tenant, series and time; `taken` has, for each tenant, all samples of
    these series from the first of its rows on. Rows with the same time move apart.
    """
    used: dict[int, set[int]] = {}
    for samples in taken:
        for index, series_id in enumerate(samples.ids.tolist()):
            own = samples.timestamps[samples.offsets[index] : samples.offsets[index + 1]]
            used[series_id] = set(own.tolist())
    timestamps = rows.timestamps.copy()
    last: dict[int, int] = {}
    for row, (series_id, timestamp) in enumerate(
        zip(rows.series_ids.tolist(), rows.timestamps.tolist(), strict=True)
    ):
        free = max(timestamp, last.get(series_id, timestamp - 1) + 1)
        while free in used.get(series_id, ()):
            free += 1
        timestamps[row] = last[series_id] = free
    return replace(rows, timestamps=timestamps)
