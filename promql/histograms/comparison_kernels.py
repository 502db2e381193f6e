"""Comparisons of pairs of native histograms: counter resets, and equality."""

import numpy as np

from promcompat.core.bucket_bounds_kernels import exponential_bound
from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.histograms.bucket_list_kernels import (
    LISTS,
    Lists,
    fill_list,
    reduced_index,
    widened_zero_bucket,
)
from promql.histograms.source_kernels import (
    BOUNDS,
    COUNT,
    CUSTOM,
    HINT,
    SCHEMA,
    SOURCE,
    THRESHOLD,
    ZERO,
    Source,
)
from promql.values.sample_kernels import INTEGERS

_RESET, _NO_RESET = 1, 2


@kernel(allocates=False)
def _have_same_or_more(
    indices: IntArray, counts: FloatArray, old_indices: IntArray, old_counts: FloatArray
) -> bool:
    """Whether the buckets are those of before, and none has fewer observations now."""
    if len(indices) != len(old_indices):
        return False
    differs, n_below = 0, 0
    for i in range(len(indices)):
        differs |= indices[i] ^ old_indices[i]
        n_below += counts[i] < old_counts[i]
    return not differs and not n_below


@kernel(allocates=False)
def _has_bucket_below(source: Source, side: int, row: int, previous: int, threshold: float) -> bool:
    """Whether a populated bucket of one side has fewer observations now, or is gone.

    The previous one's buckets are merged to the schema of the row; those inside the threshold do
    not count.
    """
    schema = source[0][row, SCHEMA]
    shift = source[0][previous, SCHEMA] - schema
    offsets = source[5] if side else source[2]
    indices = source[6] if side else source[3]
    counts = source[7] if side else source[4]
    may_be_inside = schema != CUSTOM
    at, end = offsets[row], offsets[row + 1]
    old, old_end = offsets[previous], offsets[previous + 1]
    if not shift and _have_same_or_more(
        indices[at:end], counts[at:end], indices[old:old_end], counts[old:old_end]
    ):
        return False
    while old < old_end:
        index, count = reduced_index(indices[old], shift), counts[old]
        old += 1
        while shift and old < old_end and reduced_index(indices[old], shift) == index:
            count += counts[old]
            old += 1
        if may_be_inside:
            if exponential_bound(schema, index) <= threshold:
                continue
            may_be_inside = False
        while at < end and indices[at] < index:
            at += 1
        is_there = at < end and indices[at] == index
        if count != 0 and not is_there:
            return True
        if is_there and counts[at] < count:
            return True
    return False


@kernel(allocates=False)
def _has_zero_bucket_below(source: Source, lists: Lists, row: int, previous: int) -> bool:
    """Whether the zero bucket is narrower now, or has fewer observations at its width."""
    threshold, old_threshold = source[1][row, THRESHOLD], source[1][previous, THRESHOLD]
    zero = source[1][previous, ZERO]
    if threshold < old_threshold:
        return True
    if threshold > old_threshold:
        own = slice(source[2][previous], source[2][previous + 1])
        fill_list(lists, 0, 1.0, 1.0, source[3][own], source[4][own])
        own = slice(source[5][previous], source[5][previous + 1])
        fill_list(lists, 1, 1.0, 1.0, source[6][own], source[7][own])
        zero, _, valid_at = widened_zero_bucket(
            source[0][previous, SCHEMA], lists, 0, 1, threshold, zero, 0.0
        )
        if valid_at != threshold:
            return True
    return bool(source[1][row, ZERO] < zero)


@kernel(allocates=False)
def _next_sum(
    source: Source, row: int, bounds: FloatArray, until: float, at: int
) -> tuple[float, int]:
    """The observations of custom buckets from `at` on that end at a bound or before it."""
    total = 0.0
    while at < source[2][row + 1]:
        index = source[3][at]
        if (bounds[index] if index < len(bounds) else np.inf) > until:
            break
        total += source[4][at]
        at += 1
    return total, at


@kernel(allocates=False)
def _has_custom_bucket_below(source: Source, row: int, previous: int) -> bool:
    """Whether there are fewer observations between bounds that both have."""
    place, old_place = source[0][row, BOUNDS], source[0][previous, BOUNDS]
    bounds = source[9][source[8][place] : source[8][place + 1]]
    olds = source[9][source[8][old_place] : source[8][old_place + 1]]
    at, old_at, i, j = source[2][row], source[2][previous], 0, 0
    while i <= len(bounds) and j <= len(olds):
        bound = bounds[i] if i < len(bounds) else np.inf
        old = olds[j] if j < len(olds) else np.inf
        if bound == old:
            total, at = _next_sum(source, row, bounds, bound, at)
            old_total, old_at = _next_sum(source, previous, olds, bound, old_at)
            if total < old_total:
                return True
        i += bound <= old
        j += old <= bound
    return False


@kernel(allocates=False)
def _is_reset(source: Source, lists: Lists, row: int, previous: int) -> bool:
    integers = source[0]
    hint, schema = integers[row, HINT], integers[row, SCHEMA]
    if hint in (_RESET, _NO_RESET):
        return bool(hint == _RESET)
    if source[1][row, COUNT] < source[1][previous, COUNT]:
        return True
    if schema == CUSTOM:
        if integers[previous, SCHEMA] != CUSTOM:
            return True
        if integers[row, BOUNDS] != integers[previous, BOUNDS]:
            return _has_custom_bucket_below(source, row, previous)
    if schema > integers[previous, SCHEMA]:
        return True
    if schema != CUSTOM and _has_zero_bucket_below(source, lists, row, previous):
        return True
    threshold = source[1][row, THRESHOLD]
    for side in range(2):  # noqa: SIM110 - kernels have no generators
        if _has_bucket_below(source, side, row, previous, threshold):
            return True
    return False


@kernel(f"void({SOURCE}, {INTEGERS}, {INTEGERS}, {LISTS}, boolean[::1])", allocates=False)
def find_resets(
    source: Source, rows: IntArray, previous: IntArray, lists: Lists, resets: BoolArray
) -> None:
    """Fill `resets` with whether a counter was reset between each previous histogram and the row.

    `rows` and `previous` are rows of the source, of the length of `resets`. `lists` are two lists
    for the kernel's own use, each with room for the buckets of one side.
    """
    for i in range(len(rows)):
        resets[i] = _is_reset(source, lists, rows[i], previous[i])
