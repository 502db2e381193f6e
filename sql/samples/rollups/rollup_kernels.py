"""Kernels that reduce the samples of buckets to what stands for them, and check sums of those.

A bucket of width w has the samples of `[k * w, (k + 1) * w)`. PromQL's windows are left-open and
right-closed, and those of the native API the other way round; so that buckets fit both, a sample
exactly at the start of a bucket can be a piece of its own. All other pieces have the time of the
last millisecond of their bucket.
"""

from typing import Final

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import STALE_NAN_BITS, BoolArray, FloatArray, IntArray
from promql.numbers.kahan_kernels import kahan_add
from promql.values.sample_kernels import FLOATS, INTEGERS, first_later

# Columns of whole numbers of a piece, and of its other numbers.
ROW, TIME_MS, COUNT, MAGNITUDE, FIRST, LAST = 0, 1, 2, 3, 4, 5
SUM, LOST, MINIMUM, MAXIMUM, INCREASE = 0, 1, 2, 3, 4

UNBOUNDED: Final = 2_000
"""The magnitude of a sum that is infinite, NaN or so large that it might overflow."""
NO_ABSOLUTE: Final = -1_100
"""The magnitude where all samples are 0."""
GRAIN: Final = 4_096
"""Any other magnitude is e + GRAIN * g: the sum of absolute values is below 2^e, all samples are
multiples of 2^(g + FINEST). Rollups of earlier versions have g = 0, which says nothing."""
FINEST: Final = -1_075
_COARSEST: Final = 1_024
_LARGEST_EXPONENT: Final = 1_000
_RESETS_KEPT: Final = 2
_SAMPLES_PER_RESET: Final = 16
_MOST_RESETS: Final = 16
"""A piece keeps its resets if there are at most 2, or one in 16 samples: a gauge has more. With at
most 16, all samples of a series and period fit into a page."""
_STALE: Final = STALE_NAN_BITS
_UNIT_ROUNDING: Final = 2.0**-53


@kernel(allocates=False)
def _exponent(absolute: float) -> int:
    """An exponent e such that the sum of absolute values, summed in any order, is below 2^e."""
    if absolute == 0:
        return NO_ABSOLUTE
    if not absolute < np.inf:
        return UNBOUNDED
    exponent = int(np.floor(np.log2(absolute))) + 2
    return exponent if exponent <= _LARGEST_EXPONENT else UNBOUNDED


@kernel(allocates=False)
def _grain(bits: int, grain: int) -> int:
    """The largest k up to `grain` such that the number with these bits is a multiple of 2^k."""
    exponent, mantissa = (bits >> 52) & 0x7FF, bits & ((1 << 52) - 1)
    if exponent:
        mantissa |= 1 << 52
    else:
        exponent = 1
    if mantissa == 0:
        return grain
    unit = exponent - 1_075
    beyond = grain - unit
    if beyond <= 0 or (beyond < 53 and not mantissa & ((1 << beyond) - 1)):
        return grain
    while not mantissa & 1:
        mantissa >>= 1
        unit += 1
    return unit


@kernel(allocates=False)
def _magnitude(absolute: float, grain: int) -> int:
    """See GRAIN; `absolute` is the sum of the absolute values, added up in any order."""
    exponent = _exponent(absolute)
    if exponent in (UNBOUNDED, NO_ABSOLUTE):
        return exponent
    return exponent + GRAIN * (grain - FINEST)


@kernel(allocates=False)
def _is_better(x: float, best: float, is_max: bool) -> bool:
    """Whether a later sample takes the place of the extreme, as in `better_extreme`."""
    return bool((x > best if is_max else x < best) or np.isnan(best))


@kernel(allocates=False)
def _reduce_piece(
    values: FloatArray, bits: IntArray, begin: int, end: int, whole: IntArray, other: FloatArray
) -> int:
    """Fill the columns of a piece from its samples without stale markers; returns its resets."""
    n_samples = n_resets = 0
    grain = _COARSEST
    total = lost = absolute = low = high = before = rise = 0.0
    for at in range(begin, end):
        if bits[at] == _STALE:
            continue
        x = values[at]
        total, lost = kahan_add(total, lost, x)
        absolute += abs(x)
        grain = _grain(bits[at], grain)
        if n_samples == 0:
            low = high = x
            whole[FIRST] = at
        else:
            if _is_better(x, low, False):
                low = x
            if _is_better(x, high, True):
                high = x
            if x < before:
                n_resets += 1
                rise += before
        before = x
        whole[LAST] = at
        n_samples += 1
    whole[COUNT], whole[MAGNITUDE] = n_samples, _magnitude(absolute, grain)
    if n_samples:
        rise += values[whole[LAST]] - values[whole[FIRST]]
    whole_sum = total + lost
    other[SUM], other[LOST] = whole_sum, 0.0
    if whole[MAGNITUDE] != UNBOUNDED:
        added = whole_sum - total
        other[LOST] = (total - (whole_sum - added)) + (lost - added)
    other[MINIMUM], other[MAXIMUM], other[INCREASE] = low, high, rise
    return n_resets


@kernel(allocates=False)
def _keep(at: int, stands_for: int, kept: IntArray, n_kept: int) -> int:
    kept[n_kept, 0], kept[n_kept, 1] = at, stands_for
    return n_kept + 1


@kernel(allocates=False)
def _keep_ends(
    values: FloatArray,
    bits: IntArray,
    whole: IntArray,
    n_resets: int,
    kept: IntArray,
    n_kept: int,
) -> int:
    """Keep the first and last sample of a piece, and those on both sides of its resets.

    Each stands for the samples from the one kept before it on. Where resets are too many to be
    kept, the numbers are negative. Returns how many samples are kept.
    """
    first, last = whole[FIRST], whole[LAST]
    most = min(_RESETS_KEPT + whole[COUNT] // _SAMPLES_PER_RESET, _MOST_RESETS)
    keeps_resets = n_resets <= most
    sign = 1 if keeps_resets else -1
    n_kept = _keep(first, sign, kept, n_kept)
    newest, before, waiting = first, first, 0
    for at in range(first + 1, last + 1):
        if bits[at] == _STALE:
            continue
        if keeps_resets and values[at] < values[before]:
            if before != newest:
                n_kept = _keep(before, waiting, kept, n_kept)
            n_kept = _keep(at, 1, kept, n_kept)
            newest, waiting = at, 0
        else:
            waiting += 1
        before = at
    if last != newest:
        n_kept = _keep(last, sign * waiting, kept, n_kept)
    return n_kept


@kernel(
    f"void({INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, int64, boolean,"
    "int64[:, ::1], float64[:, ::1], int64[:, ::1], int64[::1])",
    allocates=False,
)
def roll_up(
    offsets: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    bits: IntArray,
    width_ms: int,
    splits_starts: bool,
    whole: IntArray,
    other: FloatArray,
    kept: IntArray,
    sizes: IntArray,
) -> None:
    """Reduce the samples of series to pieces, and find the samples that stand for them.

    `whole` [n_samples, 6] and `other` [n_samples, 5] get the columns of pieces named above, in the
    order of series and time; FIRST and LAST are indexes of samples. `kept` [n_samples, 2] gets
    samples, and how many each stands for; also a stale marker where it is the last sample of a
    piece. `sizes` gets the numbers of pieces and of kept samples.
    """
    n_pieces = n_kept = 0
    for row in range(len(offsets) - 1):
        begin, behind = offsets[row], offsets[row + 1]
        while begin < behind:
            start_ms = timestamps[begin] // width_ms * width_ms
            last_ms = start_ms + width_ms - 1
            if splits_starts and timestamps[begin] == start_ms:
                last_ms = start_ms
            end = begin + 1
            while end < behind and timestamps[end] <= last_ms:
                end += 1
            columns = whole[n_pieces]
            columns[ROW], columns[TIME_MS] = row, last_ms
            n_resets = _reduce_piece(values, bits, begin, end, columns, other[n_pieces])
            if columns[COUNT]:
                n_kept = _keep_ends(values, bits, columns, n_resets, kept, n_kept)
                n_pieces += 1
            if bits[end - 1] == _STALE:
                n_kept = _keep(end - 1, 1, kept, n_kept)
            begin = end
    sizes[0], sizes[1] = n_pieces, n_kept


@kernel(allocates=False)
def _is_certain(total: float, lost: float, n_samples: int, absolute: float) -> bool:
    """Whether every order of adding up the same samples rounds to the same sum.

    A compensated sum of n numbers differs from the exact one by less than about n² u² times the sum
    of their absolute values. So two of them round to the same number unless this lies within that
    distance of the middle between two neighbours.
    """
    if absolute == 0:
        return True
    rounded = total + lost
    added = rounded - total
    rest = abs((total - (rounded - added)) + (lost - added))
    size = abs(rounded)
    if not size < np.inf:
        return False
    half_gap = (size - np.nextafter(size, 0.0)) / 2
    doubt = 8.0 * n_samples * _UNIT_ROUNDING * n_samples * _UNIT_ROUNDING * absolute
    return bool(rest + doubt < half_gap)


@kernel(allocates=False)
def _is_exact(absolute: float, grain: int) -> bool:
    """Whether samples with this g (see GRAIN) add up without rounding in every order.

    They do while 53 bits are enough for all sums. Then Prometheus' mean, which divides the sum and
    its compensation each for itself, does not depend on the order either.
    """
    return bool(absolute == 0 or (grain > 0 and absolute <= 2.0 ** (53 + grain + FINEST)))


@kernel(
    f"void({INTEGERS}, {INTEGERS}, {FLOATS}, {INTEGERS}, {INTEGERS}, {INTEGERS}, int64, boolean,"
    "boolean[::1])",
    allocates=False,
)
def find_certain_sums(
    offsets: IntArray,
    timestamps: IntArray,
    values: FloatArray,
    counted: IntArray,
    magnitudes: IntArray,
    end_ms: IntArray,
    range_ms: int,
    are_exact: bool,
    are_certain: BoolArray,
) -> None:
    """Of each series, whether the sums of all its windows are what raw samples would give.

    `values` are samples, or sums and what they lost by rounding; `counted[i]` is how many samples
    those before the i-th stand for, and `magnitudes[i]` the magnitude of these, see GRAIN. A window
    is `(end - range, end]`; the ends ascend. `are_exact`: only sums without rounding are certain.
    """
    for row in range(len(offsets) - 1):
        start, behind = offsets[row], offsets[row + 1]
        times = timestamps[start:behind]
        lo = hi = 0
        certain = True
        for step in range(len(end_ms)):
            lo = first_later(times, lo, end_ms[step] - range_ms)
            hi = first_later(times, max(lo, hi), end_ms[step])
            n_samples = counted[start + hi] - counted[start + lo]
            if hi == lo or n_samples == hi - lo:
                continue
            total = lost = absolute = 0.0
            grain = _COARSEST - FINEST
            is_bounded = True
            for at in range(start + lo, start + hi):
                total, lost = kahan_add(total, lost, values[at])
                if magnitudes[at] == UNBOUNDED:
                    is_bounded = False
                elif magnitudes[at] != NO_ABSOLUTE:
                    of_piece = (magnitudes[at] - NO_ABSOLUTE) // GRAIN
                    absolute += 2.0 ** (magnitudes[at] - GRAIN * of_piece)
                    grain = min(grain, of_piece)
            if are_exact:
                certain = is_bounded and _is_exact(absolute, grain)
            else:
                certain = is_bounded and _is_certain(total, lost, n_samples, absolute)
            if not certain:
                break
        are_certain[row] = certain
