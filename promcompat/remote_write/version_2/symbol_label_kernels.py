"""How labels of remote write 2.0, which are numbers of symbols, are written out as those of 1.0.

The bytes are the key under which their series is known, whatever version its sender speaks.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.series_table_kernels import load_word
from promcompat.remote_write.decode_kernels import UNUSUAL, Bytes, Ints, read_varint

OUT_LABEL, OUT_NAME, OUT_TEXT = 0x0A, 0x0A, 0x12
"""The tags of a label that is written out."""
METRIC_NAME = np.uint64(int.from_bytes(b"__name__", "little"))
SLACK = 8
"""Bytes at the end of the output that hold nothing: texts are copied by words."""
NAME_REF = 0
"""The place of the reference of the metric's name in the argument `scratch`."""
(
    FINE,
    NOT_CANONICAL,
    ODD_REFS,
    REF_OUTSIDE,
    METADATA_REF_OUTSIDE,
    NO_SAMPLES,
    LABELS_TOO_LONG,
    EXEMPLAR_REFS,
) = range(8)
"""What is wrong with a series; with EXEMPLAR_REFS only with an exemplar of it."""
_BYTE = np.uint64(0xFF)


@kernel(allocates=False)
def _varint_size(number: int) -> int:
    size = 1
    while number > 0x7F:
        number >>= 7
        size += 1
    return size


@kernel(allocates=False)
def field_size(length: int) -> int:
    """The bytes of a field whose content has a length."""
    return 1 + _varint_size(length) + length


@kernel(allocates=False)
def put_varint(out: Bytes, at: int, number: int) -> int:
    while number > 0x7F:
        out[at] = number & 0x7F | 0x80
        number >>= 7
        at += 1
    out[at] = number
    return at + 1


@kernel(allocates=False)
def copy(message: Bytes, first: int, end: int, out: Bytes, at: int) -> int:
    """Copy bytes and return the end; up to 7 bytes more are written, which come to be overwritten.

    A loop over bytes takes several times as long.
    """
    after = at + end - first
    if end + 8 <= len(message):
        while at < after:
            word = load_word(message, first)
            for index in range(8):
                out[at + index] = np.uint8(word >> np.uint64(8 * index) & _BYTE)
            at += 8
            first += 8
        return after
    for position in range(first, end):
        out[at] = message[position]
        at += 1
    return after


@kernel(allocates=False)
def text_size(length: int) -> int:
    """The bytes of a text field in one of a label; an empty one is left out."""
    return field_size(length) if length else 0


@kernel(allocates=False)
def read_ref(message: Bytes, position: int, end: int) -> tuple[int, int]:
    """A reference and the position after it, UNUSUAL if it is not written as usual."""
    if position < end and message[position] < 0x80:
        return int(message[position]), position + 1
    if position + 1 < end and message[position + 1] < 0x80:
        return int(message[position] & 0x7F) | int(message[position + 1]) << 7, position + 2
    ref, position = read_varint(message, position, end)
    if position < 0 or ref < 0 or ref > 0xFFFFFFFF:
        return 0, UNUSUAL
    return ref, position


@kernel(allocates=False)
def labels_size(
    message: Bytes, first: int, end: int, symbols: Ints, scratch: Ints
) -> tuple[int, int]:
    """What is wrong with packed references to labels, and the bytes of these labels as fields.

    The reference of the metric's name goes into `scratch`.
    """
    scratch[NAME_REF] = UNUSUAL
    size = name_bytes = 0
    is_name, is_metric = True, False
    outside = False
    while first < end:
        ref, first = read_ref(message, first, end)
        if first < 0:
            return NOT_CANONICAL, 0
        if ref >= len(symbols):
            outside, is_name = True, not is_name
            continue
        start, length = symbols[ref, 0], symbols[ref, 1] - symbols[ref, 0]
        if is_name:
            name_bytes = text_size(length)
            is_metric = length == 8 and load_word(message, start) == METRIC_NAME
        else:
            content = name_bytes + text_size(length)
            size += field_size(content)
            if is_metric:
                scratch[NAME_REF] = ref
        is_name = not is_name
    if not is_name:
        return ODD_REFS, 0
    return (REF_OUTSIDE, 0) if outside else (FINE, size)


@kernel(allocates=False)
def _put_text(message: Bytes, symbols: Ints, ref: int, tag: int, out: Bytes, at: int) -> int:
    start, end = symbols[ref, 0], symbols[ref, 1]
    if start == end:
        return at
    out[at] = tag
    at = put_varint(out, at + 1, end - start)
    return copy(message, start, end, out, at)


@kernel(allocates=False)
def put_labels(message: Bytes, first: int, end: int, symbols: Ints, out: Bytes, at: int) -> int:
    """Write the labels whose references `labels_size` found to be right."""
    while first < end:
        name, first = read_ref(message, first, end)
        value, first = read_ref(message, first, end)
        content = text_size(symbols[name, 1] - symbols[name, 0])
        content += text_size(symbols[value, 1] - symbols[value, 0])
        out[at] = OUT_LABEL
        at = put_varint(out, at + 1, content)
        at = _put_text(message, symbols, name, OUT_NAME, out, at)
        at = _put_text(message, symbols, value, OUT_TEXT, out, at)
    return at
