"""Walks over the samples of many windows at once: round k visits the k-th sample of every window.

A recurrence (a compensated sum, a mean, a smoothing) must take the samples of a window in order.
Visiting all windows together takes one NumPy call per round instead of one per sample.
A compensated sum over 48,000 windows of 20 samples takes 3 ms; as a single chunk it takes 2.5 ms,
but chunks bound the memory.
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
    """Some windows, longest first: their indices `rows`, first samples and sample counts."""

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
    """The windows that are not empty, longest first, `MAX_WINDOWS_AT_ONCE` at a time.

    `first` and `counts` are int64 [n_windows]: window i has the samples
    `[first[i], first[i] + counts[i])`.
    """
    rows = longest_first(counts)
    for start in range(0, len(rows), MAX_WINDOWS_AT_ONCE):
        chunk = rows[start : start + MAX_WINDOWS_AT_ONCE]
        yield WindowChunk(chunk, first[chunk], counts[chunk])


def longest_first(counts: IntArray) -> IntArray:
    """The indices of the windows that are not empty, by falling length; a stable order."""
    rows = np.flatnonzero(counts)
    if not len(rows):
        return rows
    missing = counts.max() - counts[rows]
    if missing.max() < 1 << 16:
        # The stable sort of 16-bit keys is a radix sort, which is ten times as fast.
        missing = missing.astype(np.uint16)
    return rows[np.argsort(missing, kind="stable")]


def is_bounded(values: FloatArray, limit: float) -> bool:
    """Whether every finite value is within ±limit, so that their sums cannot overflow."""
    magnitudes = np.abs(values)
    return not bool(np.any((magnitudes > limit) & (magnitudes != np.inf)))


def lane_count(counts: IntArray, bounded: bool) -> int:
    """Into how many parts (lanes) to cut each window, so that a few long windows fill a column.

    One lane keeps Prometheus' order of additions; several may change the last bit. Sums that may
    overflow (not `bounded`) get one lane, because an intermediate infinity depends on the order.
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

    With `bounded`, sums of finite terms stay finite, so long windows may be cut into lanes.
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
