"""The kernel that decodes the samples of known series of remote write 2.0, and finds histograms.

A series of version 2.0 names its labels by numbers of the request's symbols. Senders repeat the
order of their series, so that the labels are compared, symbol by symbol, with the key of the entry
that follows the one found before. Only those of other series are written out, to be looked up.

What is unknown, malformed, written in an unusual way, or has exemplars is left to
`symbol_kernels.write_out`.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.series_table_kernels import NOT_FOUND, are_equal, find_entry, load_word
from promcompat.remote_write.decode_kernels import (
    HISTOGRAM_END,
    HISTOGRAM_FIRST,
    HISTOGRAM_ROW,
    KEY_END,
    KEY_FIRST,
    MAX_USUAL_BYTES,
    UNUSUAL,
    Bytes,
    Ints,
    Slots,
    Words,
    content_bounds,
    read_varint,
)
from promcompat.remote_write.version_2.symbol_kernels import (
    HISTOGRAM,
    LEFT_END,
    LEFT_FIRST,
    LEFT_NUMBER,
    LEFT_ROW,
    LEFT_WRITTEN,
    METADATA,
    REFS,
    SAMPLE,
    START_TIMESTAMP,
    TIMESTAMP,
    VALUE,
    read_metadata,
)
from promcompat.remote_write.version_2.symbol_label_kernels import (
    FINE,
    METRIC_NAME,
    OUT_LABEL,
    OUT_NAME,
    OUT_TEXT,
    SLACK,
    labels_size,
    put_labels,
    read_ref,
    text_size,
)

_HEAD = np.uint64(0xFFFF_FFFF)
"""Of a short label: two tags and two lengths."""


@kernel(allocates=False)
def _after_varint(keys: Bytes, at: int, end: int, number: int) -> int:
    """The position after a number that is at a position; UNUSUAL if another one is there."""
    while number > 0x7F:
        if at >= end or keys[at] != (number & 0x7F | 0x80):
            return UNUSUAL
        number >>= 7
        at += 1
    return at + 1 if at < end and keys[at] == number else UNUSUAL


@kernel(allocates=False)
def _are_words_equal(message: Bytes, first: int, end: int, keys: Bytes, at: int) -> bool:
    """Whether `message[first:end]` are the bytes of `keys` from `at` on, as many; at least one.

    Up to 7 bytes more are read of both, which the caller checks.
    """
    while end - first > 8:
        if load_word(message, first) != load_word(keys, at):
            return False
        first += 8
        at += 8
    different = load_word(message, first) ^ load_word(keys, at)
    return bool(different << np.uint64(64 - 8 * (end - first)) == np.uint64(0))


@kernel(allocates=False)
def _after_text(
    message: Bytes, first: int, end: int, tag: int, keys: Bytes, at: int, key_end: int
) -> int:
    """The position after the field of a name or a value; UNUSUAL if the key has another one."""
    length = end - first
    if length == 0:
        return at
    if at >= key_end or keys[at] != tag:
        return UNUSUAL
    at = _after_varint(keys, at + 1, key_end, length)
    if at < 0 or length > key_end - at or not are_equal(message, first, end, keys, at):
        return UNUSUAL
    return at + length


@kernel(allocates=False)
def _after_label(
    message: Bytes, symbols: Ints, name: int, value: int, keys: Bytes, at: int, key_end: int
) -> int:
    """The position after a label of any length; UNUSUAL if the key has another one."""
    name_first, name_end = symbols[name, 0], symbols[name, 1]
    value_first, value_end = symbols[value, 0], symbols[value, 1]
    if at >= key_end or keys[at] != OUT_LABEL:
        return UNUSUAL
    content = text_size(name_end - name_first) + text_size(value_end - value_first)
    at = _after_varint(keys, at + 1, key_end, content)
    if at >= 0:
        at = _after_text(message, name_first, name_end, OUT_NAME, keys, at, key_end)
    if at >= 0:
        at = _after_text(message, value_first, value_end, OUT_TEXT, keys, at, key_end)
    return at


@kernel(allocates=False)
def _after_short_label(
    message: Bytes, symbols: Ints, name: int, value: int, keys: Bytes, at: int, key_end: int
) -> int:
    """The same for a label of up to 127 bytes in all, by words: takes 2/5 of the time."""
    name_first, name_end = symbols[name, 0], symbols[name, 1]
    value_first, value_end = symbols[value, 0], symbols[value, 1]
    n_name, n_value = name_end - name_first, value_end - value_first
    content = n_name + n_value + 4
    if (
        n_name == 0
        or n_value == 0
        or content > 0x7F
        or at + content + 2 + SLACK > len(keys)
        or max(name_end, value_end) + SLACK > len(message)
    ):
        return _after_label(message, symbols, name, value, keys, at, key_end)
    head = OUT_LABEL | content << 8 | OUT_NAME << 16 | n_name << 24
    value_head = at + 4 + n_name
    if (
        content + 2 <= key_end - at
        and load_word(keys, at) & _HEAD == np.uint64(head)
        and _are_words_equal(message, name_first, name_end, keys, at + 4)
        and keys[value_head] == OUT_TEXT
        and keys[value_head + 1] == n_value
        and _are_words_equal(message, value_first, value_end, keys, value_head + 2)
    ):
        return int(at + content + 2)
    return UNUSUAL


@kernel(allocates=False)
def _is_key(
    message: Bytes, first: int, end: int, symbols: Ints, keys: Bytes, at: int, key_end: int
) -> bool:
    """Whether packed references are to the labels of the key `keys[at:key_end]`."""
    while first < end:
        name, first = read_ref(message, first, end)
        if first < 0 or first >= end:
            return False
        value, first = read_ref(message, first, end)
        if first < 0 or name >= len(symbols) or value >= len(symbols):
            return False
        at = _after_short_label(message, symbols, name, value, keys, at, key_end)
        if at < 0:
            return False
    return at == key_end


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
    symbols: Ints,
    key: Bytes,
    scratch: Ints,
) -> int:
    """The entry of the series whose labels have these packed references, or NOT_FOUND.

    `guess` is tried first. A key that does not fit into `key` is not looked up.
    """
    if (
        guess < len(table_ids)
        and table_ids[guess] != NOT_FOUND
        and tenants[guess] == tenant
        and _is_key(message, first, end, symbols, keys, starts[guess], starts[guess + 1])
    ):
        return guess
    if len(table_ids) == 0:
        return NOT_FOUND
    fault, size = labels_size(message, first, end, symbols, scratch)
    if fault != FINE or size + SLACK > len(key):
        return NOT_FOUND
    put_labels(message, first, end, symbols, key, 0)
    entry = find_entry(secret, slots, hashes, tenants, starts, keys, tenant, key, 0, size)
    return entry if entry >= 0 and table_ids[entry] != NOT_FOUND else NOT_FOUND


@kernel(allocates=False)
def _read_sample(
    message: Bytes, inner: int, end: int, timestamps: Words, bits: Words, row: int
) -> int:
    """Fill a row; how many start timestamps the sample has, or UNUSUAL."""
    timestamp, value, n_starts = 0, np.uint64(0), 0
    while 0 <= inner < end:
        tag = message[inner]
        if tag == VALUE:
            if inner + 9 > end:
                return UNUSUAL
            value = load_word(message, inner + 1)
            inner += 9
        elif tag == TIMESTAMP:
            timestamp, inner = read_varint(message, inner + 1, end)
        elif tag == START_TIMESTAMP:
            n_starts += 1
            _, inner = read_varint(message, inner + 1, end)
        else:
            return UNUSUAL
    if inner < 0:
        return UNUSUAL
    timestamps[row], bits[row] = np.uint64(timestamp), value
    return n_starts


@kernel(allocates=False)
def _metric_name_ref(message: Bytes, first: int, end: int, symbols: Ints) -> int:
    """The reference of the last metric name among labels that are known; UNUSUAL for none."""
    found = UNUSUAL
    while first < end:
        name, first = read_ref(message, first, end)
        value, first = read_ref(message, first, end)
        start = symbols[name, 0]
        if symbols[name, 1] - start == 8 and load_word(message, start) == METRIC_NAME:
            found = value
    return found


@kernel(allocates=False)
def _note_metadata(
    message: Bytes,
    first: int,
    end: int,
    refs: int,
    refs_end: int,
    symbols: Ints,
    latest: Ints,
    metadata: Ints,
    n_lines: int,
) -> int:
    """Add a line for a known series unless the last one of its metric is the same.

    The new number of lines, or UNUSUAL if something is wrong with the metadata.
    """
    if first == end:
        return n_lines
    if read_metadata(message, first, end, len(symbols), metadata, n_lines) != FINE:
        return UNUSUAL
    is_empty = metadata[n_lines, 1] == 0 and metadata[n_lines, 2] == 0 and metadata[n_lines, 3] == 0
    if is_empty:
        return n_lines
    name = _metric_name_ref(message, refs, refs_end, symbols)
    if name < 0:
        return UNUSUAL
    is_new = False
    for column in range(3):
        is_new |= latest[name, column] != metadata[n_lines, column + 1]
        latest[name, column] = metadata[n_lines, column + 1]
    metadata[n_lines, 0] = name
    return n_lines + int(is_new)


@kernel(allocates=False)
def _note_histogram(
    first: int, end: int, row: int, timestamps: Words, bits: Words, histograms: Ints, line: int
) -> None:
    """Add a line for a histogram, whose row is filled in later."""
    histograms[line, HISTOGRAM_FIRST], histograms[line, HISTOGRAM_END] = first, end
    histograms[line, HISTOGRAM_ROW] = row
    timestamps[row] = bits[row] = np.uint64(0)


@kernel(allocates=False)
def _read_fields(
    message: Bytes,
    first: int,
    end: int,
    timestamps: Words,
    bits: Words,
    row: int,
    histograms: Ints,
    n_histograms: int,
    scratch: Ints,
) -> int:
    """Read what follows the labels of a series; the row after its samples, or UNUSUAL.

    `scratch` gets first and end of the metadata, and the numbers of start timestamps and of lines
    of `histograms`.
    """
    first_row, refs_end, largest_tag = row, first, SAMPLE
    scratch[0] = scratch[1] = scratch[2] = 0
    while first < end:
        tag = message[first]
        if (tag != SAMPLE and tag != HISTOGRAM and tag != METADATA) or tag < largest_tag:
            return UNUSUAL
        largest_tag = int(tag)
        inner, first = content_bounds(message, first + 1, end)
        if first < 0:
            return UNUSUAL
        if tag == METADATA:
            if scratch[1]:
                return UNUSUAL
            scratch[0], scratch[1] = inner, first
            continue
        if row >= len(timestamps):
            return UNUSUAL
        if tag == HISTOGRAM:
            if n_histograms >= len(histograms) or end - refs_end > MAX_USUAL_BYTES:
                return UNUSUAL
            _note_histogram(inner, first, row, timestamps, bits, histograms, n_histograms)
            n_histograms += 1
        else:
            n_starts = _read_sample(message, inner, first, timestamps, bits, row)
            if n_starts < 0:
                return UNUSUAL
            scratch[2] += n_starts
        row += 1
    scratch[3] = n_histograms
    return row if row > first_row else UNUSUAL


@kernel(
    "UniTuple(i8, 6)(u8[::1], i4[::1], u8[::1], i8[::1], i8[::1], i8[::1], u1[::1], u1[::1], i8,"
    " Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[:, ::1], i8, i8[::1], u8[::1], u8[::1],"
    " i8[:, ::1], i8[:, ::1], i8, i8[:, ::1], i8[:, ::1], u1[::1], i8[::1])",
    allocates=False,
)
def decode_known(
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
    symbols: Ints,
    series: Ints,
    first_series: int,
    ids: Ints,
    timestamps: Words,
    bits: Words,
    left: Ints,
    histograms: Ints,
    max_histogram_bytes: int,
    metadata: Ints,
    latest: Ints,
    key: Bytes,
    scratch: Ints,
) -> tuple[int, int, int, int, int, int]:
    """Decode known series from `first_series` on, until an output is nearly full.

    Returns the number of the next series, of rows, of left series, of lines of `histograms` and of
    `metadata` (as in `symbol_kernels.write_out`), and of start timestamps of floats. `left` gets
    first and end of the message of a series, its place among the rows, 0, and its number.
    `histograms` is as that of `decode_kernels.decode_samples`, with the message of the series in
    place of its key; it also ends when series with histograms take so many bytes. `latest` has a
    line for each symbol, zeros at first. `key` and `scratch` are room for the series at hand.
    `timestamps` gets the bits of the numbers.
    """
    n_rows = n_left = n_lines = n_starts = n_histograms = n_histogram_bytes = 0
    last_entry, number = NOT_FOUND, first_series
    while (
        number < len(series)
        and n_left < len(left)
        and n_lines < len(metadata)
        and 2 * n_rows < len(ids) + 1
        and n_histogram_bytes < max_histogram_bytes
    ):
        first, end = series[number, 0], series[number, 1]
        entry, rows_end, line_end = NOT_FOUND, UNUSUAL, UNUSUAL
        meta_first = meta_end = found_starts = histograms_end = 0
        if first < end and message[first] == REFS:
            refs, refs_end = content_bounds(message, first + 1, end)
            if refs_end >= 0:
                rows_end = _read_fields(
                    message,
                    refs_end,
                    end,
                    timestamps,
                    bits,
                    n_rows,
                    histograms,
                    n_histograms,
                    scratch,
                )
            if rows_end >= 0:
                meta_first, meta_end, found_starts = scratch[0], scratch[1], scratch[2]
                histograms_end = scratch[3]
                # Senders repeat the order of their series, in which the entries were made.
                entry = _locate(
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
                    refs,
                    refs_end,
                    symbols,
                    key,
                    scratch,
                )
            if entry >= 0:
                line_end = _note_metadata(
                    message,
                    meta_first,
                    meta_end,
                    refs,
                    refs_end,
                    symbols,
                    latest,
                    metadata,
                    n_lines,
                )
        if line_end < 0:
            left[n_left, LEFT_FIRST], left[n_left, LEFT_END] = first, end
            left[n_left, LEFT_ROW], left[n_left, LEFT_WRITTEN] = n_rows, 0
            left[n_left, LEFT_NUMBER] = number
            n_left += 1
        else:
            for row in range(n_rows, rows_end):
                ids[row] = table_ids[entry]
            marks[entry] = 1
            last_entry, n_rows, n_lines = entry, rows_end, line_end
            n_starts += found_starts
            if histograms_end > n_histograms:
                n_histogram_bytes += end - first
            for line in range(n_histograms, histograms_end):
                histograms[line, KEY_FIRST], histograms[line, KEY_END] = first, end
            n_histograms = histograms_end
        number += 1
    return number, n_rows, n_left, n_histograms, n_lines, n_starts
