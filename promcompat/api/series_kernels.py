"""The kernel that writes the points of series as the JSON of the Prometheus HTTP API."""

from promcompat.api.number_kernels import (
    MAX_TIME_BYTES,
    MAX_VALUE_BYTES,
    Bytes,
    Words,
    put_time,
    put_value,
)
from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import IntArray

MAX_POINT_BYTES = MAX_TIME_BYTES + MAX_VALUE_BYTES + 6
"""`[<time>,"<value>"]` and the comma before it."""
CLOSING_BYTES = 3
"""`]}` behind a series, and the comma before the next one."""


@kernel(
    "i8(Array(u1, 1, 'C', readonly=True), i8[::1], i8[::1], i8[::1], u8[::1], i8, i8, u1[::1])",
    allocates=False,
)
def write_series(
    heads: Bytes,
    head_offsets: IntArray,
    offsets: IntArray,
    times: IntArray,
    bits: Words,
    first: int,
    end: int,
    out: Bytes,
) -> int:
    """Write the points `first` to `end` of series; how many bytes that are.

    Series `i` has the points `offsets[i]` to `offsets[i + 1]`, with times in Unix milliseconds and
    the bits of values. A comma and `heads[head_offsets[i]:head_offsets[i + 1]]` come before its
    first point, and `]}` behind its last one; a series without points is left out. `out` has
    room for the heads, `CLOSING_BYTES` a series and `MAX_POINT_BYTES` a point.
    """
    position = 0
    for i in range(len(offsets) - 1):
        begin, stop = max(offsets[i], first), min(offsets[i + 1], end)
        if begin >= stop:
            continue
        if begin == offsets[i]:
            out[position] = ord(",")
            position += 1
            for k in range(head_offsets[i], head_offsets[i + 1]):
                out[position] = heads[k]
                position += 1
        for point in range(begin, stop):
            if point > offsets[i]:
                out[position] = ord(",")
                position += 1
            out[position] = ord("[")
            position = put_time(out, position + 1, times[point])
            out[position], out[position + 1] = ord(","), ord('"')
            position = put_value(out, position + 2, bits[point])
            out[position], out[position + 1] = ord('"'), ord("]")
            position += 2
        if stop == offsets[i + 1]:
            out[position], out[position + 1] = ord("]"), ord("}")
            position += 2
    return position
