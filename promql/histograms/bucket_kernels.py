"""The buckets of a native histogram for kernels, from the lowest to the highest.

A bucket is named by its number among those of its histogram: first the negative ones, then the zero
bucket if it has observations, then the positive ones.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from promcompat.core.bucket_bounds_kernels import custom_bound, exponential_bound
from promcompat.core.compiled_kernels import kernel
from promcompat.core.histograms.columns import CUSTOM_BUCKETS
from promcompat.core.model import FloatArray, IntArray
from promql.values.histogram_columns import HistogramColumns
from promql.values.sample_kernels import FLOATS, INTEGERS

_SIDE = f"{INTEGERS}, {INTEGERS}, {FLOATS}"
_BOUNDS = f"{INTEGERS}, {INTEGERS}, {FLOATS}"
VIEW = f"Tuple(({INTEGERS}, {FLOATS}, {FLOATS}, {_SIDE}, {_SIDE}, {_BOUNDS}))"
"""The type of a `HistogramView` in the signature of a kernel."""

HistogramView: TypeAlias = tuple[
    IntArray,
    FloatArray,
    FloatArray,
    IntArray,
    IntArray,
    FloatArray,
    IntArray,
    IntArray,
    FloatArray,
    IntArray,
    IntArray,
    FloatArray,
]
"""Schemas, zero thresholds, zero counts; offsets, indices and counts of the positive buckets and of
the negative ones; the place of each histogram's custom bounds, the offsets of these and they."""


def view_of(columns: HistogramColumns) -> HistogramView:
    """What kernels read of histograms to find their buckets."""
    offsets, bounds = _flat_bounds(columns.bound_sets)
    positive, negative = columns.positive, columns.negative
    return (
        np.ascontiguousarray(columns.schemas),
        np.ascontiguousarray(columns.zero_thresholds),
        np.ascontiguousarray(columns.zero_counts),
        positive.offsets,
        positive.indices,
        positive.counts,
        negative.offsets,
        negative.indices,
        negative.counts,
        np.ascontiguousarray(columns.bounds),
        offsets,
        bounds,
    )


def _flat_bounds(bound_sets: Sequence[Sequence[float]]) -> tuple[IntArray, FloatArray]:
    """All custom bounds one list after the other, and where each list starts."""
    lengths = [len(bounds) for bounds in bound_sets]
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64))).astype(np.int64)
    return offsets, np.array([bound for bounds in bound_sets for bound in bounds], np.float64)


@kernel(allocates=False)
def is_custom(view: HistogramView, row: int) -> bool:
    """Whether the bounds of a histogram's buckets are listed."""
    return bool(view[0][row] == CUSTOM_BUCKETS)


@kernel(allocates=False)
def n_positive(view: HistogramView, row: int) -> int:
    """The number of positive buckets."""
    return int(view[3][row + 1] - view[3][row])


@kernel(allocates=False)
def n_negative(view: HistogramView, row: int) -> int:
    """The number of negative buckets."""
    return int(view[6][row + 1] - view[6][row])


@kernel(allocates=False)
def has_zero_bucket(view: HistogramView, row: int) -> bool:
    """Whether there is a zero bucket with observations."""
    return bool(view[2][row] > 0)


@kernel(allocates=False)
def n_buckets(view: HistogramView, row: int) -> int:
    """The number of all buckets."""
    return n_negative(view, row) + int(has_zero_bucket(view, row)) + n_positive(view, row)


@kernel(allocates=False)
def bucket_count(view: HistogramView, row: int, number: int) -> float:
    """The observations in a bucket."""
    place = number - n_negative(view, row)
    if place < 0:
        return float(view[8][view[6][row] - 1 - place])
    if has_zero_bucket(view, row):
        if place == 0:
            return float(view[2][row])
        place -= 1
    return float(view[5][view[3][row] + place])


@kernel(allocates=False)
def side_bounds(view: HistogramView, row: int, index: int) -> tuple[float, float]:
    """The bounds of the positive bucket with an index, the lower one first."""
    schema, place = view[0][row], view[9][row]
    if schema != CUSTOM_BUCKETS:
        return exponential_bound(schema, index - 1), exponential_bound(schema, index)
    bounds = view[11][view[10][place] : view[10][place + 1]]
    return custom_bound(index - 1, bounds), custom_bound(index, bounds)


@kernel(allocates=False)
def bucket_bounds(view: HistogramView, row: int, number: int) -> tuple[float, float]:
    """The lower and the upper bound of a bucket, which do not reach into the zero bucket."""
    threshold = view[1][row]
    place = number - n_negative(view, row)
    if place < 0:
        inner, outer = side_bounds(view, row, view[7][view[6][row] - 1 - place])
        return -outer, -(max(inner, threshold) if inner > 0 else inner)
    if has_zero_bucket(view, row):
        if place == 0:
            return -threshold, threshold
        place -= 1
    lower, upper = side_bounds(view, row, view[4][view[3][row] + place])
    return (max(lower, threshold) if lower > 0 else lower), upper


UPPER_CLOSED: Final = 0
LOWER_CLOSED: Final = 1
BOTH_CLOSED: Final = 3
"""Which bounds of a bucket belong to it, as Prometheus' API numbers the cases."""


@kernel(allocates=False)
def _closed_bounds(view: HistogramView, row: int, number: int, lower: float) -> int:
    if number < n_negative(view, row):
        return LOWER_CLOSED
    is_first_custom = is_custom(view, row) and lower == -np.inf
    is_zero = number == n_negative(view, row) and has_zero_bucket(view, row)
    return BOTH_CLOSED if is_zero or is_first_custom else UPPER_CLOSED


@kernel(
    f"void({VIEW}, {INTEGERS}, float64[::1], float64[::1], float64[::1], uint8[::1])",
    allocates=False,
)
def list_buckets(
    view: HistogramView,
    offsets: IntArray,
    lowers: FloatArray,
    uppers: FloatArray,
    counts: FloatArray,
    closed: NDArray[np.uint8],
) -> None:
    """Fill columns with the bounds, the count and the closed bounds of all buckets.

    Those of histogram i are at `offsets[i]` to `offsets[i + 1]`, which must be that many.
    """
    for row in range(len(offsets) - 1):
        first = offsets[row]
        for number in range(min(n_buckets(view, row), offsets[row + 1] - first)):
            lower, upper = bucket_bounds(view, row, number)
            lowers[first + number], uppers[first + number] = lower, upper
            counts[first + number] = bucket_count(view, row, number)
            closed[first + number] = _closed_bounds(view, row, number, lower)
