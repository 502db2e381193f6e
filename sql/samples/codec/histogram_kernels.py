"""Kernels that read the histograms of a page.

A page with histograms has the format version 3. It is a page of floats, in which every cell of a
histogram is `HISTOGRAM_BITS`, then a section with the histograms in the order of these cells, then
the bytes of the section (4 bytes). Most of the section is columns of integers (I) and of values
(V), see `column_kernels`; a column of no numbers is left out:

* nine numbers as LEB128: histograms, families, layouts, groups; then sums over all histograms: of
  positive spans, negative spans, positive buckets, negative buckets, bounds;
* families, which are what histograms seldom differ in: I schemas, I whether counts are floats,
  V zero thresholds, I numbers of bounds, V the bounds of all;
* layouts: I families, I numbers of positive spans, I numbers of negative spans, I offsets of the
  spans (of each layout its positive, then its negative ones), I their lengths;
* groups of consecutive histograms of a series: I numbers of histograms, as `get_counts` reads them,
  I modes;
* histograms: I layouts, I hints, V sums, I excesses (of the groups in mode DIFFERENCES);
* I firsts, I steps, I differences, I raw cells. Each group takes the next numbers of them.

The buckets of a group are those of all its layouts, positive ones by index, then negative ones. Its
fields are the zero count and these buckets. In mode DIFFERENCES each field has a first number, a
step if the group has at least `LEAST_STEPPED` histograms, and for every other histogram the zigzag
code of how far it is from the number before plus the step. A bucket that a histogram does not have
repeats the number before. The count is the sum of zero count and buckets, and the excess. Counts
that are floats are whole numbers then. In mode RAW the fields are the count, the zero count and the
buckets, each with a cell of 64 bits for every histogram.

Input may be anything, as for `page_kernels`: what a section claims to hold is bounded, and every
position, count and place is checked.
"""

from typing import Final

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import (
    INCONSISTENT,
    READ_AHEAD,
    TRUNCATED,
    Bytes,
    Work,
    get_integers,
    get_values,
)
from sql.samples.codec.page_kernels import MAX_SAMPLES

Totals = IntArray
"""What the head of a section says, in the order of the module's description."""
Columns = tuple[IntArray, IntArray]
"""The cells of all columns, values as their bits, and where each column begins and ends."""

N_TOTALS: Final = 9
HISTOGRAMS, FAMILIES, LAYOUTS, GROUPS = 0, 1, 2, 3
SPANS, BUCKETS, BOUNDS = 4, 6, 8
"""The places of numbers in the head; those of spans and buckets are of two sides."""

N_COLUMNS: Final = 20
THRESHOLD_COLUMN, BOUND_COLUMN, OFFSET_COLUMN = 2, 4, 8
SIZE_COLUMN, MODE_COLUMN, LAYOUT_COLUMN, HINT_COLUMN, SUM_COLUMN = 10, 11, 12, 13, 14
EXCESS_COLUMN: Final = 15
"""Followed by the four streams."""

DIFFERENCES: Final = 0
RAW: Final = 1
LEAST_STEPPED: Final = 4
MAX_CELLS: Final = 1 << 18
"""Of the histograms of a page: buckets, two for each span, four for each bound."""


@kernel()
def most_of(n: int, n_buckets: int) -> int:
    """How many numbers a stream has at most, of `n` histograms with so many buckets."""
    return 2 * (n_buckets + n) + n


@kernel()
def size_of_columns(n: int, n_spans: int, n_buckets: int, n_bounds: int) -> int:
    """How many cells all columns have at most."""
    return 16 * n + 2 * n_spans + n_bounds + 4 * most_of(n, n_buckets)


@kernel()
def has_values(column: int) -> bool:
    """Whether a column is one of values; the others are of integers."""
    return column in (THRESHOLD_COLUMN, BOUND_COLUMN, SUM_COLUMN)


@kernel()
def get_varint(page: Bytes, position: int, end: int) -> tuple[int, int]:
    """`(position behind, number)` of at most 28 bits, or an error."""
    number, shift = signed(0), signed(0)
    while shift < 28:
        if position >= end:
            return TRUNCATED, 0
        byte = signed(page[position])
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return position, number
        shift += 7
    return INCONSISTENT, 0


@kernel("UniTuple(i8, 2)(u1[::1], i8[:, ::1], i8[:, ::1])")
def measure_sections(pages: Bytes, places: IntArray, totals: IntArray) -> tuple[int, int]:
    """Read the heads of the sections `places[k, 0]` to `places[k, 1]`; sets where they end.

    Returns `(0, 0)`, or an error and the number of its section. `READ_AHEAD` bytes follow the last
    page.
    """
    for k in range(len(places)):
        position, end = places[k, 0], places[k, 1]
        if position < 0 or end < position or end + READ_AHEAD > len(pages):
            return TRUNCATED, k
        for i in range(N_TOTALS):
            position, totals[k, i] = get_varint(pages, position, end)
            if position < 0:
                return position, k
        of = totals[k]
        n_cells = of[BUCKETS] + of[BUCKETS + 1] + 2 * (of[SPANS] + of[SPANS + 1]) + 4 * of[BOUNDS]
        if n_cells > MAX_CELLS or of[HISTOGRAMS] > MAX_SAMPLES:
            return INCONSISTENT, k
        if not (1 <= of[FAMILIES] <= of[LAYOUTS] <= of[HISTOGRAMS]):
            return INCONSISTENT, k
        if not (1 <= of[GROUPS] <= of[HISTOGRAMS]):
            return INCONSISTENT, k
        places[k, 0] = position
    return 0, 0


@kernel()
def sum_of(numbers: IntArray) -> int:
    total = signed(0)
    for i in range(len(numbers)):
        total += numbers[i]
    return total


@kernel()
def count_of(column: int, totals: Totals, columns: Columns) -> int:
    """How many numbers a column has, or an error; those before it were read.

    Excesses and streams are counted by `count_streams`.
    """
    cells, ends = columns
    if column < BOUND_COLUMN:
        return signed(totals[FAMILIES])
    if column == BOUND_COLUMN:
        n_bounds = sum_of(cells[ends[column - 1] : ends[column]])
        return n_bounds if n_bounds <= totals[BOUNDS] else INCONSISTENT
    if column < OFFSET_COLUMN:
        return signed(totals[LAYOUTS])
    if column < SIZE_COLUMN:
        n_spans = sum_of(cells[ends[OFFSET_COLUMN - 2] : ends[OFFSET_COLUMN]])
        return n_spans if n_spans <= totals[SPANS] + totals[SPANS + 1] else INCONSISTENT
    if column == SIZE_COLUMN:
        is_known = totals[GROUPS] == 1 or totals[GROUPS] == totals[HISTOGRAMS]
        return 0 if is_known else signed(totals[GROUPS])
    return signed(totals[GROUPS] if column == MODE_COLUMN else totals[HISTOGRAMS])


@kernel()
def limits_of(column: int, totals: Totals) -> tuple[int, int]:
    """The lowest and the highest number of a column of integers before the excesses."""
    low, high = signed(0), signed(1)
    if column == 0:
        low, high = signed(-128), signed(127)
    elif column == BOUND_COLUMN - 1:
        high = signed(totals[BOUNDS])
    elif column == OFFSET_COLUMN - 3:
        high = totals[FAMILIES] - 1
    elif column == OFFSET_COLUMN - 2 or column == OFFSET_COLUMN - 1:
        high = signed(totals[SPANS + column - OFFSET_COLUMN + 2])
    elif column == OFFSET_COLUMN:
        low, high = signed(-(1 << 31)), signed((1 << 31) - 1)
    elif column == OFFSET_COLUMN + 1:
        high = signed(MAX_CELLS)
    elif column == SIZE_COLUMN:
        low, high = signed(1), signed(totals[HISTOGRAMS])
    elif column == LAYOUT_COLUMN:
        high = totals[LAYOUTS] - 1
    elif column == HINT_COLUMN:
        high = signed(255)
    return low, high


@kernel()
def get_column(
    page: Bytes, position: int, end: int, column: int, n: int, columns: Columns, work: Work
) -> int:
    """Read a column behind those before it; its position behind, or an error."""
    cells, ends = columns
    begin = ends[column]
    ends[column + 1] = begin + n
    if n < 0 or n > len(cells) - begin:
        return INCONSISTENT
    if n == 0:
        return position
    if has_values(column):
        position = get_values(page, position, end, n, work)
        cells[begin : begin + n] = work[8][:n]
        return position
    return get_integers(page, position, end, n, cells[begin : begin + n], work[6])


@kernel()
def is_within(columns: Columns, column: int, low: int, high: int) -> bool:
    """Whether all numbers of a column are within bounds."""
    cells, ends = columns
    n_outside = 0
    for i in range(ends[column], ends[column + 1]):
        n_outside += cells[i] < low or cells[i] > high
    return n_outside == 0


@kernel()
def get_columns(
    page: Bytes, position: int, end: int, totals: Totals, columns: Columns, work: Work
) -> int:
    """Read the columns up to the sums; the position behind them, or an error."""
    columns[1][0] = 0
    for column in range(EXCESS_COLUMN):
        n = count_of(column, totals, columns)
        position = get_column(page, position, end, column, n, columns, work)
        if position < 0:
            return position
        if has_values(column):
            continue
        low, high = limits_of(column, totals)
        if not is_within(columns, column, low, high):
            return INCONSISTENT
    return position


@kernel(allocates=False)
def end_of_alone(groups: IntArray, g: int) -> int:
    """The first group from `g` on that has several histograms, or has not differences."""
    while g < groups.shape[1] and groups[0, g] == 1 and groups[1, g] == DIFFERENCES:
        g += 1
    return g
