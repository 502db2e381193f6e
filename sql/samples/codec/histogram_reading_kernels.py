"""Kernels that put the histograms of sections into columns; `histogram_kernels` has the format."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import INCONSISTENT, Bytes, unfolded
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
    OFFSET_COLUMN,
    RAW,
    SIZE_COLUMN,
    SPANS,
    SUM_COLUMN,
    Columns,
    Totals,
    end_of_alone,
    get_column,
    get_columns,
    most_of,
    size_of_columns,
    sum_of,
)
from sql.samples.codec.histogram_layout_kernels import (
    Layouts,
    Room,
    count_buckets,
    is_one_layout,
    place_buckets,
    unite,
)

Spans = NDArray[np.int32]
Tables = tuple[IntArray, IntArray, Layouts, IntArray]
"""Families (schemas, kinds, thresholds, offsets of bounds), bounds, layouts, and groups (numbers of
histograms, modes, numbers of buckets)."""
Out = tuple[IntArray, IntArray, Spans, Spans, IntArray, IntArray, IntArray]
"""Flat columns, offsets of the others, spans of both sides, buckets of both sides, bounds."""

SCHEMA, HINT, IS_FLOAT, THRESHOLD, ZERO_COUNT, COUNT, SUM = 0, 1, 2, 3, 4, 5, 6
"""The rows of the flat columns."""
N_FLAT: Final = 7


@kernel()
def sum_up(counts: IntArray, offsets: IntArray) -> None:
    """Fill the offsets of rows with these numbers of cells."""
    offsets[0] = 0
    for i in range(len(counts)):
        offsets[i + 1] = offsets[i] + counts[i]


@kernel()
def fill_tables(totals: Totals, columns: Columns, tables: Tables) -> bool:
    """Fill the tables from the columns; False if they contradict each other."""
    families, bounds, layouts, groups = tables
    table, offsets, lengths = layouts
    cells, ends = columns
    for row in range(3):
        families[row, : totals[FAMILIES]] = cells[ends[row] : ends[row + 1]]
        table[row, :] = cells[ends[row + 5] : ends[row + 6]]
    sum_up(cells[ends[BOUND_COLUMN - 1] : ends[BOUND_COLUMN]], families[3])
    bounds[: families[3, -1]] = cells[ends[BOUND_COLUMN] : ends[BOUND_COLUMN + 1]]
    n_spans = ends[OFFSET_COLUMN + 1] - ends[OFFSET_COLUMN]
    offsets[:n_spans] = cells[ends[OFFSET_COLUMN] : ends[OFFSET_COLUMN + 1]]
    lengths[:n_spans] = cells[ends[OFFSET_COLUMN + 1] : ends[OFFSET_COLUMN + 2]]
    if not count_buckets(layouts, totals[LAYOUTS], totals[BUCKETS], totals[BUCKETS + 1]):
        return False
    groups[1, :] = cells[ends[MODE_COLUMN] : ends[MODE_COLUMN + 1]]
    if ends[SIZE_COLUMN + 1] > ends[SIZE_COLUMN]:
        groups[0, :] = cells[ends[SIZE_COLUMN] : ends[SIZE_COLUMN + 1]]
    else:
        groups[0, :] = totals[HISTOGRAMS] // totals[GROUPS]
    return sum_of(groups[0]) == signed(totals[HISTOGRAMS])


@kernel()
def unite_groups(
    totals: Totals, tables: Tables, layout_of: IntArray, unions: IntArray, room: Room
) -> bool:
    """Fill the buckets of all groups, and their numbers; False if a section has not so many."""
    groups = tables[3]
    n_buckets = totals[BUCKETS] + totals[BUCKETS + 1]
    left, n_united, begin = most_of(len(layout_of), n_buckets), signed(0), signed(0)
    table = tables[2][0]
    for g in range(totals[GROUPS]):
        behind = begin + groups[0, g]
        if groups[0, g] == 1:
            n_union = table[4, layout_of[begin]] + table[5, layout_of[begin]]
            if n_union > min(n_buckets, left):
                return False
            groups[2, g] = n_union
            n_united += n_union
            left -= n_union
            begin = behind
            continue
        n_union = unite(
            layout_of[begin:behind], tables[2], min(n_buckets, left), room, unions[n_united:]
        )
        if n_union < 0:
            return False
        groups[2, g] = n_union
        n_united += n_union
        left -= n_union
        begin = behind
    return True


@kernel()
def count_streams(groups: IntArray, most: int, counts: IntArray) -> bool:
    """Set the numbers of the excesses and of each stream; False if a section has not so many.

    No group has more than `most` numbers, for which there is room while they are restored.
    """
    counts[:] = 0
    for g in range(groups.shape[1]):
        m, n_fields = groups[0, g], groups[2, g] + 1
        if n_fields * m > most:
            return False
        if groups[1, g] == RAW:
            counts[4] += (n_fields + 1) * m
        else:
            counts[0] += m
            counts[1] += n_fields
            if m >= LEAST_STEPPED:
                counts[2] += n_fields
            counts[3] += n_fields * (m - 1)
        if counts[1] > most or counts[3] > most or counts[4] > most:
            return False
    return True


@kernel()
def restore_differences(
    cells: IntArray, cursors: IntArray, m: int, n_fields: int, matrix: IntArray
) -> None:
    """The numbers of a group, field by field; moves the cursors of the streams."""
    for field in range(n_fields):
        number = cells[cursors[1]]
        cursors[1] += 1
        step = signed(0)
        if m >= LEAST_STEPPED:
            step = cells[cursors[2]]
            cursors[2] += 1
        begin = cursors[3]
        cursors[3] += m - 1
        differences = cells[begin : begin + m - 1]
        of_field = matrix[field * m : field * m + m]
        of_field[0] = number
        for k in range(len(differences)):
            number += step + unfolded(np.uint64(differences[k]))
            of_field[k + 1] = number


@kernel(allocates=False)
def put_flat(out: Out, row: int, tables: Tables, layout: int) -> None:
    """Set the columns that follow from a layout; the offsets are set before."""
    flat, offsets = out[0], out[1]
    families, bounds, layouts = tables[0], tables[1], tables[2]
    table, span_offsets, lengths = layouts
    family = table[0, layout]
    flat[SCHEMA, row], flat[IS_FLOAT, row] = families[0, family], families[1, family]
    flat[THRESHOLD, row] = families[2, family]
    cursor = offsets[4, row]
    for i in range(families[3, family], families[3, family + 1]):
        out[6][cursor] = bounds[i]
        cursor += 1
    for side in range(2):
        first = table[3, layout] + (table[1, layout] if side else 0)
        spans = out[3] if side else out[2]
        cursor = offsets[side, row]
        for span in range(first, first + table[1 + side, layout]):
            spans[cursor, 0], spans[cursor, 1] = span_offsets[span], lengths[span]
            cursor += 1


@kernel(allocates=False)
def move_offsets(out: Out, row: int, tables: Tables, layout: int, ends: IntArray) -> bool:
    """Set the offsets behind a histogram; False if it has more than the section claims."""
    offsets, families, table = out[1], tables[0], tables[2][0]
    family = table[0, layout]
    for column in range(5):
        n = families[3, family + 1] - families[3, family]
        if column < 2:
            n = table[1 + column, layout]
        elif column < 4:
            n = table[2 + column, layout]
        offsets[column, row + 1] = offsets[column, row] + n
        if offsets[column, row + 1] > ends[column]:
            return False
    return True


@kernel()
def put_buckets(
    out: Out,
    row: int,
    table: IntArray,
    layout: int,
    matrix: IntArray,
    m: int,
    places: IntArray,
    is_converted: bool,
) -> int:
    """Copy the buckets of a histogram out of its group's numbers; returns their sum.

    `matrix` begins with its first number. `is_converted`: the buckets are floats.
    """
    total, n_before = signed(0), signed(0)
    for side in range(2):
        n, begin = table[4 + side, layout], out[1][2 + side, row]
        cells = out[5] if side else out[4]
        floats = cells.view(np.float64)
        for i in range(n):
            number = matrix[places[n_before + i] * m]
            total += number
            if is_converted:
                floats[begin + i] = np.float64(number)
            else:
                cells[begin + i] = number
        n_before += n
    return total


@kernel()
def put_counts(
    flat: IntArray, row: int, matrix: IntArray, m: int, mode: int, total: int, excess: int
) -> None:
    """Set count and zero count of a histogram, whose buckets have a sum."""
    if mode == RAW:
        flat[COUNT, row], flat[ZERO_COUNT, row] = matrix[0], matrix[m]
        return
    zero_count = matrix[0]
    count = zero_count + total + excess
    if flat[IS_FLOAT, row]:
        floats = flat.view(np.float64)
        floats[COUNT, row], floats[ZERO_COUNT, row] = np.float64(count), np.float64(zero_count)
    else:
        flat[COUNT, row], flat[ZERO_COUNT, row] = count, zero_count


@kernel()
def put_group(
    out: Out,
    first_row: int,
    layout_of: IntArray,
    mode: int,
    excesses: IntArray,
    matrix: IntArray,
    union: IntArray,
    tables: Tables,
    ends: IntArray,
    room: Room,
) -> bool:
    """Put the histograms of a group into the columns; False if they are too large."""
    flat, table, m = out[0], tables[2][0], len(layout_of)
    of_buckets = matrix[(2 if mode == RAW else 1) * m :]
    is_alone, last = is_one_layout(layout_of), signed(-1)
    for k in range(m):
        row, layout = first_row + k, layout_of[k]
        if not move_offsets(out, row, tables, layout, ends):
            return False
        if layout != last:
            place_buckets(tables[2], layout, union, len(union), is_alone, room)
            last = layout
        put_flat(out, row, tables, layout)
        is_converted = flat[IS_FLOAT, row] == 1 and mode == DIFFERENCES
        total = put_buckets(out, row, table, layout, of_buckets[k:], m, room[2], is_converted)
        excess = excesses[k] if mode == DIFFERENCES else signed(0)
        put_counts(flat, row, matrix[k:], m, mode, total, excess)
    return True


@kernel(allocates=False)
def copy_buckets(
    firsts: IntArray, at: int, n: int, is_float: bool, cells: IntArray, begin: int
) -> int:
    """Copy the buckets of a side of a histogram that is alone; returns their sum."""
    total, floats = signed(0), cells.view(np.float64)
    for i in range(n):
        number = firsts[at + i]
        total += number
        if is_float:
            floats[begin + i] = np.float64(number)
        else:
            cells[begin + i] = number
    return total


@kernel(allocates=False)
def put_alone(
    out: Out,
    row: int,
    layout_of: IntArray,
    begin: int,
    behind: int,
    excesses: IntArray,
    firsts: IntArray,
    at: int,
    tables: Tables,
    ends: IntArray,
) -> int:
    """Put histograms, each of which is a group of differences, into the columns.

    Returns the place behind their numbers among the first ones, or an error if they are too large.
    These are the pages of scrapes: calls for each of them take longer than its numbers do.
    """
    flat, offsets, table = out[0], out[1], tables[2][0]
    floats = flat.view(np.float64)
    for k in range(begin, behind):
        layout = layout_of[k]
        if not move_offsets(out, row, tables, layout, ends):
            return INCONSISTENT
        put_flat(out, row, tables, layout)
        n_positive, n_negative = table[4, layout], table[5, layout]
        is_float, zero_count = flat[IS_FLOAT, row] == 1, firsts[at]
        at += 1
        total = copy_buckets(firsts, at, n_positive, is_float, out[4], offsets[2, row])
        at += n_positive
        total += copy_buckets(firsts, at, n_negative, is_float, out[5], offsets[3, row])
        at += n_negative
        count = zero_count + total + excesses[k - begin]
        if is_float:
            floats[COUNT, row], floats[ZERO_COUNT, row] = np.float64(count), np.float64(zero_count)
        else:
            flat[COUNT, row], flat[ZERO_COUNT, row] = count, zero_count
        row += 1
    return at


@kernel()
def put_groups(
    out: Out,
    row: int,
    totals: Totals,
    tables: Tables,
    columns: Columns,
    unions: IntArray,
    room: Room,
) -> int:
    """Put the histograms of all groups of a section into the columns; 0, or an error."""
    groups, cells, starts = tables[3], columns[0], columns[1]
    n = totals[HISTOGRAMS]
    layout_of = cells[starts[LAYOUT_COLUMN] : starts[LAYOUT_COLUMN + 1]]
    out[0][HINT, row : row + n] = cells[starts[HINT_COLUMN] : starts[HINT_COLUMN + 1]]
    out[0][SUM, row : row + n] = cells[starts[SUM_COLUMN] : starts[SUM_COLUMN + 1]]
    ends = out[1][:, row] + totals[SPANS:]
    cursors = starts[EXCESS_COLUMN:N_COLUMNS].copy()
    matrix = np.empty(most_of(n, totals[BUCKETS] + totals[BUCKETS + 1]), np.int64)
    n_united, begin, g = signed(0), signed(0), signed(0)
    while g < totals[GROUPS]:
        behind_alone = end_of_alone(groups, g)
        if behind_alone > g:
            behind = begin + behind_alone - g
            cursors[1] = put_alone(
                out, row + begin, layout_of, begin, behind, cells[cursors[0] :], cells, cursors[1],
                tables, ends,
            )  # fmt: skip
            if cursors[1] < 0:
                return INCONSISTENT
            cursors[0] += behind - begin
            n_united += sum_of(groups[2, g:behind_alone])
            begin, g = behind, behind_alone
            continue
        m, mode, n_union = groups[0, g], groups[1, g], groups[2, g]
        numbers, excesses = matrix, cells[cursors[0] : cursors[0]]
        if mode == RAW:
            n_cells = (n_union + 2) * m
            numbers = cells[cursors[4] : cursors[4] + n_cells]
            cursors[4] += n_cells
        else:
            restore_differences(cells, cursors, m, n_union + 1, matrix)
            excesses = cells[cursors[0] : cursors[0] + m]
            cursors[0] += m
        if not put_group(
            out, row + begin, layout_of[begin : begin + m], mode, excesses, numbers,
            unions[n_united : n_united + n_union], tables, ends, room,
        ):  # fmt: skip
            return INCONSISTENT
        n_united, begin, g = n_united + n_union, begin + m, g + 1
    for column in range(5):
        if out[1][column, row + n] != ends[column]:
            return INCONSISTENT
    return 0


@kernel()
def get_section(page: Bytes, position: int, end: int, totals: Totals, out: Out, row: int) -> int:
    """Read a section whose head was read, from a row of the columns on; 0, or an error."""
    n, n_spans = totals[HISTOGRAMS], totals[SPANS] + totals[SPANS + 1]
    n_buckets, n_bounds = totals[BUCKETS] + totals[BUCKETS + 1], totals[BOUNDS]
    most = most_of(n, n_buckets)
    columns = (
        np.empty(size_of_columns(n, n_spans, n_buckets, n_bounds), np.int64),
        np.zeros(N_COLUMNS + 1, np.int64),
    )
    values, unused = np.empty(max(n, n_bounds), np.float64), np.empty(0, np.int64)
    work = (
        unused, unused, unused, unused, unused, np.empty(len(values), np.int64),
        np.empty(max(most, n_spans, n_bounds), np.uint64), values, values.view(np.int64),
    )  # fmt: skip
    spans = (np.empty(n_spans, np.int64), np.empty(n_spans, np.int64))
    tables = (
        np.empty((4, totals[FAMILIES] + 1), np.int64), np.empty(n_bounds, np.int64),
        (np.empty((6, totals[LAYOUTS]), np.int64), spans[0], spans[1]),
        np.empty((3, totals[GROUPS]), np.int64),
    )  # fmt: skip
    position = get_columns(page, position, end, totals, columns, work)
    if position < 0:
        return position
    unions = np.empty(most + n_buckets, np.int64)
    room = (
        np.empty(n_buckets + 1, np.int64), np.empty(most + n_buckets, np.int64),
        np.empty(n_buckets + 1, np.int64),
    )  # fmt: skip
    layout_of = columns[0][columns[1][LAYOUT_COLUMN] : columns[1][LAYOUT_COLUMN + 1]]
    is_right = fill_tables(totals, columns, tables)
    is_right = is_right and unite_groups(totals, tables, layout_of, unions, room)
    counts = np.empty(N_COLUMNS - EXCESS_COLUMN, np.int64)
    if not is_right or not count_streams(tables[3], most, counts):
        return INCONSISTENT
    for stream in range(len(counts)):
        column = EXCESS_COLUMN + stream
        position = get_column(page, position, end, column, counts[stream], columns, work)
        if position < 0:
            return position
    if position != end:
        return INCONSISTENT
    return put_groups(out, row, totals, tables, columns, unions, room)


@kernel(
    "UniTuple(i8, 2)(u1[::1], i8[:, ::1], i8[:, ::1], i8[:, ::1], i8[:, ::1], i4[:, ::1],"
    " i4[:, ::1], i8[::1], i8[::1], i8[::1])"
)
def read_sections(
    pages: Bytes,
    places: IntArray,
    totals: IntArray,
    flat: IntArray,
    offsets: IntArray,
    positive_spans: Spans,
    negative_spans: Spans,
    positive: IntArray,
    negative: IntArray,
    bounds: IntArray,
) -> tuple[int, int]:
    """Read the sections that `measure_sections` has accepted, one behind the other.

    `flat` has a row for each of `SCHEMA` to `SUM`, floats as their bits; `offsets` one for the
    columns that follow it. Returns as `measure_sections` does.
    """
    out = (flat, offsets, positive_spans, negative_spans, positive, negative, bounds)
    offsets[:, 0] = 0
    row = signed(0)
    for k in range(len(places)):
        error = get_section(pages, places[k, 0], places[k, 1], totals[k], out, row)
        if error:
            return error, k
        row += totals[k, HISTOGRAMS]
    return 0, 0
