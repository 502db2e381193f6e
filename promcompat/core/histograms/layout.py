"""The buckets of native histograms: their indices, the spans of these, and lower resolutions."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from promcompat.core.histograms.columns import Histograms, Ragged

Ints = NDArray[np.int64]
_INT32 = np.iinfo(np.int32)


def bucket_indices(spans: Ragged[np.int32]) -> Ints:
    """The index of each bucket, as the spans of its histogram place it."""
    offsets, lengths = spans.cells[:, 0].astype(np.int64), spans.cells[:, 1].astype(np.int64)
    ends = np.cumsum(offsets + lengths)
    # The first offset of a histogram counts from 0, the others from the end of the span before.
    before = np.concatenate(([0], ends))[spans.offsets[:-1]]
    starts = ends - lengths - np.repeat(before, spans.lengths)
    n_before = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + np.arange(len(n_before)) - n_before)


def spans_of(indices: Ragged[np.int64]) -> Ragged[np.int32]:
    """The spans of buckets with ascending indices, one for each run of neighbouring ones."""
    cells, n = indices.cells, len(indices.cells)
    is_first = np.zeros(n, bool)
    is_first[indices.offsets[:-1][indices.lengths > 0]] = True
    is_start = is_first.copy()
    is_start[1:] |= np.diff(cells) != 1
    starts = np.flatnonzero(is_start)
    ends = np.append(starts[1:], n)
    previous = np.where(is_first[starts], 0, cells[starts - 1] + 1)
    spans = np.column_stack((cells[starts] - previous, ends - starts))
    offsets = np.searchsorted(starts, indices.offsets).astype(np.int64)
    return Ragged(offsets, np.clip(spans, _INT32.min, _INT32.max).astype(np.int32))


def span_list(indices: Iterable[int]) -> list[list[int]]:
    """The spans of one histogram, as lists of offset and length; for few buckets."""
    spans: list[list[int]] = []
    end = 0
    for index in indices:
        if spans and index == end:
            spans[-1][1] += 1
        else:
            spans.append([index - end, 1])
        end = index + 1
    return spans


def merged(
    indices: Ragged[np.int64], counts: NDArray[np.int64], is_float: NDArray[np.bool_]
) -> tuple[Ragged[np.int32], Ragged[np.int64]]:
    """The spans and buckets of counts whose indices ascend; those of equal indices are added.

    `counts` has the bits of the counts, and `is_float` says for each histogram what they are.
    """
    rows = indices.rows_of_cells()
    is_new = np.ones(len(counts), bool)
    is_new[1:] = (np.diff(rows) != 0) | (np.diff(indices.cells) != 0)
    groups = np.cumsum(is_new) - 1
    lengths = np.bincount(rows[is_new], minlength=len(indices))
    kept = Ragged.of_lengths(lengths, indices.cells[is_new])
    floats = is_float[rows]
    sums, float_sums = np.zeros(len(kept.cells), np.int64), np.zeros(len(kept.cells))
    # Unlike a reduction, this adds from left to right, as Prometheus does.
    np.add.at(sums, groups[~floats], counts[~floats])
    np.add.at(float_sums, groups[floats], counts.view(np.float64)[floats])
    bits = np.where(floats[is_new], float_sums.view(np.int64), sums)
    return spans_of(kept), Ragged(kept.offsets, bits)


def reduced(histograms: Histograms, shifts: Ints) -> Histograms:
    """Histograms whose exponential schema is lowered by `shifts`; those of 0 stay as they are."""
    rows = np.flatnonzero(shifts)
    if not len(rows):
        return histograms
    coarse = _reduced(histograms.take(rows), shifts[rows])
    order = np.arange(len(histograms))
    order[rows] = len(histograms) + np.arange(len(rows))
    return Histograms.joined([histograms, coarse]).take(order)


def _reduced(fine: Histograms, shifts: Ints) -> Histograms:
    sides = []
    for spans, counts in (
        (fine.positive_spans, fine.positive),
        (fine.negative_spans, fine.negative),
    ):
        indices = (bucket_indices(spans) - 1 >> np.repeat(shifts, counts.lengths)) + 1
        sides.append(merged(Ragged(counts.offsets, indices), counts.cells, fine.is_float))
    (positive_spans, positive), (negative_spans, negative) = sides
    return Histograms(
        (fine.schemas - shifts).astype(np.int8),
        fine.hints,
        fine.is_float,
        fine.zero_thresholds,
        fine.zero_counts,
        fine.counts,
        fine.sums,
        positive_spans,
        negative_spans,
        positive,
        negative,
        fine.bounds,
    )
