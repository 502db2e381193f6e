"""Lists of buckets in which a result of histogram arithmetic comes about.

`Lists` are several lists with room for `limit` buckets: `indices` int64 and `counts` float64
[n_lists, limit], `rests` of the same shape, which is what compensated summation still owes to each
count, and `lengths` int64 [n_lists]. The indices of a list ascend.
"""

import numpy as np

from promcompat.core.bucket_bounds_kernels import exponential_bound
from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray, IntArray
from promql.numbers.kahan_kernels import kahan_add

Lists = tuple[IntArray, FloatArray, FloatArray, IntArray]
LISTS = "Tuple((int64[:, ::1], float64[:, ::1], float64[:, ::1], int64[::1]))"


@kernel(allocates=False)
def added(is_compensated: bool, total: float, rest: float, x: float) -> tuple[float, float]:
    """A sum and its rest, with compensation or without."""
    if is_compensated:
        return kahan_add(total, rest, x)
    return total + x, rest


@kernel(allocates=False)
def reduced_index(index: int, shift: int) -> int:
    """The bucket that a bucket is part of at a schema that is lower by `shift`."""
    return ((index - 1) >> shift) + 1


@kernel(allocates=False)
def fill_list(
    lists: Lists, to: int, sign: float, divisor: float, indices: IntArray, counts: FloatArray
) -> None:
    """Make a list of these buckets, each `sign * count / divisor`."""
    for i in range(len(indices)):
        lists[0][to, i], lists[1][to, i] = indices[i], sign * counts[i] / divisor
        lists[2][to, i] = 0.0
    lists[3][to] = len(indices)


@kernel(allocates=False)
def scale_list(lists: Lists, at: int, factor: float, divisor: float) -> None:
    """Divide the counts and rests of a list, and then multiply them."""
    for i in range(lists[3][at]):
        lists[1][at, i] = lists[1][at, i] / divisor * factor
        lists[2][at, i] = lists[2][at, i] / divisor * factor


@kernel(allocates=False)
def reduce_list(is_compensated: bool, lists: Lists, at: int, shift: int) -> None:
    """Merge the buckets of a list into those of a schema that is lower by `shift`."""
    indices, counts, rests = lists[0][at], lists[1][at], lists[2][at]
    kept = -1
    for i in range(lists[3][at]):
        target = reduced_index(indices[i], shift)
        if kept < 0 or indices[kept] != target:
            kept += 1
            indices[kept], counts[kept], rests[kept] = target, counts[i], rests[i]
            continue
        total, rest = added(is_compensated, counts[kept], rests[kept], counts[i])
        if is_compensated:
            total, rest = kahan_add(total, rest, rests[i])
        counts[kept], rests[kept] = total, rest
    lists[3][at] = kept + 1


@kernel(allocates=False)
def _absorb(
    schema: int,
    lists: Lists,
    at: int,
    threshold: float,
    zero: float,
    zero_rest: float,
) -> tuple[float, float, float]:
    """The zero count with a list's buckets inside the threshold; and the threshold.

    The threshold moves to the upper bound of a populated bucket that it is inside of.
    """
    indices, counts, rests = lists[0][at], lists[1][at], lists[2][at]
    for i in range(lists[3][at]):
        if exponential_bound(schema, indices[i] - 1) >= threshold:
            break
        zero, zero_rest = kahan_add(zero, zero_rest, counts[i])
        zero, zero_rest = kahan_add(zero, zero_rest, rests[i])
        upper = exponential_bound(schema, indices[i])
        if upper > threshold:
            if counts[i] != 0:
                threshold = upper
            break
    return zero, zero_rest, threshold


@kernel(allocates=False)
def widened_zero_bucket(
    schema: int,
    lists: Lists,
    positive: int,
    negative: int,
    threshold: float,
    zero: float,
    zero_rest: float,
) -> tuple[float, float, float]:
    """The zero count at a higher threshold, its rest, and the threshold at which it is valid.

    `positive` and `negative` are the lists of the buckets, which do not change.
    """
    side, total, rest = 0, zero, zero_rest
    while side < 2:
        total, rest, moved = _absorb(
            schema, lists, negative if side else positive, threshold, total, rest
        )
        side += 1
        if side == 2 and moved != threshold:
            # More of the positive buckets are inside now.
            side, total, rest = 0, zero, zero_rest
        threshold = moved
    return total, rest, threshold


@kernel(allocates=False)
def drop_inside(schema: int, lists: Lists, at: int, threshold: float) -> None:
    """Drop the buckets of a list that the zero bucket has absorbed."""
    indices, counts, rests = lists[0][at], lists[1][at], lists[2][at]
    first, length = 0, lists[3][at]
    while first < length and exponential_bound(schema, indices[first] - 1) < threshold:
        first += 1
    if first:
        for i in range(first, length):
            to = i - first
            indices[to], counts[to], rests[to] = indices[i], counts[i], rests[i]
        lists[3][at] = length - first


@kernel(allocates=False)
def merge_lists(is_compensated: bool, lists: Lists, at: int, new: int, first: int, to: int) -> None:
    """Make list `to` of the list `at` and the buckets of the list `new` from its `first` on.

    Several buckets of `new` may have one number. They are added one after the other, as in
    Prometheus, on which last digits depend.
    """
    all_indices, all_counts, all_rests, lengths = lists
    indices, counts, rests, length = all_indices[at], all_counts[at], all_rests[at], lengths[at]
    news, new_counts, new_rests = all_indices[new], all_counts[new], all_rests[new]
    n_new = lengths[new]
    targets, totals, total_rests = all_indices[to], all_counts[to], all_rests[to]
    i, j, n = 0, first, 0
    while i < length or j < n_new:
        if n > 0 and j < n_new and news[j] == targets[n - 1]:
            total, rest = added(is_compensated, totals[n - 1], total_rests[n - 1], new_counts[j])
            totals[n - 1], total_rests[n - 1] = total, rest
            j += 1
            continue
        if j >= n_new or (i < length and indices[i] < news[j]):
            targets[n], totals[n], total_rests[n] = indices[i], counts[i], rests[i]
            i += 1
        elif i >= length or news[j] < indices[i]:
            targets[n], totals[n], total_rests[n] = news[j], new_counts[j], new_rests[j]
            j += 1
        else:
            total, rest = added(is_compensated, counts[i], rests[i], new_counts[j])
            if is_compensated and new_rests[j] != 0:
                total, rest = kahan_add(total, rest, new_rests[j])
            targets[n], totals[n], total_rests[n] = indices[i], total, rest
            i += 1
            j += 1
        n += 1
    lengths[to] = n


@kernel(allocates=False)
def has_buckets(lists: Lists, at: int, indices: IntArray) -> bool:
    """Whether a list has all of these buckets, whose indices ascend."""
    own, length, i = lists[0][at], lists[3][at], 0
    for index in indices:
        while i < length and own[i] < index:
            i += 1
        if i == length or own[i] != index:
            return False
    return True


@kernel(allocates=False)
def add_to_list(
    is_compensated: bool,
    lists: Lists,
    at: int,
    sign: float,
    divisor: float,
    indices: IntArray,
    counts: FloatArray,
) -> None:
    """Add buckets, each `sign * count / divisor`, to a list that has all of them."""
    own, totals, rests, i = lists[0][at], lists[1][at], lists[2][at], 0
    for j in range(len(indices)):
        while own[i] < indices[j]:
            i += 1
        count = sign * counts[j]
        if divisor != 1:
            count /= divisor
        totals[i], rests[i] = added(is_compensated, totals[i], rests[i], count)


@kernel(allocates=False)
def shared_bounds(bounds: FloatArray, others: FloatArray, shared: FloatArray) -> int:
    """Fill `shared` with the bounds that both sorted lists have; returns how many."""
    n = other = 0
    for bound in bounds:
        while other < len(others) and others[other] < bound:
            other += 1
        if other < len(others) and others[other] == bound:
            shared[n] = bound
            n += 1
    return n


@kernel(allocates=False)
def _bucket_at_bounds(bounds: FloatArray, shared: FloatArray, index: int, target: int) -> int:
    """The bucket of shared bounds, not before `target`, that a bucket is part of."""
    if index >= len(bounds):
        return len(shared)
    while target < len(shared) and shared[target] < bounds[index]:
        target += 1
    return target


@kernel(allocates=False)
def map_list(
    is_compensated: bool, lists: Lists, at: int, bounds: FloatArray, shared: FloatArray
) -> None:
    """Merge the buckets of custom bounds into those of fewer bounds."""
    indices, counts, rests = lists[0][at], lists[1][at], lists[2][at]
    kept, target = -1, 0
    for i in range(lists[3][at]):
        target = _bucket_at_bounds(bounds, shared, indices[i], target)
        count, rest = counts[i], rests[i]
        if kept >= 0 and indices[kept] == target:
            count, rest = added(is_compensated, counts[kept], rests[kept], counts[i])
        else:
            kept += 1
            rest = 0.0
        if is_compensated:
            count, rest = kahan_add(count, rest, rests[i])
        indices[kept], counts[kept], rests[kept] = target, count, rest
    lists[3][at] = kept + 1


@kernel(allocates=False)
def renumber_list(lists: Lists, at: int, bounds: FloatArray, shared: FloatArray) -> None:
    """Give the buckets of custom bounds the numbers of those of fewer bounds; some have one."""
    indices, target = lists[0][at], 0
    for i in range(lists[3][at]):
        target = _bucket_at_bounds(bounds, shared, indices[i], target)
        indices[i] = target


@kernel(allocates=False)
def fold_rests(is_compensated: bool, lists: Lists, at: int, divisor: float) -> None:
    """Divide the counts of a list, with their rests if there are any, and drop empty buckets."""
    indices, counts, rests = lists[0][at], lists[1][at], lists[2][at]
    kept = 0
    for i in range(lists[3][at]):
        count = counts[i] / divisor
        if is_compensated and rests[i] != 0:
            count += rests[i] / divisor
        if count != 0:
            indices[kept], counts[kept] = indices[i], count
            kept += 1
    lists[3][at] = kept


@kernel(allocates=False)
def has_overflow(lists: Lists, at: int) -> bool:
    """Whether any count of a list is infinite."""
    for i in range(lists[3][at]):  # noqa: SIM110 - kernels have no generators
        if np.isinf(lists[1][at, i]):
            return True
    return False
