"""Reads the block store in windows of time: from the newest samples of series, or page by page.

A window grows as long as too few samples are found, and shrinks when it has too many, so that
neither a year without samples nor a lone sample of 1970 makes a question read everything.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np

from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import HistogramCells, Histograms, is_histogram
from promcompat.core.model import FloatArray, IntArray, is_stale
from sql.samples.columns.histogram_pools import joined_values
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.sample_snapshot import SampleSnapshot
from sql.samples.reading.snapshots import SampleSnapshots
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

ALL_TIMES: Final = (MIN_TIMESTAMP_MS - 1, MAX_TIMESTAMP_MS)
"""Every time that the database can hold, as `(start_ms, end_ms]`."""
_FIRST_WINDOW_MS: Final = 300_000
"""Most series that are written at all have a sample in it."""
_GROWTH: Final = 8
_SHRINKAGE: Final = 64
_MAX_SAMPLES: Final = 2_000_000
MAX_HISTOGRAM_BYTES: Final = 256 << 20
"""The most that a window may hold; a window of one millisecond has no limit."""
_SERIES_AT_ONCE: Final = 100_000


@dataclass(slots=True)
class Windows:
    """The part of `(start_ms, end_ms]` that is left to read, and the size of the next window."""

    start_ms: int
    end_ms: int
    descending: bool
    asked_at: float
    size_ms: int = _FIRST_WINDOW_MS

    @property
    def is_done(self) -> bool:
        """Whether everything was read."""
        return self.start_ms >= self.end_ms

    async def read(
        self, snapshots: SampleSnapshots, tenant_id: int, wanted: IntArray
    ) -> SeriesSamples:
        """The samples of the next window, which are later or (descending) earlier than before."""
        while True:
            start, end = await self._next(snapshots, tenant_id)
            read = partial(_samples_in, tenant_id, wanted, start, end)
            try:
                samples = await snapshots.answer(read, tenant_id, (start, end), self.asked_at)
            except ExecutionError:
                self.size_ms = max((end - start) // _SHRINKAGE, 1)
                continue
            if self.descending:
                self.end_ms = start
            else:
                self.start_ms = end
            self.size_ms *= _GROWTH
            return samples

    async def _next(self, snapshots: SampleSnapshots, tenant_id: int) -> tuple[int, int]:
        if not self.descending:
            return self.start_ms, min(self.end_ms, self.start_ms + self.size_ms)
        start = max(self.start_ms, self.end_ms - self.size_ms)
        drained = await snapshots.bounds_of_drained(tenant_id)
        if drained is not None and start < drained[1] < self.end_ms:
            # The head has everything later than that.
            start = drained[1]
        return start, self.end_ms


async def _samples_in(
    tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int, snapshot: SampleSnapshot
) -> SeriesSamples:
    allowance = SampleAllowance(0)
    if end_ms - start_ms > 1:  # A millisecond cannot be divided.
        allowance = SampleAllowance(_MAX_SAMPLES, max_histogram_bytes=MAX_HISTOGRAM_BYTES)
    return await snapshot.read(tenant_id, wanted, start_ms, end_ms, allowance)


async def windows_of(
    snapshots: SampleSnapshots,
    tenant_id: int,
    start_ms: int,
    end_ms: int,
    *,
    descending: bool,
    asked_at: float | None = None,
) -> Windows:
    """Windows over the part of `(start_ms, end_ms]` in which the tenant has samples.

    They have what was acknowledged before `asked_at`, as in `Head.view`.
    """
    if asked_at is None:
        asked_at = time.monotonic()
    bounds = await snapshots.bounds(tenant_id, asked_at)
    if bounds is None:
        return Windows(start_ms, start_ms, descending, asked_at)
    first_ms, last_ms = max(start_ms, bounds[0] - 1), min(end_ms, bounds[1])
    return Windows(first_ms, last_ms, descending, asked_at)


@dataclass(slots=True)
class _Search:
    """The series whose newest sample is not known yet, and those that were found."""

    wanted: IntArray
    passes_stale: bool
    found: list[SeriesSamples] = field(default_factory=list)

    def take(self, samples: SeriesSamples) -> None:
        """Note the newest sample of each series."""
        newest = _last_of_each(without_stale(samples) if self.passes_stale else samples)
        if len(newest):
            self.found.append(newest)
            self.wanted = np.setdiff1d(self.wanted, newest.ids, assume_unique=True)


async def newest_samples(
    snapshots: SampleSnapshots,
    tenant_id: int,
    wanted: IntArray,
    start_ms: int,
    end_ms: int,
    *,
    passes_stale: bool = False,
    asked_at: float | None = None,
) -> SeriesSamples:
    """The newest sample in `(start_ms, end_ms]` of each series (ascending ids) that has one.

    `passes_stale`: stale markers do not count as samples. `asked_at` as in `Head.view`.
    """
    if asked_at is None:
        asked_at = time.monotonic()
    search, latest_ms = _Search(wanted, passes_stale), end_ms
    if not passes_stale:
        times = start_ms, end_ms, asked_at
        recent, latest_ms = await snapshots.newest_of_head(tenant_id, wanted, *times)
        search.take(recent)
    missing, parts = search.wanted, search.found
    for first in range(0, len(missing), _SERIES_AT_ONCE):
        search = _Search(missing[first : first + _SERIES_AT_ONCE], passes_stale)
        windows = await windows_of(
            snapshots, tenant_id, start_ms, latest_ms, descending=True, asked_at=asked_at
        )
        while len(search.wanted) and not windows.is_done:
            search.take(await windows.read(snapshots, tenant_id, search.wanted))
        parts += search.found
    return _joined(parts)


async def first_and_last(
    snapshots: SampleSnapshots, tenant_id: int, wanted: IntArray
) -> tuple[int, int] | None:
    """The times of the first and the last sample of all these series; None without samples."""
    found = []
    for descending in (False, True):
        windows = await windows_of(snapshots, tenant_id, *ALL_TIMES, descending=descending)
        samples = NO_SAMPLES
        while not len(samples) and not windows.is_done:
            samples = await windows.read(snapshots, tenant_id, wanted)
        if not len(samples):
            return None
        found.append(int(samples.timestamps.max() if descending else samples.timestamps.min()))
    return found[0], found[1]


def without_stale(samples: SeriesSamples) -> SeriesSamples:
    """The samples that are no stale markers."""
    stale = is_stale(samples.values)
    return samples.where(~stale) if stale.any() else samples


def without_histograms(samples: SeriesSamples) -> SeriesSamples:
    """The samples that are floats."""
    found = is_histogram(samples.values)
    return samples.where(~found) if found.any() else samples


def _last_of_each(samples: SeriesSamples) -> SeriesSamples:
    last = samples.offsets[1:] - 1
    cells = HistogramCells(samples.values[last], samples.histograms).compacted()
    return _one_each(samples.ids, samples.timestamps[last], cells.values, cells.histograms)


def _joined(parts: Sequence[SeriesSamples]) -> SeriesSamples:
    """One sample each of different series, in the order of their ids."""
    if not parts:
        return NO_SAMPLES
    ids = np.concatenate([part.ids for part in parts])
    order = np.argsort(ids)
    timestamps = np.concatenate([part.timestamps for part in parts])
    column, pools = joined_values(
        [part.values for part in parts], [part.histograms for part in parts]
    )
    values = column[order]
    return _one_each(ids[order], timestamps[order], values, pools.settled(values))


def _one_each(
    ids: IntArray, timestamps: IntArray, values: FloatArray, histograms: Histograms | None
) -> SeriesSamples:
    offsets = np.arange(len(ids) + 1, dtype=np.int64)
    return SeriesSamples(ids, offsets, timestamps, values, histograms=histograms)
