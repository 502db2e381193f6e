"""Walks over the samples of many windows at once: round k sees the k-th sample of every window.

A recurrence (a compensated sum, a mean, a smoothing) has to take the samples of a window in order.
Going through the windows side by side leaves one numpy call per round instead of one per sample.
Measured, 48,000 windows of 20 samples: 3 ms for a compensated sum, all windows as one chunk 2.5 ms;
chunks keep the state in the cache and bound the memory.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import FloatArray, IntArray
from promql.numbers.kahan import kahan_add

MAX_WINDOWS_AT_ONCE = 1 << 14
_LANE_WINDOW_SAMPLES = 512
_LANE_WINDOWS = 1024
_MIN_LANE_SAMPLES = 64

Terms = Callable[[IntArray, IntArray], tuple[FloatArray, ...]]
"""(sample indices, window indices) -> the values to add to each of the window's sums."""


@dataclass(frozen=True, slots=True)
class WindowChunk:
    """Some windows, longest first: `rows` are their indices, `first` their first samples."""

    rows: IntArray
    first: IntArray
    counts: IntArray

    def rounds(self, start: int = 0) -> Iterator[IntArray]:
        """For k = start, start + 1, …: the sample indices of the windows that have a k-th sample.

        They belong to `rows[: len(indices)]`, because the windows are ordered by length.
        """
        steps = np.arange(start, int(self.counts[0]))
        active = np.searchsorted(-self.counts, -steps, side="left")
        for k, n_active in zip(steps.tolist(), active.tolist(), strict=True):
            yield self.first[:n_active] + k


def chunk_windows(first: IntArray, counts: IntArray) -> Iterator[WindowChunk]:
    """The windows that are not empty, longest first, some thousands at a time.

    `first` and `counts` are int64 [n_windows]: window i has the samples
    `[first[i], first[i] + counts[i])`.
    """
    rows = longest_first(counts)
    for start in range(0, len(rows), MAX_WINDOWS_AT_ONCE):
        chunk = rows[start : start + MAX_WINDOWS_AT_ONCE]
        yield WindowChunk(chunk, first[chunk], counts[chunk])


def longest_first(counts: IntArray) -> IntArray:
    """The indices of the windows that are not empty, by falling length, else in their order."""
    rows = np.flatnonzero(counts)
    if not len(rows):
        return rows
    missing = counts.max() - counts[rows]
    if missing.max() < 1 << 16:
        # The stable sort of 16-bit keys is a radix sort, ten times as fast.
        missing = missing.astype(np.uint16)
    return rows[np.argsort(missing, kind="stable")]


def is_bounded(values: FloatArray, limit: float) -> bool:
    """Whether every finite value is within ±limit, so that sums of them cannot overflow."""
    magnitudes = np.abs(values)
    return not bool(np.any((magnitudes > limit) & (magnitudes != np.inf)))


def lane_count(counts: IntArray, bounded: bool) -> int:
    """Into how many parts to cut each window, so that few long windows still fill a column.

    One part keeps Prometheus' order of additions, bit for bit. Several may differ in the last
    bit, and only where nothing overflows (`bounded`): infinity must come from a sample.
    """
    longest = int(counts.max(initial=0))
    n_windows = int(np.count_nonzero(counts))
    if not bounded or longest < _LANE_WINDOW_SAMPLES or n_windows >= _LANE_WINDOWS:
        return 1
    return max(1, min(longest // _MIN_LANE_SAMPLES, 2 * _LANE_WINDOWS // n_windows))


def kahan_window_sums(
    first: IntArray, counts: IntArray, terms: Terms, n_terms: int, bounded: bool
) -> list[tuple[FloatArray, FloatArray]]:
    """Compensated sums of `n_terms` terms over each window, as (total, compensation) [n_windows].

    `bounded` promises that sums of finite terms stay finite, which allows to cut long windows.
    """
    lanes = lane_count(counts, bounded)
    if lanes == 1:
        return _sums_in_order(first, counts, terms, n_terms)
    edges = first[:, None] + counts[:, None] * np.arange(lanes + 1) // lanes
    owner = np.repeat(np.arange(len(first)), lanes)

    def lane_terms(samples: IntArray, rows: IntArray) -> tuple[FloatArray, ...]:
        return terms(samples, owner[rows])

    parts = _sums_in_order(
        edges[:, :-1].ravel(), np.diff(edges, axis=1).ravel(), lane_terms, n_terms
    )
    return [_join_lanes(total, compensation, lanes) for total, compensation in parts]


def _sums_in_order(
    first: IntArray, counts: IntArray, terms: Terms, n_terms: int
) -> list[tuple[FloatArray, FloatArray]]:
    totals = np.zeros((n_terms, len(first)))
    compensations = np.zeros((n_terms, len(first)))
    for chunk in chunk_windows(first, counts):
        sums = [(np.zeros(len(chunk.rows)), np.zeros(len(chunk.rows))) for _ in range(n_terms)]
        for samples in chunk.rounds():
            n = len(samples)
            for (total, compensation), x in zip(sums, terms(samples, chunk.rows[:n]), strict=True):
                total[:n], compensation[:n] = kahan_add(total[:n], compensation[:n], x)
        for term, (total, compensation) in enumerate(sums):
            totals[term, chunk.rows] = total
            compensations[term, chunk.rows] = compensation
    return list(zip(totals, compensations, strict=True))


def _join_lanes(
    totals: FloatArray, compensations: FloatArray, lanes: int
) -> tuple[FloatArray, FloatArray]:
    totals, compensations = totals.reshape(-1, lanes), compensations.reshape(-1, lanes)
    total, compensation = totals[:, 0].copy(), compensations[:, 0].copy()
    for lane in range(1, lanes):
        total, compensation = kahan_add(
            total, compensation + compensations[:, lane], totals[:, lane]
        )
    return total, compensation
