"""Single samples: the newest of series, those at given times, and pages."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.errors import ExecutionError
from promcompat.core.histograms.columns import HistogramCells
from promcompat.core.model import BoolArray, IntArray
from promcompat.core.native_queries import SamplePageQuery
from sql.definitions.sample_lookup import NewestSample, SampleLookup
from sql.samples.arrivals.arrival_committer import EarlierSamples
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.head.head import Head
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.list_reader import ListedSamples, SamplePages
from sql.samples.reading.newest import (
    ALL_TIMES,
    MAX_HISTOGRAM_BYTES,
    newest_samples,
    windows_of,
    without_histograms,
    without_stale,
)
from sql.samples.reading.snapshots import SampleSnapshots
from sql.times import TimeBounds

_US_PER_MS: Final = 1000


class SnapshotLookup(SampleLookup, SamplePages, EarlierSamples):
    """Answers from one snapshot each."""

    def __init__(self, head: Head, snapshots: SampleSnapshots) -> None:
        self._head = head
        self._snapshots = snapshots

    async def newest(self, tenant_id: int, series_ids: Sequence[int]) -> Mapping[int, NewestSample]:
        """The newest samples; see `SampleLookup`."""
        wanted = distinct(np.array(series_ids, np.int64))
        newest = await newest_samples(self._snapshots, tenant_id, wanted, *ALL_TIMES)
        found = without_histograms(newest)
        columns = found.ids.tolist(), found.timestamps.tolist(), found.values.tolist()
        return {
            series_id: NewestSample(time_ms, value)
            for series_id, time_ms, value in zip(*columns, strict=True)
        }

    async def values_at(
        self, tenant_id: int, series_ids: Sequence[int], times_ms: Sequence[int]
    ) -> list[float | None]:
        """The values at given times; see `SampleLookup`."""
        if not series_ids:
            return []
        order = np.argsort(times_ms)
        keys = np.array(series_ids, np.int64)[order], np.array(times_ms, np.int64)[order]
        found = await self._values_at(tenant_id, *keys)
        return [found[place] for place in np.argsort(order).tolist()]

    async def _values_at(
        self, tenant_id: int, series_ids: IntArray, times_ms: IntArray
    ) -> list[float | None]:
        """The values at ascending times, half at a time where histograms need much memory."""
        wanted = distinct(series_ids)
        start_ms, end_ms = int(times_ms[0]) - 1, int(times_ms[-1])
        max_bytes = MAX_HISTOGRAM_BYTES if len(series_ids) > 1 else 0
        allowance = SampleAllowance(0, max_histogram_bytes=max_bytes)
        try:
            async with self._snapshots.open([tenant_id], start_ms, end_ms) as snapshot:
                samples = await snapshot.read(tenant_id, wanted, start_ms, end_ms, allowance)
        except ExecutionError:
            middle = len(series_ids) // 2
            if not middle:
                raise
            earlier = await self._values_at(tenant_id, series_ids[:middle], times_ms[:middle])
            later = await self._values_at(tenant_id, series_ids[middle:], times_ms[middle:])
            return earlier + later
        floats = without_histograms(samples)
        return [
            _value_at(floats, series_id, time_ms)
            for series_id, time_ms in zip(series_ids.tolist(), times_ms.tolist(), strict=True)
        ]

    async def bits_in_head(
        self, tenant_id: int, series_ids: IntArray, timestamps: IntArray
    ) -> tuple[BoolArray, HistogramCells]:
        """What the head has of some keys; see `EarlierSamples`."""
        view = await self._head.view()
        return view.stored_cells(tenant_id, series_ids, timestamps)

    async def times_between(
        self, wanted: Sequence[tuple[int, IntArray]], start_ms: int, end_ms: int
    ) -> tuple[int, list[SeriesSamples]]:
        """The samples of some series of several tenants; see `EarlierSamples`."""
        bounds, tenants = (start_ms - 1, end_ms), [tenant_id for tenant_id, _ in wanted]
        async with self._snapshots.open(tenants, *bounds) as snapshot:
            found = [
                await snapshot.read(tenant_id, series_ids, *bounds, SampleAllowance(0))
                for tenant_id, series_ids in wanted
            ]
            return snapshot.view.last_id, found

    async def latest(self, tenant_id: int, series_ids: IntArray) -> ListedSamples:
        """The newest sample of each series, stale markers aside; see `SamplePages`."""
        found = await newest_samples(
            self._snapshots, tenant_id, series_ids, *ALL_TIMES, passes_stale=True
        )
        return ListedSamples(found.ids, found.timestamps, _cells(found))

    async def page(
        self, tenant_id: int, series_ids: IntArray, query: SamplePageQuery
    ) -> ListedSamples:
        """A page of samples; see `SamplePages`."""
        start_ms, end_ms = _range_of(query)
        windows = await windows_of(
            self._snapshots, tenant_id, start_ms, end_ms, descending=query.descending
        )
        found: list[ListedSamples] = []
        wanted = query.limit
        while wanted > 0 and not windows.is_done:
            samples = await windows.read(self._snapshots, tenant_id, series_ids)
            found.append(_page_of(without_stale(samples), query, wanted))
            wanted -= len(found[-1])
        return ListedSamples.joined(found)


def _value_at(samples: SeriesSamples, series_id: int, time_ms: int) -> float | None:
    row = int(np.searchsorted(samples.ids, series_id))
    if row == len(samples.ids) or samples.ids[row] != series_id:
        return None
    first, behind = samples.offsets[row], samples.offsets[row + 1]
    place = first + int(np.searchsorted(samples.timestamps[first:behind], time_ms))
    if place == behind or samples.timestamps[place] != time_ms:
        return None
    return float(samples.values[place])


def _range_of(query: SamplePageQuery) -> tuple[int, int]:
    """The times of a page, `(start_ms, end_ms]`; those of its first position included."""
    start_ms, end_ms = query.start_ms - 1, query.end_ms - 1
    if query.after is not None:
        after_ms = query.after.timestamp_us // _US_PER_MS
        if query.descending:
            end_ms = min(end_ms, after_ms)
        else:
            start_ms = max(start_ms, after_ms - 1)
    bounds = TimeBounds.clamp(start_ms + 1, end_ms)
    return bounds.start_ms - 1, bounds.end_ms


def _page_of(samples: SeriesSamples, query: SamplePageQuery, limit: int) -> ListedSamples:
    """The first samples of a window that come after the position of the page."""
    ids = np.repeat(samples.ids, np.diff(samples.offsets))
    order = np.lexsort((ids, samples.timestamps))
    if query.after is not None:
        times_us, series_id = samples.timestamps * _US_PER_MS, query.after.series_id
        is_same_time = times_us == query.after.timestamp_us
        if query.descending:
            is_after = (times_us < query.after.timestamp_us) | is_same_time & (ids < series_id)
        else:
            is_after = (times_us > query.after.timestamp_us) | is_same_time & (ids > series_id)
        order = order[is_after[order]]
    chosen = order[::-1][:limit] if query.descending else order[:limit]
    cells = HistogramCells(samples.values[chosen], samples.histograms).compacted()
    return ListedSamples(ids[chosen], samples.timestamps[chosen], cells)


def _cells(samples: SeriesSamples) -> HistogramCells:
    return HistogramCells(samples.values, samples.histograms)
