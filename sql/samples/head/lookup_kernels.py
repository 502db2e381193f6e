"""The kernel that looks up single samples in a segment of the head."""

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, IntArray


@kernel(allocates=False)
def _first_from(column: IntArray, low: int, high: int, value: int) -> int:
    """The first row in `[low, high)` that is not below a value, or `high`."""
    while low < high:
        middle = (low + high) // 2
        if column[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(
    "i8(i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], b1[::1], i8[::1])", allocates=False
)
def find_samples(
    ids: IntArray,
    offsets: IntArray,
    timestamps: IntArray,
    bits: IntArray,
    wanted_ids: IntArray,
    wanted_times: IntArray,
    is_found: BoolArray,
    found_bits: IntArray,
) -> int:
    """Set the bits of the samples that exist, and mark them as found; returns how many.

    The columns are those of `SeriesSamples`, values as bits. Samples may be wanted in any order;
    those of one series in a row are found fastest. Only bits of found samples are set.
    """
    position = 0
    n_found = 0
    for index in range(len(wanted_ids)):
        is_found[index] = False
        wanted = wanted_ids[index]
        if index == 0 or wanted != wanted_ids[index - 1]:
            position = _first_from(ids, 0, len(ids), wanted)
        if position == len(ids) or ids[position] != wanted:
            continue
        low, high = offsets[position], offsets[position + 1]
        time_ms = wanted_times[index]
        if low == high or timestamps[high - 1] < time_ms:
            continue
        row = _first_from(timestamps, low, high, time_ms)
        if row < high and timestamps[row] == time_ms:
            is_found[index] = True
            found_bits[index] = bits[row]
            n_found += 1
    return n_found
