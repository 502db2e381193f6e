"""The kernel that reads export requests: the data points whose series are known, to columns.

Senders repeat resources, scopes, metrics and attributes; times and values change. So the table of
known points is a tree: a resource by its bytes, a scope by its resource and its bytes, a metric by
its scope and its bytes, each without what it contains, and a point by its metric and its identity
(`point_kernels`). What is not in the table gets a line, from which its series are made once.
Metrics with anything unusual (deltas, points without a value) are left as they are, to
`promcompat.otlp.translation`. Exemplars get lines, too; what they say is read by Python.
"""

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.series_table_kernels import NOT_FOUND, find_entry, is_entry
from promcompat.otlp.point_kernels import (
    EXEMPLAR_ROW,
    N_EXEMPLARS,
    SECOND,
    SECOND_END,
    Floats,
    RowArrays,
    count_histogram_rows,
    read_histogram,
    read_number,
)
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    Bytes,
    Ints,
    Slots,
    Words,
    content_bounds,
    field_end,
    read_varint,
)

_Table = tuple[Words, Slots, Words, Ints, Ints, Ints, Bytes, Bytes]
_Outputs = tuple[Bytes, Ints, Ints, Ints, Ints, Ints]
"""`heads`, `lines`, `resources`, `metrics`, `left` and `state` of `read_export`."""

_RESOURCE_METRICS = _POINT = 0x0A
_SCOPE_METRICS = _METRIC = 0x12
GAUGE, SUM, HISTOGRAM = 0x2A, 0x3A, 0x4A
_EXPONENTIAL, _SUMMARY = 0x52, 0x5A
_TEMPORALITY, _CUMULATIVE = 0x10, 2
ROOT = 0
"""The parent of resources."""
LINE_PARENT, LINE_LEVEL, LINE_FIRST, LINE_DATA, LINE_END = range(5)
"""Columns of `lines`."""
RESOURCE_LEVEL, SCOPE_LEVEL, METRIC_LEVEL, POINT_LEVEL, COPIED_POINT_LEVEL = range(5)
"""The identity of a point is in the message, or if it has two parts in `heads`."""
RESOURCE_REF, RESOURCE_FIRST, RESOURCE_END, RESOURCE_EARLIEST, RESOURCE_LATEST = range(5)
"""Columns of `resources`."""
LEFT_FIRST, LEFT_END, LEFT_ROW, LEFT_RESOURCE, LEFT_SCOPE, LEFT_SCOPE_FIRST, LEFT_SCOPE_END = range(
    7
)
"""Columns of `left`."""
LEFT_METRIC = -(1 << 62)
"""Instead of the number of a metric."""
N_ROWS, N_POINTS, N_LINES, N_RESOURCES, N_SCOPES, N_METRICS, N_LEFT = range(7)
_HEADS_END, _LAST_ENTRY = 8, 9
N_STATE = 10
"""The length of `state`."""
_NO_TIME = (1 << 63) - 1


@kernel(allocates=False)
def _count_points(
    message: Bytes, position: int, end: int, is_histogram: bool, counts: Ints
) -> bool:
    while position < end:
        after = field_end(message, position, end)
        if after < 0:
            return False
        if message[position] == _POINT:
            n_rows = 1
            if is_histogram:
                first, _ = content_bounds(message, position + 1, after)
                n_rows = count_histogram_rows(message, first, after)
                if n_rows < 0:
                    return False
            counts[3] += 1
            counts[4] += n_rows
        position = after
    return True


@kernel(allocates=False)
def _count_metrics(message: Bytes, position: int, end: int, counts: Ints) -> bool:
    while position < end:
        after = field_end(message, position, end)
        if after < 0:
            return False
        if message[position] == _METRIC:
            counts[2] += 1
            field, _ = content_bounds(message, position + 1, after)
            while field < after:
                tag, field_first = message[field], field + 1
                field = field_end(message, field, after)
                if field < 0:
                    return False
                if tag in (GAUGE, SUM, HISTOGRAM):
                    first, _ = content_bounds(message, field_first, after)
                    if not _count_points(message, first, field, tag == HISTOGRAM, counts):
                        return False
        position = after
    return True


@kernel("b1(Array(u1, 1, 'C', readonly=True), i8[::1])", allocates=False)
def count_parts(message: Bytes, counts: Ints) -> bool:
    """Fill `counts` with the numbers of resources, scopes, metrics, and of points and their rows.

    The last two are upper bounds. False if the message has a field that is unusual or malformed.
    """
    for index in range(len(counts)):
        counts[index] = 0
    end = len(message)
    resource = 0
    while resource < end:
        first, resource_end = content_bounds(message, resource + 1, end)
        if message[resource] != _RESOURCE_METRICS or resource_end < 0:
            return False
        counts[0] += 1
        resource = resource_end
        while first < resource_end:
            after = field_end(message, first, resource_end)
            if after < 0:
                return False
            if message[first] == _SCOPE_METRICS:
                counts[1] += 1
                inner, _ = content_bounds(message, first + 1, after)
                if not _count_metrics(message, inner, after, counts):
                    return False
            first = after
    return True


@kernel(allocates=False)
def _copied(message: Bytes, first: int, end: int, heads: Bytes, at: int) -> int:
    """Copy bytes to `heads`; the position after them there, or UNUSUAL."""
    if end - first > len(heads) - at:
        return UNUSUAL
    for position in range(first, end):
        heads[at + position - first] = message[position]
    return at + end - first


@kernel(allocates=False)
def _copy_others(message: Bytes, position: int, end: int, part: int, heads: Bytes, at: int) -> int:
    """Copy the fields whose tag is not `part`; the position after them in `heads`, or UNUSUAL."""
    while at >= 0 and position < end:
        after = field_end(message, position, end)
        if after < 0:
            return UNUSUAL
        if message[position] != part:
            at = _copied(message, position, after, heads, at)
        position = after
    return at


@kernel(allocates=False)
def _number_of(
    table: _Table,
    outputs: _Outputs,
    parent: int,
    level: int,
    data: Bytes,
    first: int,
    inner: int,
    end: int,
) -> int:
    """The number of a part; of one that is not known, or whose parent is not, a line gets -1, …"""
    secret, slots, hashes, parents, numbers, starts, keys, _ = table
    _, lines, _, _, _, state = outputs
    if parent >= 0:
        # Senders repeat the order of their points, in which the entries were made.
        entry = state[_LAST_ENTRY] + 1
        if not is_entry(parents, numbers, starts, keys, parent, entry, data, first, end):
            entry = find_entry(
                secret, slots, hashes, parents, starts, keys, parent, data, first, end
            )
        if entry >= 0:
            state[_LAST_ENTRY] = entry
            return signed(numbers[entry])
    line = signed(state[N_LINES])
    lines[line, LINE_PARENT], lines[line, LINE_LEVEL] = parent, level
    lines[line, LINE_FIRST], lines[line, LINE_DATA], lines[line, LINE_END] = first, inner, end
    state[N_LINES] += 1
    return -1 - line


@kernel(allocates=False)
def _is_cumulative(heads: Bytes, position: int, end: int) -> bool:
    temporality = 0
    while position < end:
        after = field_end(heads, position, end)
        if after < 0:
            return False
        if heads[position] == _TEMPORALITY:
            temporality, _ = read_varint(heads, position + 1, after)
        position = after
    return temporality == _CUMULATIVE


@kernel(allocates=False)
def _metric_head(
    message: Bytes, position: int, end: int, heads: Bytes, at: int, has_histograms: bool
) -> tuple[int, int, int, int]:
    """Copy a metric without its points to `heads`, from `at` on.

    The position after it, the position of the tag of its data, before which are all other fields,
    and first and end of the data; UNUSUAL if it has other data than points that are read here.
    """
    unusual = UNUSUAL, UNUSUAL, UNUSUAL, UNUSUAL
    tag = first = data_end = 0
    while position < end:
        after = field_end(message, position, end)
        if after < 0:
            return unusual
        kind = signed(message[position])
        if kind in (GAUGE, SUM, HISTOGRAM):
            if tag or (kind == HISTOGRAM and not has_histograms):
                return unusual
            tag, data_end = kind, after
            first, _ = content_bounds(message, position + 1, after)
        elif kind in (_EXPONENTIAL, _SUMMARY):
            return unusual
        else:
            at = _copied(message, position, after, heads, at)
            if at < 0:
                return unusual
        position = after
    if not tag or at >= len(heads):
        return unusual
    data = at
    heads[data] = tag
    at = _copy_others(message, first, data_end, _POINT, heads, data + 1)
    if at < 0 or (tag != GAUGE and not _is_cumulative(heads, data + 1, at)):
        return unusual
    return at, data, first, data_end


@kernel(allocates=False)
def _number_of_point(
    table: _Table,
    outputs: _Outputs,
    rows: RowArrays,
    metric: int,
    message: Bytes,
    first: int,
    end: int,
) -> int:
    """As `_number_of`, for the identity of a point; LEFT_METRIC if there is no room to copy it."""
    heads, _, _, _, _, state = outputs
    places = rows[8]
    if not places[SECOND_END]:
        return _number_of(table, outputs, metric, POINT_LEVEL, message, first, first, end)
    head = signed(state[_HEADS_END])
    head_end = _copied(message, first, end, heads, head)
    if head_end >= 0:
        head_end = _copied(message, places[SECOND], places[SECOND_END], heads, head_end)
    if head_end < 0:
        return LEFT_METRIC
    number = _number_of(table, outputs, metric, COPIED_POINT_LEVEL, heads, head, head, head_end)
    if number < 0:
        state[_HEADS_END] = head_end
    return number


@kernel(allocates=False)
def _read_points(
    table: _Table,
    outputs: _Outputs,
    rows: RowArrays,
    metric: int,
    tag: int,
    message: Bytes,
    position: int,
    end: int,
) -> bool:
    """Fill rows with the points of a metric; False if one is unusual."""
    refs, offsets, times, starts, _, _, points, _, _, exemplars = rows
    _, _, resources, _, _, state = outputs
    n_exemplars = state[N_EXEMPLARS]
    earliest, latest = _NO_TIME, -1
    while position < end:
        is_point = message[position] == _POINT
        first, after = content_bounds(message, position + 1, end)
        position = field_end(message, position, end)
        if not is_point:
            continue
        row = state[N_ROWS]
        if row >= len(refs):
            return False
        if tag == HISTOGRAM:
            identity, identity_end, end_row = read_histogram(
                message, first, after, rows, row, state
            )
        else:
            identity, identity_end = read_number(message, first, after, rows, row, state)
            offsets[row], end_row = 0, row + 1
        if identity < 0:
            return False
        ref = _number_of_point(table, outputs, rows, metric, message, identity, identity_end)
        if ref == LEFT_METRIC:
            return False
        for index in range(row, end_row):
            refs[index], points[index] = ref, state[N_POINTS]
            if tag == GAUGE:
                starts[index] = 0
        earliest, latest = min(earliest, times[row]), max(latest, times[row])
        state[N_ROWS] = end_row
        state[N_POINTS] += 1
    if tag == GAUGE:
        exemplars[n_exemplars : state[N_EXEMPLARS], EXEMPLAR_ROW] = -1
    resource = state[N_RESOURCES] - 1
    resources[resource, RESOURCE_EARLIEST] = min(resources[resource, RESOURCE_EARLIEST], earliest)
    resources[resource, RESOURCE_LATEST] = max(resources[resource, RESOURCE_LATEST], latest)
    return True


@kernel(allocates=False)
def _read_metric(
    table: _Table,
    outputs: _Outputs,
    rows: RowArrays,
    has_histograms: bool,
    scope: int,
    message: Bytes,
    position: int,
    end: int,
) -> bool:
    """Read a metric; False if it has something unusual, of which then nothing is noted."""
    heads, _, _, metrics, _, state = outputs
    head = state[_HEADS_END]
    n_rows, n_points, n_lines = state[N_ROWS], state[N_POINTS], state[N_LINES]
    n_exemplars = state[N_EXEMPLARS]
    head_end, data, first, data_end = _metric_head(
        message, position, end, heads, head, has_histograms
    )
    if head_end < 0:
        return False
    metric = _number_of(table, outputs, scope, METRIC_LEVEL, heads, head, data, head_end)
    tag = signed(heads[data])
    state[_HEADS_END] = head_end
    if _read_points(table, outputs, rows, metric, tag, message, first, data_end):
        metrics[state[N_METRICS]] = metric
        return True
    state[N_ROWS], state[N_POINTS], state[N_LINES] = n_rows, n_points, n_lines
    state[N_EXEMPLARS], state[_HEADS_END] = n_exemplars, head
    return False


@kernel(allocates=False)
def _read_scope(
    table: _Table,
    outputs: _Outputs,
    rows: RowArrays,
    has_histograms: bool,
    resource: int,
    message: Bytes,
    position: int,
    end: int,
) -> bool:
    """Read the metrics of a scope; False if its own fields are malformed."""
    heads, _, _, metrics, left, state = outputs
    head = state[_HEADS_END]
    head_end = _copy_others(message, position, end, _METRIC, heads, head)
    if head_end < 0:
        return False
    state[_HEADS_END] = head_end
    scope = _number_of(table, outputs, resource, SCOPE_LEVEL, heads, head, head, head_end)
    while position < end:
        after = field_end(message, position, end)
        if message[position] == _METRIC:
            first, _ = content_bounds(message, position + 1, end)
            if not _read_metric(table, outputs, rows, has_histograms, scope, message, first, after):
                line = state[N_LEFT]
                left[line, LEFT_FIRST], left[line, LEFT_END] = position, after
                left[line, LEFT_ROW] = state[N_ROWS]
                left[line, LEFT_RESOURCE] = state[N_RESOURCES] - 1
                left[line, LEFT_SCOPE] = state[N_SCOPES]
                left[line, LEFT_SCOPE_FIRST], left[line, LEFT_SCOPE_END] = head, head_end
                metrics[state[N_METRICS]] = LEFT_METRIC
                state[N_LEFT] += 1
            state[N_METRICS] += 1
        position = after
    state[N_SCOPES] += 1
    return True


@kernel(
    "b1(u8[::1], i4[::1], u8[::1], i8[::1], i8[::1], i8[::1], u1[::1], u1[::1], b1,"
    " Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], i8[::1], i8[::1], f8[::1], u8[::1],"
    " i8[::1], u8[::1], i8[::1], i8[:, ::1], u1[::1], i8[:, ::1], i8[:, ::1], i8[::1], i8[:, ::1],"
    " i8[::1])",
    allocates=False,
)
def read_export(
    secret: Words,
    slots: Slots,
    hashes: Words,
    parents: Ints,
    numbers: Ints,
    starts: Ints,
    keys: Bytes,
    marks: Bytes,
    has_histograms: bool,
    message: Bytes,
    refs: Ints,
    offsets: Ints,
    times: Ints,
    start_times: Ints,
    values: Floats,
    bits: Words,
    points: Ints,
    words: Words,
    places: Ints,
    exemplars: Ints,
    heads: Bytes,
    lines: Ints,
    resources: Ints,
    metrics: Ints,
    left: Ints,
    state: Ints,
) -> bool:
    """Read a request into outputs with room for what `count_parts` counts; False if it is unusual.

    The first arguments are the arrays of a `SeriesTable` whose tenants are numbers of parents.
    Without `has_histograms` all histograms are left.

    A row has the number of its point in the table, or -1 less its line in `lines` (`refs`), which
    of the series of its point it is a sample of (`offsets`), time and start timestamp (Unix ms, 0
    without one), value (`bits` are the same memory as `values`), and the number of its point in the
    request. `heads` gets all resources, scopes and metrics that are read without what they contain,
    and has room for the message. `lines` has for what is not known the number of its parent, which
    is -1 less its line if that is not known either, what it is, and its first byte, that of its
    data if it is a metric, and its end: in the message or in `heads`, see its level. `exemplars`
    has the row of the first bucket of its point, or of its sum, -1 if that is of a gauge, first and
    end of the exemplar, and of the bounds of its point (0, 0 without). `resources` has
    number, first and end in `heads`, and the least and largest time of the rows of each. `metrics`
    has the number of each metric in order, or LEFT_METRIC. `left` has first and end of those with
    the tag and the length, the row that follows, the resource, the scope, and first and end of that
    in `heads`. `state` gets the number of lines of each output. `words` and `places` are room
    for the point at hand.
    """
    table = secret, slots, hashes, parents, numbers, starts, keys, marks
    rows = refs, offsets, times, start_times, values, bits, points, words, places, exemplars
    outputs = heads, lines, resources, metrics, left, state
    for index in range(len(state)):
        state[index] = 0
    state[_LAST_ENTRY] = NOT_FOUND
    end = len(message)
    after = 0
    while after < end:
        position, after = content_bounds(message, after + 1, end)
        head = state[_HEADS_END]
        head_end = _copy_others(message, position, after, _SCOPE_METRICS, heads, head)
        if head_end < 0:
            return False
        state[_HEADS_END] = head_end
        number = _number_of(table, outputs, ROOT, RESOURCE_LEVEL, heads, head, head, head_end)
        line = state[N_RESOURCES]
        resources[line, RESOURCE_REF] = number
        resources[line, RESOURCE_FIRST], resources[line, RESOURCE_END] = head, head_end
        resources[line, RESOURCE_EARLIEST], resources[line, RESOURCE_LATEST] = _NO_TIME, -1
        state[N_RESOURCES] += 1
        while position < after:
            scope_end = field_end(message, position, after)
            if message[position] == _SCOPE_METRICS:
                first, _ = content_bounds(message, position + 1, after)
                if not _read_scope(
                    table, outputs, rows, has_histograms, number, message, first, scope_end
                ):
                    return False
            position = scope_end
    return True
