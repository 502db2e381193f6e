"""The kernels that decode remote write: fields to pieces, and samples of known series to columns.

They take any bytes. Every position is compared with the end of the message that encloses it, and
whatever is malformed or unusual is left to `promcompat.remote_write.decoder`, which parses it by
the protobuf library and words the errors.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.core.series_table_kernels import NOT_FOUND, are_equal, find_entry, load_word

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Slots = NDArray[np.int32]

UNUSUAL = -1
NO_ROOM = -2
"""Instead of a number of rows: the outputs are too small."""
_SERIES = 0x0A
_LABEL = 0x0A
_SAMPLE = 0x12
_HISTOGRAM = 0x22
_VALUE = 0x09
_TIMESTAMP = 0x10
MAX_USUAL_BYTES = 1 << 16
"""The fields of larger series are counted first, which the decoder does."""
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
HISTOGRAM_FIRST, HISTOGRAM_END, HISTOGRAM_ROW, KEY_FIRST, KEY_END = range(5)
"""The columns of the argument `histograms`."""
N_HISTOGRAM_COLUMNS = 5


@kernel(allocates=False)
def read_varint(message: Bytes, position: int, end: int) -> tuple[int, int]:
    """The number at a position, as signed, and the position after it.

    That is UNUSUAL if the number does not end before `end`, or has more than 64 bits.
    """
    value = shift = 0
    while position < end and shift < 70:
        byte = int(message[position])
        position += 1
        if shift == 63 and byte > 1:
            return value, UNUSUAL
        value |= int(byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return value, UNUSUAL


@kernel(allocates=False)
def content_bounds(message: Bytes, position: int, end: int) -> tuple[int, int]:
    """First and end of the content whose length is at a position; UNUSUAL if it does not fit."""
    if position < end and message[position] < 0x80:
        length, first = int(message[position]), position + 1
    else:
        length, first = read_varint(message, position, end)
    if first < 0 or length < 0 or length > end - first:
        return UNUSUAL, UNUSUAL
    return first, first + length


@kernel(allocates=False)
def field_end(message: Bytes, position: int, end: int) -> int:
    """The end of the field at a position, or UNUSUAL; its tag must have one byte."""
    tag = message[position]
    if tag >= 0x80 or tag < 0x08:
        return UNUSUAL
    wire_type = tag & 7
    if wire_type == _DELIMITED:
        return content_bounds(message, position + 1, end)[1]
    if wire_type == _VARINT:
        return read_varint(message, position + 1, end)[1]
    size = 9 if wire_type == _FIXED64 else 5
    if (wire_type != _FIXED64 and wire_type != _FIXED32) or size > end - position:
        return UNUSUAL
    return position + size


@kernel(allocates=False)
def _count_samples(message: Bytes, position: int, end: int) -> tuple[int, int]:
    """The samples of a series up to the first unusual field, and how many are histograms."""
    n_samples = n_histograms = 0
    while position < end:
        tag = message[position]
        if tag != _LABEL and tag != _SAMPLE and tag != _HISTOGRAM:
            break
        position = content_bounds(message, position + 1, end)[1]
        if position < 0:
            break
        n_samples += tag != _LABEL
        n_histograms += tag == _HISTOGRAM
    return n_samples, n_histograms


@kernel("UniTuple(i8, 4)(Array(u1, 1, 'C', readonly=True))", allocates=False)
def count_fields(message: Bytes) -> tuple[int, int, int, int]:
    """How many series, other fields, samples and histograms among them a WriteRequest has.

    The first number is UNUSUAL if a field is. The samples and histograms are at least as many as
    `decode_samples` finds.
    """
    position, end = 0, len(message)
    n_series = n_others = n_samples = n_histograms = 0
    while position < end:
        after = field_end(message, position, end)
        if after < 0:
            return UNUSUAL, 0, 0, 0
        if message[position] == _SERIES:
            n_series += 1
            first, _ = content_bounds(message, position + 1, end)
            found, found_histograms = _count_samples(message, first, after)
            n_samples += found
            n_histograms += found_histograms
        else:
            n_others += 1
        position = after
    return n_series, n_others, n_samples, n_histograms


@kernel("UniTuple(i8, 2)(Array(u1, 1, 'C', readonly=True))", allocates=False)
def count_series(message: Bytes) -> tuple[int, int]:
    """How many series and other fields a WriteRequest has; (UNUSUAL, 0) if a field is unusual."""
    position, end = 0, len(message)
    n_series = n_others = 0
    while position < end:
        is_series = message[position] == _SERIES
        position = field_end(message, position, end)
        if position < 0:
            return UNUSUAL, 0
        n_series += is_series
        n_others += not is_series
    return n_series, n_others


@kernel("UniTuple(i8, 2)(Array(u1, 1, 'C', readonly=True), i8, i8[::1])", allocates=False)
def split_points(message: Bytes, piece_bytes: int, ends: Ints) -> tuple[int, int]:
    """Fill `ends` with the ends of pieces of whole fields, each of at least `piece_bytes`.

    How many there are, and how many fields; (UNUSUAL, 0) if there is an unusual one. `ends` has
    room for `len(message) // piece_bytes` of them.
    """
    position, end, start = 0, len(message), 0
    n_pieces = n_fields = 0
    while position < end:
        position = field_end(message, position, end)
        if position < 0:
            return UNUSUAL, 0
        n_fields += 1
        if position - start >= piece_bytes and n_pieces < len(ends):
            ends[n_pieces] = position
            n_pieces += 1
            start = position
    return n_pieces, n_fields


@kernel(allocates=False)
def _read_samples(
    message: Bytes, position: int, end: int, timestamps: Ints, bits: Words, n_rows: int
) -> int:
    """Append the samples of a series up to its histograms; the new number of rows.

    UNUSUAL or NO_ROOM otherwise.
    """
    while position < end and message[position] != _HISTOGRAM:
        if message[position] != _SAMPLE:
            return UNUSUAL
        inner, position = content_bounds(message, position + 1, end)
        if position < 0:
            return UNUSUAL
        if n_rows >= len(timestamps):
            return NO_ROOM
        timestamp, value = 0, np.uint64(0)
        while inner < position:
            tag = message[inner]
            if tag == _VALUE:
                if inner + 9 > position:
                    return UNUSUAL
                value = load_word(message, inner + 1)
                inner += 9
            elif tag == _TIMESTAMP:
                timestamp, inner = read_varint(message, inner + 1, position)
                if inner < 0:
                    return UNUSUAL
            else:
                return UNUSUAL
        timestamps[n_rows] = timestamp
        bits[n_rows] = value
        n_rows += 1
    return n_rows


@kernel(allocates=False)
def _note_histograms(
    message: Bytes,
    position: int,
    end: int,
    key_first: int,
    timestamps: Ints,
    bits: Words,
    n_rows: int,
    histograms: Ints,
    n_histograms: int,
) -> tuple[int, int]:
    """Rows for the histograms that a series has behind its samples, and lines of `histograms`.

    The new number of each; UNUSUAL if another field is among them, and NO_ROOM.
    """
    key_end = position
    while position < end and message[position] == _SAMPLE:
        _, position = content_bounds(message, position + 1, end)
    while position < end:
        if message[position] != _HISTOGRAM:
            return UNUSUAL, UNUSUAL
        first, position = content_bounds(message, position + 1, end)
        if position < 0:
            return UNUSUAL, UNUSUAL
        if n_rows >= len(timestamps) or n_histograms >= len(histograms):
            return NO_ROOM, NO_ROOM
        histograms[n_histograms, HISTOGRAM_FIRST] = first
        histograms[n_histograms, HISTOGRAM_END] = position
        histograms[n_histograms, HISTOGRAM_ROW] = n_rows
        histograms[n_histograms, KEY_FIRST] = key_first
        histograms[n_histograms, KEY_END] = key_end
        timestamps[n_rows], bits[n_rows] = 0, np.uint64(0)
        n_histograms += 1
        n_rows += 1
    return n_rows, n_histograms


@kernel(allocates=False)
def _labels_end(message: Bytes, position: int, end: int) -> int:
    """The end of the label fields that start at a position; UNUSUAL if one does not fit."""
    while position >= 0 and position < end and message[position] == _LABEL:
        position = content_bounds(message, position + 1, end)[1]
    return position


@kernel(allocates=False)
def _note(notes: Ints, index: int, first: int, end: int, first_row: int, end_row: int) -> int:
    """Fill a line of `notes`, if it has this line, which has four columns; the next line."""
    if index < len(notes):
        notes[index, 0] = first
        notes[index, 1] = end
        notes[index, 2] = first_row
        notes[index, 3] = end_row
    return index + 1


@kernel(allocates=False)
def _key_end(
    tenants: Ints,
    table_ids: Ints,
    starts: Ints,
    keys: Bytes,
    tenant: int,
    entry: int,
    message: Bytes,
    first: int,
    end: int,
) -> int:
    """The end of the labels of a series if they are the key of an entry; UNUSUAL otherwise."""
    if entry >= len(table_ids) or table_ids[entry] == NOT_FOUND or tenants[entry] != tenant:
        return UNUSUAL
    labels_end = first + starts[entry + 1] - starts[entry]
    if labels_end > end or (labels_end < end and message[labels_end] == _LABEL):
        return UNUSUAL
    return labels_end if are_equal(message, first, labels_end, keys, starts[entry]) else UNUSUAL


@kernel(allocates=False)
def _locate(
    secret: Words,
    slots: Slots,
    hashes: Words,
    tenants: Ints,
    table_ids: Ints,
    starts: Ints,
    keys: Bytes,
    tenant: int,
    guess: int,
    message: Bytes,
    first: int,
    end: int,
) -> tuple[int, int]:
    """The entry of a series and the end of its labels; NOT_FOUND and UNUSUAL for what has none.

    The entry may be that of a removed series.
    """
    labels_end = _key_end(tenants, table_ids, starts, keys, tenant, guess, message, first, end)
    if labels_end >= 0:
        return guess, labels_end
    labels_end = _labels_end(message, first, end)
    if labels_end < 0:
        return NOT_FOUND, UNUSUAL
    entry = find_entry(
        secret, slots, hashes, tenants, starts, keys, tenant, message, first, labels_end
    )
    return entry, labels_end


@kernel(
    "UniTuple(i8, 4)(u8[::1], i4[::1], u8[::1], i8[::1], i8[::1], i8[::1], u1[::1], u1[::1], i8,"
    " Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], u8[::1], i8[:, ::1], i8[:, ::1],"
    " i8[:, ::1])",
    allocates=False,
)
def decode_samples(
    secret: Words,
    slots: Slots,
    hashes: Words,
    tenants: Ints,
    table_ids: Ints,
    starts: Ints,
    keys: Bytes,
    marks: Bytes,
    tenant: int,
    message: Bytes,
    ids: Ints,
    timestamps: Ints,
    bits: Words,
    left: Ints,
    others: Ints,
    histograms: Ints,
) -> tuple[int, int, int, int]:
    """Decode the samples of a WriteRequest; the numbers of rows and of lines of each output.

    The first one is NO_ROOM if there are more samples or histograms than rows or lines for them;
    `count_fields` tells how many there are at most. Rows of a series that is not in the table have
    the id NOT_FOUND, and the series is in `left`: start and end of its key in the message, first
    and end of its rows. A series whose fields are not labels, then samples and then histograms has
    no rows; it is in `left` with start and end of its message, its place among the rows, and
    UNUSUAL. `others` has start and end of all other fields, and zeros. `histograms` has first and
    end of each histogram, its row, which is still to be filled in, and first and end of the key of
    its series.
    """
    position, end = 0, len(message)
    n_rows = n_left = n_others = n_histograms = 0
    last_entry = NOT_FOUND
    while position < end:
        start = position
        position = field_end(message, start, end)
        if position < 0:
            break
        if message[start] != _SERIES:
            n_others = _note(others, n_others, start, position, 0, 0)
            continue
        first, _ = content_bounds(message, start + 1, end)
        # Senders repeat the order of their series, in which the entries were made.
        entry, labels_end = _locate(
            secret,
            slots,
            hashes,
            tenants,
            table_ids,
            starts,
            keys,
            tenant,
            last_entry + 1,
            message,
            first,
            position,
        )
        rows_end = UNUSUAL
        if labels_end >= 0 and position - first <= MAX_USUAL_BYTES:
            rows_end = _read_samples(message, labels_end, position, timestamps, bits, n_rows)
            if rows_end >= 0:
                rows_end, histograms_end = _note_histograms(
                    message,
                    labels_end,
                    position,
                    first,
                    timestamps,
                    bits,
                    rows_end,
                    histograms,
                    n_histograms,
                )
                n_histograms = max(n_histograms, histograms_end)
        if rows_end == NO_ROOM:
            return NO_ROOM, 0, 0, 0
        if rows_end < 0:
            n_left = _note(left, n_left, first, position, n_rows, UNUSUAL)
            continue
        # Read once: the series may be removed at any time, and may have been before.
        series_id = table_ids[entry] if entry >= 0 else NOT_FOUND
        if series_id != NOT_FOUND:
            marks[entry] = 1
            last_entry = entry
        else:
            n_left = _note(left, n_left, first, labels_end, n_rows, rows_end)
        for row in range(n_rows, rows_end):
            ids[row] = series_id
        n_rows = rows_end
    return n_rows, n_left, n_others, n_histograms
