"""The kernel that reads the start timestamps of remote write 2.0.

It is called for pieces of a request that have any. The kernels that read samples only count them,
so that requests without cost nothing.
"""

from promcompat.core.compiled_kernels import kernel
from promcompat.remote_write.decode_kernels import (
    Bytes,
    Ints,
    content_bounds,
    field_end,
    read_varint,
)
from promcompat.remote_write.version_2.symbol_kernels import SAMPLE, START_TIMESTAMP


@kernel("void(Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[::1])", allocates=False)
def read_starts(message: Bytes, series: Ints, starts: Ints) -> None:
    """Fill `starts` (zeros at first) with the start timestamp of each sample, in order.

    `series` has first and end of the message of each series, which was read without a fault, and
    its rows. Those beyond its samples are histograms, and stay 0. Rows of 0: as many as samples.
    """
    row = 0
    for number in range(len(series)):
        position, end = series[number, 0], series[number, 1]
        next_row = row + series[number, 2]
        while 0 <= position < end and row < len(starts):
            start = position
            position = field_end(message, start, end)
            if message[start] != SAMPLE or position < 0:
                continue
            inner, _ = content_bounds(message, start + 1, end)
            while 0 <= inner < position:
                if message[inner] == START_TIMESTAMP:
                    starts[row], inner = read_varint(message, inner + 1, position)
                else:
                    inner = field_end(message, inner, position)
            row += 1
        row = max(row, next_row)
