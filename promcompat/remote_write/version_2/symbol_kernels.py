"""The kernels of remote write 2.0: they write its series out as those of remote write 1.0.

A series of version 2.0 names its labels by numbers of the request's symbols. Written out, its
labels are the key under which the series is known already, whatever version its sender speaks.

The kernels take any bytes: every position is compared with the end of the message that encloses it.
What is malformed or written in an unusual way is NOT_CANONICAL:
`promcompat.remote_write.version_2.request` parses it by the protobuf library, and writes it as
usual.
"""

from promcompat.core.compiled_kernels import kernel
from promcompat.remote_write.decode_kernels import (
    UNUSUAL,
    Bytes,
    Ints,
    content_bounds,
    field_end,
    read_varint,
)
from promcompat.remote_write.version_2.symbol_label_kernels import (
    EXEMPLAR_REFS,
    FINE,
    LABELS_TOO_LONG,
    METADATA_REF_OUTSIDE,
    NAME_REF,
    NO_SAMPLES,
    NOT_CANONICAL,
    SLACK,
    copy,
    field_size,
    labels_size,
    put_labels,
    put_varint,
)

_SYMBOL, _SERIES = 0x22, 0x2A
"""The tags of a Request."""
REFS, SAMPLE, HISTOGRAM, _EXEMPLAR, METADATA = 0x0A, 0x12, 0x1A, 0x22, 0x2A
_UNPACKED_REF = 0x08
"""The tags of a TimeSeries."""
VALUE, TIMESTAMP, START_TIMESTAMP = 0x09, 0x10, 0x18
"""The tags of a Sample."""
_EXEMPLAR_VALUE, _EXEMPLAR_TIMESTAMP = 0x11, 0x18
_TYPE, _HELP_REF, _UNIT_REF = 0x08, 0x18, 0x20
_OUT_SERIES, _OUT_SAMPLE, _OUT_EXEMPLAR, _OUT_HISTOGRAM = 0x0A, 0x12, 0x1A, 0x22
_MAX_EXEMPLAR_BYTES = 512
"""The labels of an exemplar have at most 128 characters."""
N_SAMPLES, N_HISTOGRAMS, N_EXEMPLARS, N_LONG_EXEMPLARS, N_START_TIMESTAMPS = range(5)
"""The places of the counts in the argument `totals`."""
N_TOTALS = 5
(
    _REFS_FIRST,
    _REFS_END,
    _META_FIRST,
    _META_END,
    _LABEL_BYTES,
    _OUT_BYTES,
    _SAMPLES,
    _HISTOGRAMS,
    _EXEMPLARS,
    _LONG_EXEMPLARS,
    _STARTS,
    _BAD_EXEMPLARS,
) = range(NAME_REF + 1, NAME_REF + 13)
N_SCRATCH = NAME_REF + 13
"""The elements of the argument `scratch`, which describes the series at hand."""
LEFT_FIRST, LEFT_END, LEFT_ROW, LEFT_WRITTEN, LEFT_NUMBER = range(5)
"""The columns of the argument `left`."""
N_LEFT_COLUMNS = 5


@kernel(
    "UniTuple(i8, 2)(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[:, ::1])", allocates=False
)
def find_parts(message: Bytes, symbols: Ints, series: Ints) -> tuple[int, int]:
    """How many symbols and series a Request has; UNUSUAL first if its fields are not as usual.

    `symbols` and `series` get first and end of each, as far as they have room.
    """
    position, end = 0, len(message)
    n_symbols = n_series = 0
    while position < end:
        start = position
        position = field_end(message, start, end)
        if position < 0:
            return UNUSUAL, 0
        tag = message[start]
        if tag != _SYMBOL and tag != _SERIES:
            if tag >> 3 == _SYMBOL >> 3 or tag >> 3 == _SERIES >> 3:
                return UNUSUAL, 0
            continue
        first, _ = content_bounds(message, start + 1, end)
        if tag == _SYMBOL:
            if n_symbols < len(symbols):
                symbols[n_symbols, 0], symbols[n_symbols, 1] = first, position
            n_symbols += 1
        else:
            if n_series < len(series):
                series[n_series, 0], series[n_series, 1] = first, position
            n_series += 1
    return n_symbols, n_series


@kernel(allocates=False)
def _sample_size(message: Bytes, first: int, end: int, scratch: Ints) -> int:
    """The bytes of a sample without its start timestamp; UNUSUAL if it is not as usual."""
    size = end - first
    while first < end:
        tag, start = message[first], first
        if tag != VALUE and tag != TIMESTAMP and tag != START_TIMESTAMP:
            return UNUSUAL
        first = field_end(message, start, end)
        if first < 0:
            return UNUSUAL
        if tag == START_TIMESTAMP:
            size -= first - start
            scratch[_STARTS] += 1
    return size


@kernel(allocates=False)
def _put_sample(message: Bytes, first: int, end: int, size: int, out: Bytes, at: int) -> int:
    out[at] = _OUT_SAMPLE
    at = put_varint(out, at + 1, size)
    while first < end:
        after = field_end(message, first, end)
        if message[first] != START_TIMESTAMP:
            at = copy(message, first, after, out, at)
        first = after
    return at


@kernel(allocates=False)
def _exemplar_size(
    message: Bytes, first: int, end: int, symbols: Ints, scratch: Ints
) -> tuple[int, int]:
    """What is wrong with an exemplar, and the bytes of its content."""
    size, n_refs = end - first, 0
    while first < end:
        tag, start = message[first], first
        if tag != REFS and tag != _EXEMPLAR_VALUE and tag != _EXEMPLAR_TIMESTAMP:
            return NOT_CANONICAL, 0
        first = field_end(message, start, end)
        if first < 0:
            return NOT_CANONICAL, 0
        if tag == REFS:
            n_refs += 1
            inner, _ = content_bounds(message, start + 1, end)
            name_ref = scratch[NAME_REF]
            fault, label_bytes = labels_size(message, inner, first, symbols, scratch)
            scratch[NAME_REF] = name_ref
            if fault != FINE or n_refs > 1:
                return (NOT_CANONICAL if fault == FINE else fault), 0
            if label_bytes > _MAX_EXEMPLAR_BYTES:
                return LABELS_TOO_LONG, 0
            size += label_bytes - (first - start)
    return FINE, size


@kernel(allocates=False)
def _put_exemplar(
    message: Bytes, first: int, end: int, size: int, symbols: Ints, out: Bytes, at: int
) -> int:
    out[at] = _OUT_EXEMPLAR
    at = put_varint(out, at + 1, size)
    while first < end:
        after = field_end(message, first, end)
        if message[first] == REFS:
            inner, _ = content_bounds(message, first + 1, end)
            at = put_labels(message, inner, after, symbols, out, at)
        else:
            at = copy(message, first, after, out, at)
        first = after
    return at


@kernel(allocates=False)
def _find_labels(message: Bytes, first: int, end: int, symbols: Ints, scratch: Ints) -> int:
    """Note references, metadata and the size of the labels of a series; what is wrong with it."""
    for place in range(N_SCRATCH):
        scratch[place] = 0
    scratch[NAME_REF] = UNUSUAL
    n_refs = n_metadata = 0
    while first < end:
        tag, start = message[first], first
        first = field_end(message, start, end)
        if first < 0 or tag == _UNPACKED_REF:
            return NOT_CANONICAL
        if tag == REFS:
            n_refs += 1
            scratch[_REFS_FIRST], _ = content_bounds(message, start + 1, end)
            scratch[_REFS_END] = first
        elif tag == METADATA:
            n_metadata += 1
            scratch[_META_FIRST], _ = content_bounds(message, start + 1, end)
            scratch[_META_END] = first
    if n_refs > 1 or n_metadata > 1:
        return NOT_CANONICAL
    fault, scratch[_LABEL_BYTES] = labels_size(
        message, scratch[_REFS_FIRST], scratch[_REFS_END], symbols, scratch
    )
    return fault


@kernel(allocates=False)
def _measure(
    message: Bytes, first: int, end: int, symbols: Ints, max_label_bytes: int, scratch: Ints
) -> int:
    """Fill `scratch` for a series; what is wrong with it."""
    fault = _find_labels(message, first, end, symbols, scratch)
    is_too_long = scratch[_LABEL_BYTES] > max_label_bytes
    size = scratch[_LABEL_BYTES]
    while first < end and fault != NOT_CANONICAL:
        tag, start = message[first], first
        first = field_end(message, start, end)
        if tag != SAMPLE and tag != _EXEMPLAR and tag != HISTOGRAM:
            continue
        inner, _ = content_bounds(message, start + 1, end)
        if tag == HISTOGRAM:
            scratch[_HISTOGRAMS] += 1
            size += field_size(first - inner)
            continue
        if tag == SAMPLE:
            scratch[_SAMPLES] += 1
            content = _sample_size(message, inner, first, scratch)
            if content < 0:
                return NOT_CANONICAL
        else:
            scratch[_EXEMPLARS] += 1
            wrong, content = _exemplar_size(message, inner, first, symbols, scratch)
            if wrong == NOT_CANONICAL:
                return NOT_CANONICAL
            if wrong != FINE:
                scratch[_LONG_EXEMPLARS] += wrong == LABELS_TOO_LONG
                scratch[_BAD_EXEMPLARS] += wrong != LABELS_TOO_LONG
                continue
        size += field_size(content)
    scratch[_OUT_BYTES] = size
    if fault == FINE and is_too_long:
        return LABELS_TOO_LONG
    if fault == FINE and not (scratch[_SAMPLES] or scratch[_HISTOGRAMS] or scratch[_EXEMPLARS]):
        return NO_SAMPLES
    return fault


@kernel(allocates=False)
def _put_series(
    message: Bytes, first: int, end: int, symbols: Ints, scratch: Ints, out: Bytes, at: int
) -> int:
    """Write a series of which `_measure` found nothing wrong."""
    out[at] = _OUT_SERIES
    at = put_varint(out, at + 1, scratch[_OUT_BYTES])
    at = put_labels(message, scratch[_REFS_FIRST], scratch[_REFS_END], symbols, out, at)
    n_exemplars, n_histograms = scratch[_EXEMPLARS], scratch[_HISTOGRAMS]
    for wanted in (SAMPLE, _EXEMPLAR, HISTOGRAM):
        is_absent = (wanted == _EXEMPLAR and not n_exemplars) or (
            wanted == HISTOGRAM and not n_histograms
        )
        position = end if is_absent else first
        while position < end:
            tag, start = message[position], position
            position = field_end(message, start, end)
            if tag != wanted:
                continue
            inner, _ = content_bounds(message, start + 1, end)
            if tag == HISTOGRAM:
                # Both versions have the same message.
                out[at] = _OUT_HISTOGRAM
                at = put_varint(out, at + 1, position - inner)
                at = copy(message, inner, position, out, at)
                continue
            if tag == SAMPLE:
                size = _sample_size(message, inner, position, scratch)
                at = _put_sample(message, inner, position, size, out, at)
                continue
            wrong, size = _exemplar_size(message, inner, position, symbols, scratch)
            if wrong == FINE:
                at = _put_exemplar(message, inner, position, size, symbols, out, at)
    return at


@kernel(allocates=False)
def read_metadata(
    message: Bytes, first: int, end: int, n_symbols: int, metadata: Ints, line: int
) -> int:
    """Fill a line of `metadata` after its first column; what is wrong with it."""
    metadata[line, 1] = metadata[line, 2] = metadata[line, 3] = 0
    while first < end:
        tag = message[first]
        if tag != _TYPE and tag != _HELP_REF and tag != _UNIT_REF:
            return NOT_CANONICAL
        number, first = read_varint(message, first + 1, end)
        if first < 0 or number < 0 or number > 0xFFFFFFFF:
            return NOT_CANONICAL
        if tag == _TYPE:
            metadata[line, 1] = number
        elif number >= n_symbols:
            return METADATA_REF_OUTSIDE
        else:
            metadata[line, 2 if tag == _HELP_REF else 3] = number
    return FINE


@kernel(allocates=False)
def _examine(
    message: Bytes,
    first: int,
    end: int,
    symbols: Ints,
    max_label_bytes: int,
    metadata: Ints,
    line: int,
    scratch: Ints,
) -> tuple[int, int]:
    """What is wrong with a series, and how many lines of metadata it has (0 or 1)."""
    fault = _measure(message, first, end, symbols, max_label_bytes, scratch)
    meta_first, meta_end = scratch[_META_FIRST], scratch[_META_END]
    if fault != FINE or meta_first == meta_end:
        return fault, 0
    metadata[line, 0] = scratch[NAME_REF]
    fault = read_metadata(message, meta_first, meta_end, len(symbols), metadata, line)
    is_empty = metadata[line, 1] == 0 and metadata[line, 2] == 0 and metadata[line, 3] == 0
    return fault, int(fault == FINE and not is_empty)


@kernel(allocates=False)
def _count(scratch: Ints, totals: Ints) -> None:
    totals[N_SAMPLES] += scratch[_SAMPLES]
    totals[N_HISTOGRAMS] += scratch[_HISTOGRAMS]
    totals[N_EXEMPLARS] += scratch[_EXEMPLARS]
    totals[N_LONG_EXEMPLARS] += scratch[_LONG_EXEMPLARS]
    totals[N_START_TIMESTAMPS] += scratch[_STARTS]


@kernel(
    "UniTuple(i8, 4)(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[:, ::1], i8, i8, u1[::1],"
    " i8[:, ::1], i8[:, ::1], i8[::1], i8[::1])",
    allocates=False,
)
def write_out(
    message: Bytes,
    symbols: Ints,
    left: Ints,
    first_left: int,
    max_label_bytes: int,
    out: Bytes,
    faults: Ints,
    metadata: Ints,
    totals: Ints,
    scratch: Ints,
) -> tuple[int, int, int, int]:
    """Write series of `left`, from a line on, as a WriteRequest of version 1.0 into `out`.

    Returns the next line, the bytes written, and the lines of `faults` and `metadata`. `left` has
    first and end of the message of each series, and gets how many samples and histograms of it are
    written. It
    ends when an output is full, and before a series that is NOT_CANONICAL, for which it adds a
    fault. If not even the first series fits, nothing is written, and the second number
    is how many bytes `out` needs. `faults` has line and fault, `metadata` the symbols of the
    metric's name (UNUSUAL: it has none), type, and symbols of help and unit. `totals` counts what
    the series have that were read, faulty ones included.
    """
    at = n_faults = n_metadata = 0
    number = first_left
    while number < len(left) and n_faults < len(faults) and n_metadata < len(metadata):
        first, end = left[number, LEFT_FIRST], left[number, LEFT_END]
        fault, n_lines = _examine(
            message, first, end, symbols, max_label_bytes, metadata, n_metadata, scratch
        )
        size = scratch[_OUT_BYTES]
        is_written = fault == FINE and size > scratch[_LABEL_BYTES]
        if is_written and at + field_size(size) + SLACK > len(out):
            if at == 0:
                return number, field_size(size) + SLACK, 0, 0
            break
        if fault == FINE and scratch[_BAD_EXEMPLARS]:
            fault = EXEMPLAR_REFS
        if fault != FINE:
            faults[n_faults, 0], faults[n_faults, 1] = number, fault
            n_faults += 1
        if fault == NOT_CANONICAL:
            break
        _count(scratch, totals)
        if is_written:
            at = _put_series(message, first, end, symbols, scratch, out, at)
        left[number, LEFT_WRITTEN] = scratch[_SAMPLES] + scratch[_HISTOGRAMS] if is_written else 0
        n_metadata += n_lines
        number += 1
    return number, at, n_faults, n_metadata
