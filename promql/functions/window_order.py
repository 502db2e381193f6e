"""Functions over time that depend on the order of a window's samples: extremes and quantiles."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.function_calls import RangeCall
from promql.functions.window_rounds import chunk_windows, longest_first
from promql.numbers.value_order import sort_samples
from promql.values.annotation_texts import invalid_quantile

_MAX_SORTED_AT_ONCE = 1 << 18
"""Samples copied for one sort: 2 MiB, whatever the number of windows."""


def min_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The least sample of each window; NaN only if all samples are NaN."""
    return _extremes(call, np.fmin)


def max_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The greatest sample of each window; NaN only if all samples are NaN."""
    return _extremes(call, np.fmax)


def _extremes(call: RangeCall, extreme: np.ufunc) -> tuple[FloatArray, BoolArray]:
    present = call.windows.hi > call.windows.lo
    lo, hi = call.windows.lo[present], call.windows.hi[present]
    results = np.zeros(present.shape)
    results[present] = _reduce_windows(call.windows.block.values, lo, hi, extreme)
    return results, present


def _reduce_windows(
    values: FloatArray, lo: IntArray, hi: IntArray, extreme: np.ufunc
) -> FloatArray:
    """The extreme of each `values[lo:hi]`, none of which is empty.

    `reduceat` over lo[0], hi[0], lo[1], … also reduces what lies between two windows: one sample
    where they overlap, and at most one pass over the block where they do not.
    """
    if not len(lo):
        return np.zeros(0)
    bounds = np.stack([lo, hi], axis=1).ravel()
    # The last bound may be the end of the block, and reduceat needs a sample there.
    reduced = extreme.reduceat(np.append(values, 0.0), bounds)[::2]
    zeros = np.flatnonzero(reduced == 0)
    if len(zeros) and np.any((values == 0) & np.signbit(values)):
        # Prometheus keeps the first of equal samples. 0 equals -0, and a ufunc may keep either.
        firsts = _first_index_of_zero(values, lo[zeros], hi[zeros] - lo[zeros])
        reduced[zeros] = values[firsts]
    return reduced


def _first_index_of_zero(values: FloatArray, first: IntArray, counts: IntArray) -> IntArray:
    zero_at = np.flatnonzero(values == 0)
    return zero_at[np.searchsorted(zero_at, first)]


def ts_of_min_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The time of the least sample of each window in Unix seconds; of equal ones the last."""
    return _times_of_extremes(call, np.fmin)


def ts_of_max_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The time of the greatest sample of each window in Unix seconds; of equal ones the last."""
    return _times_of_extremes(call, np.fmax)


def _times_of_extremes(call: RangeCall, extreme: np.ufunc) -> tuple[FloatArray, BoolArray]:
    windows, block = call.windows, call.windows.block
    present = windows.hi > windows.lo
    lo, hi = windows.lo[present], windows.hi[present]
    sought = _reduce_windows(block.values, lo, hi, extreme)
    results = np.zeros(present.shape)
    results[present] = block.timestamps[_last_index_of(block.values, lo, hi, sought)] / 1000
    return results, present


def _last_index_of(values: FloatArray, lo: IntArray, hi: IntArray, sought: FloatArray) -> IntArray:
    """The last index of `sought` in each window; the last index if all samples are NaN."""
    found = hi - 1
    counts = hi - lo
    if len(lo) < counts.max(initial=0):
        for row in np.flatnonzero(~np.isnan(sought)).tolist():
            found[row] = lo[row] + np.flatnonzero(values[lo[row] : hi[row]] == sought[row])[-1]
        return found
    for chunk in chunk_windows(lo, counts):
        for samples in chunk.rounds():
            rows = chunk.rows[: len(samples)]
            hits = values[samples] == sought[rows]
            found[rows[hits]] = samples[hits]
    return found


@dataclass(frozen=True, slots=True)
class _SortedWindows:
    """Sorted windows, one a row: NaN last, padded with NaN; `nans` does not count the padding."""

    rows: IntArray
    counts: IntArray
    samples: FloatArray
    nans: IntArray

    @classmethod
    def of(cls, rows: IntArray, counts: IntArray, samples: FloatArray) -> "_SortedWindows":
        """Sorts `samples` [n_windows, longest window], padded with NaN after `counts`."""
        padding = samples.shape[1] - counts
        nans = np.isnan(samples).sum(axis=1) - padding
        return cls(rows, counts, sort_samples(samples), nans)

    def at(self, position: IntArray) -> FloatArray:
        """The sample at a position of each window if NaN came first."""
        index = position - self.nans
        taken = self.samples[np.arange(len(index)), np.maximum(index, 0)]
        return np.where(index < 0, np.nan, taken)

    def quantiles(self, quantiles: FloatArray) -> FloatArray:
        """The quantile of each window, interpolated linearly between samples.

        As in Prometheus: NaN for NaN, -Inf below 0, +Inf above 1.
        """
        rank = np.clip(np.nan_to_num(quantiles), 0, 1) * (self.counts - 1.0)
        lower = np.maximum(np.floor(rank), 0)
        upper = np.minimum(self.counts - 1.0, lower + 1)
        weight = rank - np.floor(rank)
        lower_samples, upper_samples = (
            self.at(lower.astype(np.intp)),
            self.at(upper.astype(np.intp)),
        )
        results = lower_samples * (1 - weight) + upper_samples * weight
        results = np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, results))
        return np.where(np.isnan(quantiles), np.nan, results)


def _gathered(call: RangeCall) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """Chunks of windows: their indices, counts, and samples one window a row, padded with NaN."""
    values = call.windows.block.values
    first = call.windows.lo.ravel()
    counts = call.windows.hi.ravel() - first
    rows = longest_first(counts)
    start = 0
    while start < len(rows):
        width = int(counts[rows[start]])
        chunk = rows[start : start + max(1, _MAX_SORTED_AT_ONCE // width)]
        start += len(chunk)
        if len(chunk) == 1:
            begin = int(first[chunk[0]])
            yield chunk, counts[chunk], values[begin : begin + width][None, :]
            continue
        columns = np.arange(width)
        inside = columns < counts[chunk, None]
        samples = values.take(first[chunk, None] + columns, mode="clip")
        yield chunk, counts[chunk], np.where(inside, samples, np.nan)


def quantile_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The quantile of each window; the first argument may change it from step to step."""
    present = call.windows.hi > call.windows.lo
    quantiles = call.scalars[0]
    outside = ~((quantiles >= 0) & (quantiles <= 1)) & np.logical_or.reduce(present, axis=0)
    for quantile in dict.fromkeys(quantiles[outside].tolist()):
        call.annotations.warn(invalid_quantile(quantile), call.arg_positions[0])
    results = np.zeros(present.size)
    by_window = np.broadcast_to(quantiles, present.shape).ravel()
    with np.errstate(all="ignore"):
        for rows, counts, samples in _gathered(call):
            results[rows] = _SortedWindows.of(rows, counts, samples).quantiles(by_window[rows])
    return results.reshape(present.shape), present


def mad_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The median distance of a window's samples from their median."""
    present = call.windows.hi > call.windows.lo
    results = np.zeros(present.size)
    with np.errstate(all="ignore"):
        for rows, counts, samples in _gathered(call):
            half = np.full(len(rows), 0.5)
            median = _SortedWindows.of(rows, counts, samples).quantiles(half)
            distances = np.abs(samples - median[:, None])
            results[rows] = _SortedWindows.of(rows, counts, distances).quantiles(half)
    return results.reshape(present.shape), present
