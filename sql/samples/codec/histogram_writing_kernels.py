"""The kernel that writes the histograms of a page; `histogram_kernels` has the format."""

import numpy as np

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import BoolArray, IntArray
from sql.samples.codec.column_kernels import Bytes
from sql.samples.codec.column_writing_kernels import (
    DICTIONARY_SIZE,
    folded,
    median_difference,
    put_integers,
    put_values,
)
from sql.samples.codec.histogram_grouping_kernels import (
    Bounds,
    Flat,
    Ragged,
    choose_groups,
    choose_modes,
    fill_layouts,
    find_families,
    find_layouts,
)
from sql.samples.codec.histogram_kernels import (
    BOUND_COLUMN,
    BOUNDS,
    BUCKETS,
    DIFFERENCES,
    EXCESS_COLUMN,
    FAMILIES,
    GROUPS,
    HINT_COLUMN,
    HISTOGRAMS,
    LAYOUT_COLUMN,
    LAYOUTS,
    LEAST_STEPPED,
    MODE_COLUMN,
    N_COLUMNS,
    N_TOTALS,
    OFFSET_COLUMN,
    RAW,
    SIZE_COLUMN,
    SPANS,
    SUM_COLUMN,
    Columns,
    end_of_alone,
    has_values,
    most_of,
    size_of_columns,
    sum_of,
)
from sql.samples.codec.histogram_layout_kernels import (
    Layouts,
    Room,
    is_one_layout,
    place_buckets,
)

Streams = tuple[IntArray, IntArray, IntArray, IntArray]
"""Firsts, steps, differences and raw cells."""


@kernel()
def copy_cells(
    cells: IntArray, begin: int, end: int, is_converted: bool, places: IntArray, first: int,
    matrix: IntArray, m: int, k: int,
) -> int:  # fmt: skip
    """Copy the buckets of a side to their fields; returns their sum."""
    total = signed(0)
    if is_converted:
        floats = cells.view(np.float64)
        for i in range(begin, end):
            number = signed(floats[i])
            matrix[places[first + i - begin] * m + k] = number
            total += number
    else:
        for i in range(begin, end):
            matrix[places[first + i - begin] * m + k] = cells[i]
            total += cells[i]
    return total


@kernel()
def fill_matrix(
    flat: Flat,
    ragged: Ragged,
    numbers: IntArray,
    layout_of: IntArray,
    layouts: Layouts,
    union: IntArray,
    mode: int,
    matrix: IntArray,
    excesses: IntArray,
    room: Room,
) -> None:
    """Fill the numbers of a group, field by field, and how much each count exceeds its parts."""
    m, n_union, table = len(numbers), len(union), layouts[0]
    of_buckets = matrix[(2 if mode == RAW else 1) * m :]
    is_alone, last = is_one_layout(layout_of), signed(-1)
    is_converted = flat[2][numbers[0]] and mode == DIFFERENCES
    for k in range(m):
        one, layout = numbers[k], layout_of[k]
        if layout != last:
            place_buckets(layouts, layout, union, n_union, is_alone, room)
            last = layout
        if table[4, layout] + table[5, layout] < n_union:
            for field in range(n_union):
                of_buckets[field * m + k] = of_buckets[field * m + k - 1] if k else signed(0)
        begin, end = ragged[4][one], ragged[4][one + 1]
        total = copy_cells(ragged[5], begin, end, is_converted, room[2], 0, of_buckets, m, k)
        total += copy_cells(
            ragged[7], ragged[6][one], ragged[6][one + 1], is_converted, room[2], end - begin,
            of_buckets, m, k,
        )  # fmt: skip
        count, zero_count = flat[5][one], flat[4][one]
        if mode == RAW:
            matrix[k], matrix[m + k] = count, zero_count
            continue
        if is_converted:
            count, zero_count = (
                signed(flat[5].view(np.float64)[one]),
                signed(flat[4].view(np.float64)[one]),
            )
        matrix[k], excesses[k] = zero_count, count - zero_count - total


@kernel()
def append_differences(
    matrix: IntArray, m: int, n_fields: int, streams: Streams, ends: IntArray, tried: IntArray
) -> None:
    """Append the fields of a group to the streams of first numbers, steps and differences."""
    firsts, steps, differences = streams[0], streams[1], streams[2]
    for field in range(n_fields):
        numbers = matrix[field * m : field * m + m]
        firsts[ends[0]] = numbers[0]
        ends[0] += 1
        step = signed(0)
        if m >= LEAST_STEPPED:
            step = median_difference(numbers, m, tried)
            steps[ends[1]] = step
            ends[1] += 1
        begin = ends[2] - 1
        for k in range(1, m):
            differences[begin + k] = signed(folded(numbers[k] - numbers[k - 1] - step))
        ends[2] += m - 1


@kernel(allocates=False)
def append_cells(
    cells: IntArray, begin: int, end: int, is_float: bool, firsts: IntArray, at: int
) -> tuple[int, int]:
    """Append the buckets of a side to the first numbers; `(place behind them, their sum)`."""
    total, floats = signed(0), cells.view(np.float64)
    for i in range(begin, end):
        cell = signed(floats[i]) if is_float else cells[i]
        firsts[at] = cell
        total += cell
        at += 1
    return at, total


@kernel(allocates=False)
def append_alone(
    flat: Flat, ragged: Ragged, numbers: IntArray, firsts: IntArray, at: int, excesses: IntArray
) -> int:
    """Append histograms, each of which is a group of differences; the place behind their numbers.

    These are the pages of scrapes. A call for each of them would take longer than its numbers do.
    """
    zeros, counts = flat[4].view(np.float64), flat[5].view(np.float64)
    for k in range(len(numbers)):
        one = numbers[k]
        is_float, zero, count = flat[2][one], flat[4][one], flat[5][one]
        if is_float:
            zero, count = signed(zeros[one]), signed(counts[one])
        firsts[at] = zero
        begin, end = ragged[4][one], ragged[4][one + 1]
        at, total = append_cells(ragged[5], begin, end, is_float, firsts, at + 1)
        excesses[k] = count - zero - total
        begin, end = ragged[6][one], ragged[6][one + 1]
        at, total = append_cells(ragged[7], begin, end, is_float, firsts, at)
        excesses[k] -= total
    return at


@kernel()
def put_varint(out: Bytes, position: int, number: int) -> int:
    while number >= 128:
        out[position] = np.uint8(128 | (number & 127))
        number >>= 7
        position += 1
    out[position] = np.uint8(number)
    return position + 1


@kernel()
def append(columns: Columns, column: int, source: IntArray, n: int) -> None:
    """Append a column with the first `n` numbers of `source`."""
    cells, ends = columns
    begin = ends[column]
    cells[begin : begin + n] = source[:n]
    ends[column + 1] = begin + n


@kernel()
def append_families(
    flat: Flat, bounds: Bounds, firsts: IntArray, n_families: int, columns: Columns
) -> None:
    """Append the columns of the families, each of which has a first histogram."""
    numbers, bits, n_bounds = np.empty(n_families, np.int64), flat[3].view(np.int64), signed(0)
    for column in range(4):
        for i in range(n_families):
            one = firsts[i]
            if column == 0:
                numbers[i] = flat[0][one]
            elif column == 1:
                numbers[i] = flat[2][one]
            elif column == 2:
                numbers[i] = bits[one]
            else:
                numbers[i] = bounds[0][one + 1] - bounds[0][one]
                n_bounds += numbers[i]
        append(columns, column, numbers, n_families)
    numbers, n_bounds = np.empty(n_bounds, np.int64), signed(0)
    bits = bounds[1].view(np.int64)
    for i in range(n_families):
        for place in range(bounds[0][firsts[i]], bounds[0][firsts[i] + 1]):
            numbers[n_bounds] = bits[place]
            n_bounds += 1
    append(columns, BOUND_COLUMN, numbers, n_bounds)


@kernel()
def append_histograms(flat: Flat, numbers: IntArray, layout_of: IntArray, columns: Columns) -> None:
    """Append the columns with a number for each histogram."""
    n, own = len(numbers), np.empty(len(numbers), np.int64)
    append(columns, LAYOUT_COLUMN, layout_of, n)
    for i in range(n):
        own[i] = flat[1][numbers[i]]
    append(columns, HINT_COLUMN, own, n)
    bits = flat[6].view(np.int64)
    for i in range(n):
        own[i] = bits[numbers[i]]
    append(columns, SUM_COLUMN, own, n)


@kernel()
def append_streams(
    flat: Flat,
    ragged: Ragged,
    numbers: IntArray,
    layout_of: IntArray,
    layouts: Layouts,
    groups: IntArray,
    unions: IntArray,
    most: int,
    columns: Columns,
) -> None:
    """Append the excesses and the four streams; each has at most `most` numbers."""
    streams = (
        np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64),
        np.empty(most, np.int64),
    )  # fmt: skip
    matrix, excesses = np.empty(most, np.int64), np.empty(len(numbers), np.int64)
    room = (np.empty(most, np.int64), np.empty(0, np.int64), np.empty(most, np.int64))
    tried = np.empty(17, np.int64)
    ends = np.zeros(4, np.int64)
    begin, n_united, n_excesses = signed(0), signed(0), signed(0)
    g = signed(0)
    while g < groups.shape[1]:
        behind_alone = end_of_alone(groups, g)
        if behind_alone > g:
            behind = begin + behind_alone - g
            ends[0] = append_alone(
                flat, ragged, numbers[begin:behind], streams[0], ends[0], excesses[n_excesses:]
            )
            n_excesses += behind - begin
            n_united += sum_of(groups[2, g:behind_alone])
            begin, g = behind, behind_alone
            continue
        m, mode, n_union = groups[0, g], groups[1, g], groups[2, g]
        union, behind = unions[n_united : n_united + n_union], begin + m
        fill_matrix(
            flat, ragged, numbers[begin:behind], layout_of[begin:behind], layouts, union, mode,
            matrix, excesses[n_excesses:], room,
        )  # fmt: skip
        if mode == RAW:
            n_cells = (n_union + 2) * m
            streams[3][ends[3] : ends[3] + n_cells] = matrix[:n_cells]
            ends[3] += n_cells
        else:
            n_excesses += m
            append_differences(matrix, m, n_union + 1, streams, ends, tried)
        begin, n_united, g = behind, n_united + n_union, g + 1
    append(columns, EXCESS_COLUMN, excesses, n_excesses)
    for stream in range(4):
        append(columns, EXCESS_COLUMN + 1 + stream, streams[stream], ends[stream])


@kernel()
def put_columns(columns: Columns, out: Bytes, position: int) -> int:
    """Write all columns that have numbers; the position behind them. Changes the columns."""
    cells, ends = columns
    values, longest = cells.view(np.float64), signed(0)
    for column in range(N_COLUMNS):
        longest = max(longest, ends[column + 1] - ends[column])
    work = (
        np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.uint64),
        np.empty(65, np.int64), np.empty(DICTIONARY_SIZE, np.int64),
    )  # fmt: skip
    for column in range(N_COLUMNS):
        begin, n = ends[column], ends[column + 1] - ends[column]
        if n and has_values(column):
            position = put_values(values, cells, begin, n, out, position, work)
        elif n:
            position = put_integers(cells[begin : begin + n], n, out, position, work)
    return position


@kernel(
    "i8(Tuple((i1[::1], u1[::1], b1[::1], f8[::1], i8[::1], i8[::1], f8[::1])),"
    " Tuple((i8[::1], i4[:, ::1], i8[::1], i4[:, ::1], i8[::1], i8[::1], i8[::1], i8[::1])),"
    " Tuple((i8[::1], f8[::1])), i8[::1], b1[::1], u1[::1])"
)
def write_section(
    flat: Flat, ragged: Ragged, bounds: Bounds, numbers: IntArray, is_first: BoolArray, out: Bytes
) -> int:
    """Write the section of the histograms `numbers`, at least one; returns its bytes.

    `is_first` marks those that begin a series. `out` has room for the worst case.
    """
    n, totals = len(numbers), np.zeros(N_TOTALS, np.int64)
    for i in range(n):
        one = numbers[i]
        totals[SPANS] += ragged[0][one + 1] - ragged[0][one]
        totals[SPANS + 1] += ragged[2][one + 1] - ragged[2][one]
        totals[BUCKETS] += ragged[4][one + 1] - ragged[4][one]
        totals[BUCKETS + 1] += ragged[6][one + 1] - ragged[6][one]
        totals[BOUNDS] += bounds[0][one + 1] - bounds[0][one]
    n_buckets, n_spans = totals[BUCKETS] + totals[BUCKETS + 1], totals[SPANS] + totals[SPANS + 1]
    most = most_of(n, n_buckets)
    columns = (
        np.empty(size_of_columns(n, n_spans, n_buckets, totals[BOUNDS]), np.int64),
        np.zeros(N_COLUMNS + 1, np.int64),
    )
    family_of, firsts = np.empty(n, np.int64), np.empty(n, np.int64)
    n_families = find_families(flat, bounds, numbers, family_of, firsts)
    append_families(flat, bounds, firsts, n_families, columns)
    table, layout_of = np.empty((6, n), np.int64), np.empty(n, np.int64)
    n_layouts = find_layouts(ragged, numbers, family_of, layout_of, firsts, table[0])
    layouts = (table, np.empty(n_spans, np.int64), np.empty(n_spans, np.int64))
    n_spans = fill_layouts(ragged, firsts, n_layouts, layouts)
    for row in range(3):
        append(columns, BOUND_COLUMN + 1 + row, table[row], n_layouts)
    append(columns, OFFSET_COLUMN, layouts[1], n_spans)
    append(columns, OFFSET_COLUMN + 1, layouts[2], n_spans)
    modes, groups = np.empty(n, np.int64), np.empty((3, n), np.int64)
    choose_modes(flat, ragged, numbers, modes)
    unions = np.empty(most + n_buckets, np.int64)
    n_groups = choose_groups(is_first, layout_of, modes, layouts, n_buckets, groups, unions)
    n_sizes = 0 if n_groups == 1 or n_groups == n else n_groups
    append(columns, SIZE_COLUMN, groups[0], n_sizes)
    append(columns, MODE_COLUMN, groups[1], n_groups)
    append_histograms(flat, numbers, layout_of, columns)
    append_streams(
        flat, ragged, numbers, layout_of, layouts, groups[:, :n_groups], unions, most, columns
    )
    totals[HISTOGRAMS], totals[FAMILIES], totals[LAYOUTS] = n, n_families, n_layouts
    totals[GROUPS] = n_groups
    position = signed(0)
    for i in range(N_TOTALS):
        position = put_varint(out, position, totals[i])
    return put_columns(columns, out, position)
