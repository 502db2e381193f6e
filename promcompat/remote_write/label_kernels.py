"""The kernel that reads the labels of new series which are written as usual.

It takes any bytes. Whatever is malformed, over a limit or not plain ASCII is left to
`promcompat.remote_write.series_key`, which words the errors.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.series_table_kernels import load_word
from promcompat.remote_write.decode_kernels import UNUSUAL, Bytes, Ints, content_bounds

_LABEL = 0x0A
_NAME = 0x0A
_VALUE = 0x12
_METRIC_NAME = np.uint64(int.from_bytes(b"__name__", "little"))
_QUOTE, _BACKSLASH, _COMMA, _COLON, _OPEN, _CLOSE = 0x22, 0x5C, 0x2C, 0x3A, 0x7B, 0x7D
MAX_NAMES, MAX_NAME_BYTES, MAX_VALUE_BYTES, MAX_METRIC_NAME_BYTES, MAX_BYTES = range(5)
"""The places of the limits in the argument `limits`."""
NAME_FIRST, NAME_END, TEXT_END, DOCUMENT_END = range(4)
"""The columns of the argument `places`."""


@kernel(allocates=False)
def _copy_plain(keys: Bytes, first: int, end: int, out: Bytes, at: int) -> int:
    """Copy bytes that are printable ASCII and need no escape in JSON; UNUSUAL if one is not."""
    for position in range(first, end):
        byte = keys[position]
        if byte < 0x20 or byte > 0x7E or byte in (_QUOTE, _BACKSLASH):
            return UNUSUAL
        out[at] = byte
        at += 1
    return at


@kernel(allocates=False)
def _is_less(keys: Bytes, first: int, end: int, other: int, other_end: int) -> bool:
    """Whether the bytes from `first` to `end` come before those from `other` to `other_end`."""
    while first < end and other < other_end:
        if keys[first] != keys[other]:
            return bool(keys[first] < keys[other])
        first += 1
        other += 1
    return other < other_end


@kernel(allocates=False)
def _label(keys: Bytes, position: int, end: int) -> tuple[int, int, int, int]:
    """First and end of the name and of the value of the label at a position; UNUSUAL first."""
    if keys[position] != _LABEL:
        return UNUSUAL, 0, 0, 0
    first, after = content_bounds(keys, position + 1, end)
    if first < 0 or first >= after or keys[first] != _NAME:
        return UNUSUAL, 0, 0, 0
    name, name_end = content_bounds(keys, first + 1, after)
    if name < 0 or name_end >= after or keys[name_end] != _VALUE:
        return UNUSUAL, 0, 0, 0
    value, value_end = content_bounds(keys, name_end + 1, after)
    if value < 0 or value_end != after:
        return UNUSUAL, 0, 0, 0
    return name, name_end, value, value_end


@kernel(allocates=False)
def _exceeds(
    name: int, name_end: int, value: int, value_end: int, n_labels: int, limits: Ints
) -> bool:
    """Whether a label is empty in part or over a limit."""
    return (
        name == name_end
        or value == value_end
        or name_end - name > limits[MAX_NAME_BYTES]
        or value_end - value > limits[MAX_VALUE_BYTES]
        or n_labels > limits[MAX_NAMES]
    )


@kernel(allocates=False)
def _write_text(
    keys: Bytes, name: int, name_end: int, value: int, value_end: int, out: Bytes, at: int
) -> int:
    """Write name, NUL and value; returns the end, or UNUSUAL if they are not plain."""
    at = _copy_plain(keys, name, name_end, out, at)
    if at < 0:
        return UNUSUAL
    out[at] = 0
    return _copy_plain(keys, value, value_end, out, at + 1)


@kernel(allocates=False)
def _write_member(
    keys: Bytes, name: int, name_end: int, value: int, value_end: int, out: Bytes, at: int
) -> int:
    """Write `"name":"value"`, both known to be plain; returns the end."""
    out[at] = _QUOTE
    at = _copy_plain(keys, name, name_end, out, at + 1)
    out[at], out[at + 1], out[at + 2] = _QUOTE, _COLON, _QUOTE
    at = _copy_plain(keys, value, value_end, out, at + 3)
    out[at] = _QUOTE
    return at + 1


@kernel(allocates=False)
def _describe(
    keys: Bytes,
    position: int,
    end: int,
    limits: Ints,
    texts: Bytes,
    text_at: int,
    documents: Bytes,
    document_at: int,
) -> tuple[int, int, int, int]:
    """The four columns of `places` for one key; UNUSUAL for the first if it is not as usual."""
    unusual = UNUSUAL, 0, text_at, document_at
    first_text, first_document = text_at, document_at
    metric = metric_end = UNUSUAL
    last = last_end = 0
    n_labels = 0
    while position < end:
        name, name_end, value, value_end = _label(keys, position, end)
        n_labels += 1
        if name < 0 or _exceeds(name, name_end, value, value_end, n_labels, limits):
            return unusual
        if n_labels > 1:
            if not _is_less(keys, last, last_end, name, name_end):
                return unusual
            texts[text_at] = 0
            text_at += 1
        text_at = _write_text(keys, name, name_end, value, value_end, texts, text_at)
        if text_at < 0 or text_at - first_text > limits[MAX_BYTES]:
            return unusual
        if name_end - name == 8 and load_word(keys, name) == _METRIC_NAME:
            metric, metric_end = value, value_end
        else:
            documents[document_at] = _OPEN if document_at == first_document else _COMMA
            document_at = _write_member(
                keys, name, name_end, value, value_end, documents, document_at + 1
            )
        last, last_end, position = name, name_end, value_end
    if metric < 0 or metric_end - metric > limits[MAX_METRIC_NAME_BYTES]:
        return unusual
    if document_at == first_document:
        documents[document_at] = _OPEN
        document_at += 1
    documents[document_at] = _CLOSE
    return metric, metric_end, text_at, document_at + 1


@kernel(
    "void(Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], u1[::1], u1[::1], i8[:, ::1])",
    allocates=False,
)
def describe_keys(
    keys: Bytes, ends: Ints, limits: Ints, texts: Bytes, documents: Bytes, places: Ints
) -> None:
    """Describe the series of keys, which end at `ends`, one behind the other.

    `texts` gets the names and values of a series in order of name, separated by NUL; `documents`
    the JSON object of its labels without the metric's name. Both have as many bytes as `keys`, and
    `documents` two more for each key: a label has six bytes besides name and value in a key, two in
    a text, and six in a document, which is without one label but has one more byte.
    `places` gets for each series where in `keys` its metric's name begins and ends, and the ends of
    its text and document; the first is UNUSUAL if the key is not as usual.
    """
    position = text_at = document_at = 0
    for index in range(len(ends)):
        end = ends[index]
        metric, metric_end, text_at, document_at = _describe(
            keys, position, end, limits, texts, text_at, documents, document_at
        )
        places[index, NAME_FIRST], places[index, NAME_END] = metric, metric_end
        places[index, TEXT_END], places[index, DOCUMENT_END] = text_at, document_at
        position = end
