"""The buckets of histograms with their bounds, as answers show them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import FloatArray, IntArray
from promcompat.core.texts.strconv import format_g
from promql.histograms.bucket_kernels import BOTH_CLOSED, LOWER_CLOSED, list_buckets, view_of
from promql.values.histogram_columns import HistogramColumns

_BRACKETS = {BOTH_CLOSED: ("[", "]"), LOWER_CLOSED: ("[", ")")}


@dataclass(frozen=True, slots=True)
class ListedBuckets:
    """The populated buckets of n histograms, each from the lowest to the highest.

    Histogram i has those from `offsets[i]` to `offsets[i + 1]`. `lowers`, `uppers` and `counts` are
    float64. `closed` uint8 says which bounds belong to a bucket: 0 the upper, 1 the lower, 3 both.
    """

    offsets: IntArray
    lowers: FloatArray
    uppers: FloatArray
    counts: FloatArray
    closed: NDArray[np.uint8]


def listed_buckets(columns: HistogramColumns) -> ListedBuckets:
    """All populated buckets; one that reaches into the zero bucket ends where that begins.

    A zero bucket with a negative count is left out, as in Prometheus' JSON.
    """
    lengths = np.diff(columns.negative.offsets) + np.diff(columns.positive.offsets)
    lengths += columns.zero_counts > 0
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    lowers, uppers, counts = (np.empty(offsets[-1]) for _ in range(3))
    closed = np.empty(offsets[-1], np.uint8)
    list_buckets(view_of(columns), offsets, lowers, uppers, counts, closed)
    kept = counts != 0
    n_before = np.concatenate(([0], np.cumsum(kept)))
    return ListedBuckets(n_before[offsets], lowers[kept], uppers[kept], counts[kept], closed[kept])


def histogram_texts(columns: HistogramColumns) -> list[str]:
    """The text of each histogram, as `{count:3, sum:4, [-2,-1):1, (0.5,1]:2}`.

    Here, as in Prometheus' text, buckets may reach into the zero bucket, and a zero bucket may have
    a negative count.
    """
    texts = _with_zero_bucket_apart(columns)
    counts = zip(columns.counts.tolist(), columns.sums.tolist(), texts, strict=True)
    return [
        f"{{{', '.join((f'count:{format_g(count)}', f'sum:{format_g(total)}', *buckets))}}}"
        for count, total, buckets in counts
    ]


def _with_zero_bucket_apart(columns: HistogramColumns) -> list[list[str]]:
    """The texts of all buckets of each histogram."""
    nothing = np.zeros(len(columns))
    listed = listed_buckets(replace(columns, zero_counts=nothing, zero_thresholds=nothing))
    shown = [
        _bucket_text(*bucket)
        for bucket in zip(
            listed.lowers.tolist(),
            listed.uppers.tolist(),
            listed.counts.tolist(),
            listed.closed.tolist(),
            strict=True,
        )
    ]
    n_negative = np.concatenate(([0], np.cumsum(listed.closed == LOWER_CLOSED)))
    starts, ends = listed.offsets[:-1], listed.offsets[1:]
    middles = starts + n_negative[ends] - n_negative[starts]
    zeros = zip(columns.zero_thresholds.tolist(), columns.zero_counts.tolist(), strict=True)
    places = zip(starts.tolist(), middles.tolist(), ends.tolist(), zeros, strict=True)
    return [
        [*shown[start:middle], *_zero_text(*zero), *shown[middle:end]]
        for start, middle, end, zero in places
    ]


def _zero_text(threshold: float, count: float) -> list[str]:
    return [_bucket_text(-threshold, threshold, count, BOTH_CLOSED)] if count else []


def _bucket_text(lower: float, upper: float, count: float, closed: int) -> str:
    left, right = _BRACKETS.get(closed, ("(", "]"))
    return f"{left}{format_g(lower)},{format_g(upper)}{right}:{format_g(count)}"
