"""The samples that `topk`, `bottomk` and `limitk` choose, for all steps of a row at once.

How a binary heap moves its elements decides which of several equal samples stay, so the moves are
those of Go's `container/heap`.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.values.sample_kernels import INTEGERS

SMALLEST_FIRST, LARGEST_FIRST, FIRST_COME = 0, 1, 2
"""What a heap has on top: the sample that the next better one replaces, or (FIRST_COME, which is
ordered as SMALLEST_FIRST) replaces nothing once it is full."""

_CELLS = "Array(float64, 2, 'C', True)"
_MASK = "Array(boolean, 2, 'C', True)"


@kernel(allocates=False)
def _comes_before(order: int, a: float, b: float) -> bool:
    """The order of a heap: NaN before all numbers."""
    return np.isnan(a) or (a > b if order == LARGEST_FIRST else a < b)


@kernel(allocates=False)
def _swap(values: FloatArray, rows: IntArray, a: int, b: int) -> None:
    values[a], values[b] = values[b], values[a]
    rows[a], rows[b] = rows[b], rows[a]


@kernel(allocates=False)
def _sift_up(order: int, values: FloatArray, rows: IntArray, at: int) -> None:
    while at > 0:
        parent = (at - 1) // 2
        if not _comes_before(order, values[at], values[parent]):
            return
        _swap(values, rows, at, parent)
        at = parent


@kernel(allocates=False)
def _sift_down(order: int, values: FloatArray, rows: IntArray, size: int) -> None:
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _comes_before(order, values[child + 1], values[child]):
            child += 1
        if not _comes_before(order, values[child], values[at]):
            return
        _swap(values, rows, at, child)
        at = child


@kernel(allocates=False)
def _offer(
    order: int, x: float, row: int, limit: int, size: int, values: FloatArray, rows: IntArray
) -> int:
    """Offer a sample to a heap; returns its new size.

    A heap that is not full takes it. A full one replaces its first element if that comes before it.
    """
    if size < limit:
        values[size], rows[size] = x, row
        _sift_up(order, values, rows, size)
        return size + 1
    if limit and order != FIRST_COME and not np.isnan(x) and _comes_before(order, values[0], x):
        values[0], rows[0] = x, row
        _sift_down(order, values, rows, size)
    return size


@kernel(allocates=False)
def _offer_row(
    order: int,
    x: FloatArray,
    here: BoolArray,
    row: int,
    limits: IntArray,
    sizes: IntArray,
    heap_values: FloatArray,
    heap_rows: IntArray,
) -> None:
    for step in range(len(limits)):
        if here[step]:
            values, rows = heap_values[step], heap_rows[step]
            limit = min(limits[step], len(rows))
            sizes[step] = _offer(order, x[step], row, limit, sizes[step], values, rows)


@kernel(
    f"void(int64, {_CELLS}, {_MASK}, {INTEGERS}, {INTEGERS}, {INTEGERS}, int64[:, ::1],"
    "float64[:, :, ::1], int64[:, :, ::1], boolean[:, ::1])",
    allocates=False,
)
def choose_samples(
    order: int,
    values: FloatArray,
    present: BoolArray,
    members: IntArray,
    starts: IntArray,
    limits: IntArray,
    sizes: IntArray,
    heap_values: FloatArray,
    heap_rows: IntArray,
    chosen: BoolArray,
) -> None:
    """Choose at most `limits` [n_steps] samples of each group at each step.

    Group i has the rows `members[starts[i]:starts[i + 1]]` of `values` and `present` [n_series,
    n_steps]. Sets what is chosen in `chosen`, which is False at first. The heaps have the elements
    `[:sizes]` of arrays [n_groups, n_steps, depth], where a depth below a limit takes its place.
    If the arrays have only one group, all groups use it one after the other.
    """
    for group in range(len(starts) - 1):
        slot = group if len(sizes) > 1 else 0
        kept = sizes[slot]
        for step in range(len(kept)):
            kept[step] = 0
        for row in members[starts[group] : starts[group + 1]]:
            _offer_row(
                order,
                values[row],
                present[row],
                row,
                limits,
                kept,
                heap_values[slot],
                heap_rows[slot],
            )
        for step in range(len(limits)):
            for place in range(kept[step]):
                chosen[heap_rows[slot, step, place], step] = True
