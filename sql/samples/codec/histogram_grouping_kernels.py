"""Kernels that find what histograms have in common: families, layouts and groups."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import BoolArray, FloatArray, IntArray
from sql.samples.codec.histogram_kernels import DIFFERENCES, MAX_CELLS, RAW
from sql.samples.codec.histogram_layout_kernels import (
    UNORDERED,
    Layouts,
    Room,
    fill_indexes,
    merge_indexes,
)
from sql.samples.codec.histogram_reading_kernels import Spans

Flat = tuple[
    NDArray[np.int8], NDArray[np.uint8], BoolArray, FloatArray, IntArray, IntArray, FloatArray
]
"""Schemas, hints, whether counts are floats, zero thresholds, zero counts, counts and sums."""
Ragged = tuple[IntArray, Spans, IntArray, Spans, IntArray, IntArray, IntArray, IntArray]
"""Offsets and cells of the spans of both sides, and of the buckets of both sides."""
Bounds = tuple[IntArray, FloatArray]
"""Offsets and cells of the bounds."""

_LARGEST: Final = 1 << 58
"""Counts above that are not subtracted: SQL, which decodes pages too, must not overflow."""
_SURELY_SMALL: Final = _LARGEST // (MAX_CELLS + 2)
"""As many of these as a page has do not exceed it."""
_LARGEST_FLOAT: Final = 2.0**53
_HASH: Final = np.uint64(0x9E37_79B9_7F4A_7C15)


@kernel(allocates=False)
def mixed(digest: np.uint64, number: int) -> np.uint64:
    digest = (digest ^ np.uint64(number)) * _HASH
    return digest ^ (digest >> np.uint64(29))


@kernel(allocates=False)
def is_same_family(flat: Flat, bounds: Bounds, one: int, other: int) -> bool:
    """Whether two histograms have schema, kind, zero threshold and bounds in common, to the bit."""
    thresholds = flat[3].view(np.int64)
    if flat[0][one] != flat[0][other] or flat[2][one] != flat[2][other]:
        return False
    if thresholds[one] != thresholds[other]:
        return False
    begin, start = bounds[0][one], bounds[0][other]
    n = bounds[0][one + 1] - begin
    if n != bounds[0][other + 1] - start:
        return False
    bits = bounds[1].view(np.int64)
    for i in range(n):  # noqa: SIM110 - numba has no generators
        if bits[begin + i] != bits[start + i]:
            return False
    return True


@kernel(allocates=False)
def hash_of_family(flat: Flat, bounds: Bounds, one: int) -> np.uint64:
    digest = mixed(np.uint64(flat[0][one]), signed(flat[2][one]))
    digest = mixed(digest, flat[3].view(np.int64)[one])
    bits = bounds[1].view(np.int64)
    for i in range(bounds[0][one], bounds[0][one + 1]):
        digest = mixed(digest, bits[i])
    return digest


@kernel(allocates=False)
def is_same_layout(ragged: Ragged, one: int, other: int) -> bool:
    """Whether two histograms have the same spans on both sides."""
    for side in range(2):
        offsets, spans = (ragged[2], ragged[3]) if side else (ragged[0], ragged[1])
        begin, start = offsets[one], offsets[other]
        n = offsets[one + 1] - begin
        if n != offsets[other + 1] - start:
            return False
        for i in range(n):
            if spans[begin + i, 0] != spans[start + i, 0]:
                return False
            if spans[begin + i, 1] != spans[start + i, 1]:
                return False
    return True


@kernel(allocates=False)
def hash_of_layout(ragged: Ragged, one: int, family: int) -> np.uint64:
    digest = mixed(np.uint64(family), 1)
    for side in range(2):
        offsets, spans = (ragged[2], ragged[3]) if side else (ragged[0], ragged[1])
        digest = mixed(digest, -1)
        for i in range(offsets[one], offsets[one + 1]):
            digest = mixed(digest, signed(spans[i, 0]) << signed(32) ^ signed(spans[i, 1]))
    return digest


@kernel()
def empty_slots(n: int) -> IntArray:
    """A hash table of at least twice `n` places, all free."""
    size = signed(2)
    while size < 2 * n:
        size *= 2
    slots = np.empty(size, np.int64)
    slots[:] = -1
    return slots


@kernel()
def find_families(
    flat: Flat, bounds: Bounds, numbers: IntArray, family_of: IntArray, firsts: IntArray
) -> int:
    """Set the family of each histogram, and the first histogram of each; how many there are."""
    slots, n_families = empty_slots(len(numbers)), signed(0)
    for i in range(len(numbers)):
        one = numbers[i]
        if i and is_same_family(flat, bounds, one, numbers[i - 1]):
            family_of[i] = family_of[i - 1]
            continue
        slot = signed(hash_of_family(flat, bounds, one) & np.uint64(len(slots) - 1))
        while slots[slot] >= 0 and not is_same_family(flat, bounds, one, firsts[slots[slot]]):
            slot = (slot + 1) & (len(slots) - 1)
        if slots[slot] < 0:
            slots[slot], firsts[n_families] = n_families, one
            n_families += 1
        family_of[i] = slots[slot]
    return n_families


@kernel()
def find_layouts(
    ragged: Ragged,
    numbers: IntArray,
    family_of: IntArray,
    layout_of: IntArray,
    firsts: IntArray,
    families: IntArray,
) -> int:
    """Set the layout of each histogram, and the first one and the family of each layout."""
    slots, n_layouts = empty_slots(len(numbers)), signed(0)
    for i in range(len(numbers)):
        one, family = numbers[i], family_of[i]
        if i and family == family_of[i - 1] and is_same_layout(ragged, one, numbers[i - 1]):
            layout_of[i] = layout_of[i - 1]
            continue
        slot = signed(hash_of_layout(ragged, one, family) & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:
            known = slots[slot]
            if families[known] == family and is_same_layout(ragged, one, firsts[known]):
                break
            slot = (slot + 1) & (len(slots) - 1)
        if slots[slot] < 0:
            slots[slot], firsts[n_layouts], families[n_layouts] = n_layouts, one, family
            n_layouts += 1
        layout_of[i] = slots[slot]
    return n_layouts


@kernel()
def fill_layouts(ragged: Ragged, firsts: IntArray, n_layouts: int, layouts: Layouts) -> int:
    """Fill the layouts, except their families; returns how many spans they have."""
    table, offsets, lengths = layouts
    n_spans = signed(0)
    for layout in range(n_layouts):
        table[3, layout] = n_spans
        for side in range(2):
            of_side, spans = (ragged[2], ragged[3]) if side else (ragged[0], ragged[1])
            begin, end = of_side[firsts[layout]], of_side[firsts[layout] + 1]
            n_buckets = signed(0)
            for i in range(begin, end):
                offsets[n_spans], lengths[n_spans] = spans[i, 0], spans[i, 1]
                n_buckets += spans[i, 1]
                n_spans += 1
            table[1 + side, layout], table[4 + side, layout] = end - begin, n_buckets
    return n_spans


@kernel(allocates=False)
def is_whole(number: float, bits: int) -> bool:
    """Whether a float is a whole number that an integer gives back to the bit."""
    return 0.0 <= number <= _LARGEST_FLOAT and np.rint(number) == number and bits >= 0


@kernel(allocates=False)
def has_small_counts(flat: Flat, ragged: Ragged, one: int) -> bool:
    """Whether the integers of a histogram are so small that their sum need not be checked."""
    union = flat[4][one] | flat[5][one]
    for i in range(ragged[4][one], ragged[4][one + 1]):
        union |= ragged[5][i]
    for i in range(ragged[6][one], ragged[6][one + 1]):
        union |= ragged[7][i]
    return bool(0 <= union <= _SURELY_SMALL)


@kernel(allocates=False)
def has_differences(flat: Flat, ragged: Ragged, one: int) -> bool:
    """Whether all counts of a histogram are whole numbers that may be subtracted."""
    if not flat[2][one] and has_small_counts(flat, ragged, one):
        return True
    total = signed(0)
    for k in range(4):
        if k < 2:
            cells = flat[4] if k else flat[5]
            begin, end = one, one + 1
        else:
            cells = ragged[7] if k == 3 else ragged[5]
            offsets = ragged[6] if k == 3 else ragged[4]
            begin, end = offsets[one], offsets[one + 1]
        floats = cells.view(np.float64)
        for i in range(begin, end):
            cell = cells[i]
            if flat[2][one]:
                if not is_whole(floats[i], cell):
                    return False
                cell = signed(floats[i])
            if cell < 0 or cell > _LARGEST:
                return False
            total += cell
            if total > _LARGEST:
                return False
    return True


@kernel()
def joined_union(
    layouts: Layouts,
    last: int,
    layout: int,
    is_alone: bool,
    union: IntArray,
    n_union: int,
    room: Room,
) -> int:
    """How many buckets a group has with one more layout, or `UNORDERED`; `room` has them.

    `is_alone`: the group has only the layout `last` yet, and `union` is not filled.
    """
    if is_alone and fill_indexes(layouts, last, union) == UNORDERED:
        return UNORDERED
    n = fill_indexes(layouts, layout, room[0])
    if n == UNORDERED:
        return UNORDERED
    return merge_indexes(union, n_union, room[0], n, room[1])


@kernel()
def choose_groups(
    is_first: BoolArray,
    layout_of: IntArray,
    modes: IntArray,
    layouts: Layouts,
    n_buckets: int,
    groups: IntArray,
    unions: IntArray,
) -> int:
    """Fill `groups`: histograms, modes and numbers of buckets, and the buckets of each.

    A group ends where most of its numbers would be of buckets that histograms do not have.
    """
    table, merged = layouts[0], np.empty(len(unions) + n_buckets, np.int64)
    room = (np.empty(n_buckets, np.int64), merged, unions)
    g, n_united, n_own, m, n_union = signed(-1), signed(0), signed(0), signed(0), signed(0)
    is_alone = True
    for i in range(len(layout_of)):
        layout, last = layout_of[i], layout_of[i - 1]
        n = table[4, layout] + table[5, layout]
        n_joined = UNORDERED
        if g >= 0 and not is_first[i] and modes[i] == groups[1, g]:
            n_joined = n_union
            if table[0, layout] != table[0, last]:
                n_joined = signed(UNORDERED)
            elif layout != last:
                union = unions[n_united:]
                n_joined = joined_union(layouts, last, layout, is_alone, union, n_union, room)
        if n_joined >= 0 and (m + 1) * (n_joined + 1) <= 2 * (n_own + n + m + 1):
            if layout != last:
                is_alone = False
                unions[n_united : n_united + n_joined] = merged[:n_joined]
                n_union = n_joined
        else:
            n_united += n_union
            g += 1
            groups[1, g] = modes[i]
            n_own, m, n_union, is_alone = signed(0), signed(0), n, True
        m += 1
        n_own += n
        groups[0, g], groups[2, g] = m, n_union
    return g + 1


@kernel()
def choose_modes(flat: Flat, ragged: Ragged, numbers: IntArray, modes: IntArray) -> None:
    """Set the mode of each histogram."""
    for i in range(len(numbers)):
        modes[i] = DIFFERENCES if has_differences(flat, ragged, numbers[i]) else RAW
