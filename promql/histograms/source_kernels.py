"""Histograms as kernels read them, and the sum of two that have one layout."""

from promcompat.core.bucket_bounds_kernels import exponential_bound
from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import FloatArray, IntArray
from promql.values.sample_kernels import FLOATS, INTEGERS

# Columns of the integers of a histogram. BOUNDS is the place of its custom bounds, -1 without any;
# of a result whose bounds are new, -2 for the first list of these, -3 for the second, ...
SCHEMA, HINT, BOUNDS = 0, 1, 2
# Columns of the floats of a histogram; then what compensated summation still owes to some of them.
THRESHOLD, ZERO, COUNT, TOTAL, ZERO_REST, COUNT_REST, TOTAL_REST = 0, 1, 2, 3, 4, 5, 6

CUSTOM = -53
"""The schema of histograms with custom bounds."""
_UNKNOWN, _GAUGE = 0, 3

Source = tuple[
    IntArray,
    FloatArray,
    IntArray,
    IntArray,
    FloatArray,
    IntArray,
    IntArray,
    FloatArray,
    IntArray,
    FloatArray,
]
"""Integers [n, 3] and floats [n, 4] of histograms; offsets, indices and counts of their positive
buckets and of the negative ones; offsets of the lists of custom bounds, and the bounds."""
_SIDE = f"{INTEGERS}, {INTEGERS}, {FLOATS}"
SOURCE = (
    "Tuple((Array(int64, 2, 'C', True), Array(float64, 2, 'C', True), "
    f"{_SIDE}, {_SIDE}, {INTEGERS}, {FLOATS}))"
)


@kernel(allocates=False)
def combine_hints(integers: IntArray, hint: int) -> None:
    """The counter reset hint of a sum."""
    if integers[HINT] != hint:
        is_gauge = integers[HINT] == _GAUGE or hint == _GAUGE
        integers[HINT] = _GAUGE if is_gauge else _UNKNOWN


@kernel(allocates=False)
def _has_outer_buckets(schema: int, threshold: float, own: IntArray, others: IntArray) -> bool:
    """Whether two terms have the same buckets, and the zero bucket absorbs none of them."""
    if len(own) != len(others):
        return False
    differs = 0
    for i in range(len(own)):
        differs |= own[i] ^ others[i]
    if differs:
        return False
    return schema == CUSTOM or not len(own) or exponential_bound(schema, own[0]) > threshold


@kernel(allocates=False)
def have_one_layout(source: Source, row: int, other: int, max_schema: int) -> bool:
    """Whether nothing has to be reconciled between two terms, nor in the first one."""
    schema, threshold = source[0][row, SCHEMA], source[1][row, THRESHOLD]
    if schema != source[0][other, SCHEMA] or schema > max_schema:
        return False
    if source[0][row, BOUNDS] != source[0][other, BOUNDS]:
        return False
    if threshold != source[1][other, THRESHOLD]:
        return False
    own = source[3][source[2][row] : source[2][row + 1]]
    others = source[3][source[2][other] : source[2][other + 1]]
    if not _has_outer_buckets(schema, threshold, own, others):
        return False
    own = source[6][source[5][row] : source[5][row + 1]]
    others = source[6][source[5][other] : source[5][other + 1]]
    return _has_outer_buckets(schema, threshold, own, others)


@kernel(allocates=False)
def _append_sum(
    sign: float,
    own: FloatArray,
    others: FloatArray,
    of_own: IntArray,
    n_used: int,
    indices: IntArray,
    counts: FloatArray,
) -> int:
    """Append the populated buckets of `own + sign * others`; how many buckets are used then."""
    for i in range(len(own)):
        count = own[i] + sign * others[i]
        indices[n_used], counts[n_used] = of_own[i], count
        n_used += count != 0
    return n_used


@kernel(allocates=False)
def _set_sum(
    source: Source, row: int, other: int, sign: float, integers: IntArray, floats: FloatArray
) -> None:
    """Set all of `row + sign * other` but the buckets."""
    for column in range(3):
        integers[column] = source[0][row, column]
    combine_hints(integers, source[0][other, HINT])
    floats[THRESHOLD] = source[1][row, THRESHOLD]
    for column in range(ZERO, TOTAL + 1):
        floats[column] = source[1][row, column] + sign * source[1][other, column]
    # As a term that is reconciled has a rest, which is 0 here: a zero count of -0 becomes 0.
    floats[ZERO] += 0.0


@kernel(allocates=False)
def append_pair(
    source: Source,
    row: int,
    other: int,
    sign: float,
    integers: IntArray,
    floats: FloatArray,
    buckets: tuple[IntArray, FloatArray, IntArray, FloatArray],
    n_positive: int,
    n_negative: int,
) -> tuple[int, int]:
    """Set `row + sign * other`, which have one layout, and append its populated buckets.

    Returns how many positive and negative buckets are used then.
    """
    _set_sum(source, row, other, sign, integers, floats)
    own = slice(source[2][row], source[2][row + 1])
    others = source[4][source[2][other] : source[2][other + 1]]
    n_positive = _append_sum(
        sign, source[4][own], others, source[3][own], n_positive, buckets[0], buckets[1]
    )
    own = slice(source[5][row], source[5][row + 1])
    others = source[7][source[5][other] : source[5][other + 1]]
    n_negative = _append_sum(
        sign, source[7][own], others, source[6][own], n_negative, buckets[2], buckets[3]
    )
    return n_positive, n_negative
