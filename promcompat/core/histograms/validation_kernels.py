"""The kernel that checks native histograms by Prometheus' rules."""

import math

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel

Ints = NDArray[np.int64]
Spans = NDArray[np.int32]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CUSTOM_BUCKETS, _FIRST_SCHEMA, _LAST_SCHEMA = -53, -4, 8
(
    FINE,
    SCHEMA,
    SPAN_OFFSET,
    SPAN_BUCKETS,
    NEGATIVE_BUCKET,
    NEGATIVE_ZERO_BUCKET,
    NEGATIVE_COUNT,
    COUNT_DIFFERS,
    COUNT_TOO_SMALL,
    BOUNDS_OF_EXPONENTIAL,
    BOUND_ORDER,
    BOUND_INFINITE,
    BOUND_NAN,
    TOO_FEW_BOUNDS,
    CUSTOM_ZERO_COUNT,
    CUSTOM_ZERO_THRESHOLD,
    CUSTOM_NEGATIVE_SPANS,
    CUSTOM_NEGATIVE_BUCKETS,
) = range(18)
"""What is wrong with a histogram."""
POSITIVE, NEGATIVE, CUSTOM = range(3)
"""The buckets in which it is."""


@kernel(allocates=False)
def _note(faults: Ints, row: int, code: int, side: int, first: int, second: int) -> bool:
    faults[row, 0] = code
    faults[row, 1] = side
    faults[row, 2] = first
    faults[row, 3] = second
    return False


@kernel(allocates=False)
def _are_spans_fine(spans: Spans, n_buckets: int, side: int, faults: Ints, row: int) -> bool:
    """Checks the spans of a side."""
    needed = 0
    for place in range(len(spans)):
        if spans[place, 0] < 0 and (place > 0 or side == CUSTOM):
            return _note(faults, row, SPAN_OFFSET, side, place + 1, spans[place, 0])
        needed += spans[place, 1]
    if needed != n_buckets:
        return _note(faults, row, SPAN_BUCKETS, side, needed, n_buckets)
    return True


@kernel(allocates=False)
def _are_buckets_fine(buckets: Ints, is_float: bool, side: int, faults: Ints, row: int) -> bool:
    """Checks that no bucket is negative."""
    floats = buckets.view(np.float64)
    for place in range(len(buckets)):
        if (is_float and floats[place] < 0) or (not is_float and buckets[place] < 0):
            return _note(faults, row, NEGATIVE_BUCKET, side, place + 1, buckets[place])
    return True


@kernel(allocates=False)
def _are_bounds_fine(bounds: Floats, faults: Ints, row: int) -> bool:
    bits = bounds.view(np.int64)
    for place in range(len(bounds)):
        if math.isnan(bounds[place]):
            return _note(faults, row, BOUND_NAN, CUSTOM, 0, 0)
        if place > 0 and bounds[place] <= bounds[place - 1]:
            return _note(faults, row, BOUND_ORDER, CUSTOM, bits[place - 1], bits[place])
    if len(bounds) and bounds[-1] == math.inf:
        return _note(faults, row, BOUND_INFINITE, CUSTOM, 0, 0)
    return True


@kernel(allocates=False)
def _are_custom_buckets_fine(
    spans: Spans, buckets: Ints, bounds: Floats, faults: Ints, row: int
) -> bool:
    if not _are_bounds_fine(bounds, faults, row):
        return False
    if not _are_spans_fine(spans, len(buckets), CUSTOM, faults, row):
        return False
    covered = 0
    for place in range(len(spans)):
        covered += int(spans[place, 0]) + int(spans[place, 1])
    if len(bounds) + 1 < covered:
        return _note(faults, row, TOO_FEW_BOUNDS, CUSTOM, len(bounds), covered)
    return True


@kernel(allocates=False)
def _has_only_custom_parts(
    is_zero_empty: bool, zero_threshold: float, n_spans: int, n_buckets: int, faults: Ints, row: int
) -> bool:
    """Checks that a histogram with custom buckets has no zero bucket and no negative ones."""
    if not is_zero_empty:
        return _note(faults, row, CUSTOM_ZERO_COUNT, CUSTOM, 0, 0)
    if zero_threshold != 0:
        return _note(faults, row, CUSTOM_ZERO_THRESHOLD, CUSTOM, 0, 0)
    if n_spans:
        return _note(faults, row, CUSTOM_NEGATIVE_SPANS, CUSTOM, 0, 0)
    if n_buckets:
        return _note(faults, row, CUSTOM_NEGATIVE_BUCKETS, CUSTOM, 0, 0)
    return True


@kernel(allocates=False)
def _sum(buckets: Ints) -> int:
    total = 0
    for place in range(len(buckets)):
        total += buckets[place]
    return total


@kernel(allocates=False)
def _is_total_fine(total: int, count: int, has_nan: bool, faults: Ints, row: int) -> bool:
    """Checks the count of a histogram of integers, which is unsigned, as the total is."""
    if has_nan and np.uint64(total) > np.uint64(count):
        return _note(faults, row, COUNT_TOO_SMALL, CUSTOM, total, count)
    if not has_nan and total != count:
        return _note(faults, row, COUNT_DIFFERS, CUSTOM, total, count)
    return True


@kernel(allocates=False)
def _is_layout_fine(
    schema: int,
    is_float: bool,
    zero_threshold: float,
    zero_bits: int,
    zero_count: float,
    positive_spans: Spans,
    negative_spans: Spans,
    positive: Ints,
    negative: Ints,
    bounds: Floats,
    faults: Ints,
    row: int,
) -> bool:
    """Checks everything but the count and the positive buckets."""
    if schema == _CUSTOM_BUCKETS:
        is_zero_empty = zero_bits == 0 or (is_float and zero_count == 0)
        return _are_custom_buckets_fine(
            positive_spans, positive, bounds, faults, row
        ) and _has_only_custom_parts(
            is_zero_empty, zero_threshold, len(negative_spans), len(negative), faults, row
        )
    if schema < _FIRST_SCHEMA or schema > _LAST_SCHEMA:
        return _note(faults, row, SCHEMA, CUSTOM, schema, 0)
    if not (
        _are_spans_fine(positive_spans, len(positive), POSITIVE, faults, row)
        and _are_spans_fine(negative_spans, len(negative), NEGATIVE, faults, row)
        and _are_buckets_fine(negative, is_float, NEGATIVE, faults, row)
    ):
        return False
    if is_float and zero_count < 0:
        return _note(faults, row, NEGATIVE_ZERO_BUCKET, CUSTOM, zero_bits, 0)
    if len(bounds):
        return _note(faults, row, BOUNDS_OF_EXPONENTIAL, CUSTOM, 0, 0)
    return True


@kernel(
    "void(i8[::1], b1[::1], f8[::1], i8[::1], i8[::1], f8[::1], i8[:, ::1], i4[:, ::1],"
    " i4[:, ::1], i8[::1], i8[::1], f8[::1], i8[:, ::1])",
    allocates=False,
)
def find_histogram_faults(
    schemas: Ints,
    is_float: Bools,
    zero_thresholds: Floats,
    zero_counts: Ints,
    counts: Ints,
    sums: Floats,
    offsets: Ints,
    positive_spans: Spans,
    negative_spans: Spans,
    positive: Ints,
    negative: Ints,
    bounds: Floats,
    faults: Ints,
) -> None:
    """Note the first fault of each histogram: its code, the side, and two numbers for its text.

    The columns are those of `promcompat.core.histograms.columns.Histograms`; `offsets` [5, n + 1]
    has the offsets of the last five. `faults` [n, 4] is zero before the call, and stays so for
    histograms that are right.
    """
    zero_floats, count_floats = zero_counts.view(np.float64), counts.view(np.float64)
    for row in range(len(schemas)):
        first, end = offsets[:, row], offsets[:, row + 1]
        positive_here, negative_here = positive[first[2] : end[2]], negative[first[3] : end[3]]
        if not _is_layout_fine(
            schemas[row],
            is_float[row],
            zero_thresholds[row],
            zero_counts[row],
            zero_floats[row],
            positive_spans[first[0] : end[0]],
            negative_spans[first[1] : end[1]],
            positive_here,
            negative_here,
            bounds[first[4] : end[4]],
            faults,
            row,
        ):
            continue
        if is_float[row] and count_floats[row] < 0:
            _note(faults, row, NEGATIVE_COUNT, CUSTOM, counts[row], 0)
        elif (
            _are_buckets_fine(positive_here, is_float[row], POSITIVE, faults, row)
            and not (is_float[row])
        ):
            total = _sum(positive_here) + _sum(negative_here) + zero_counts[row]
            _is_total_fine(total, counts[row], math.isnan(sums[row]), faults, row)
