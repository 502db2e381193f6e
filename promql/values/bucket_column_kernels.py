"""Kernels between the spans of histograms and the indices of their buckets."""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.values.sample_kernels import FLOATS, INTEGERS

_SPANS = "Array(int32, 2, 'C', True)"
_FLAGS = "Array(boolean, 1, 'C', True)"


@kernel(f"void({INTEGERS}, {INTEGERS}, int64[::1])", allocates=False)
def count_spans(offsets: IntArray, indices: IntArray, counts: IntArray) -> None:
    """Add to `counts` how many runs of neighbouring indices each histogram has.

    Histogram i has the indices from `offsets[i]` to `offsets[i + 1]`.
    """
    for i in range(len(counts)):
        for at in range(offsets[i], offsets[i + 1]):
            counts[i] += at == offsets[i] or indices[at] != indices[at - 1] + 1


@kernel(
    f"void({INTEGERS}, {_SPANS}, {INTEGERS}, {INTEGERS}, {FLOATS}, {_FLAGS}, int64[::1], "
    "float64[::1])",
    allocates=False,
)
def place_buckets(
    span_offsets: IntArray,
    spans: NDArray[np.int32],
    offsets: IntArray,
    cells: IntArray,
    floats: FloatArray,
    is_float: BoolArray,
    indices: IntArray,
    counts: FloatArray,
) -> None:
    """Fill the index and the count of each bucket.

    Histogram i has the spans from `span_offsets[i]` and the buckets from `offsets[i]` on, as many
    as its spans place. `floats` are the bits of `cells`, which are unsigned integers unless
    `is_float[i]`.
    """
    for i in range(len(is_float)):
        index, at, end = 0, offsets[i], offsets[i + 1]
        for span in range(span_offsets[i], span_offsets[i + 1]):
            index += spans[span, 0]
            for _ in range(spans[span, 1]):
                if at < end:
                    indices[at] = index
                at += 1
                index += 1
        for at in range(offsets[i], end):
            counts[at] = floats[at] if is_float[i] else np.float64(np.uint64(cells[at]))
