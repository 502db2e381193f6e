"""Kernels that find the buckets of histograms' layouts, and unite those of groups."""

from typing import Final

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.model import IntArray
from sql.samples.codec.column_kernels import INCONSISTENT

Layouts = tuple[IntArray, IntArray, IntArray]
"""A table with a column for each layout, and the offsets and lengths of all spans. The rows of the
table are families, numbers of positive and of negative spans, first spans, numbers of positive and
of negative buckets."""
Room = tuple[IntArray, IntArray, IntArray]
"""For indexes of a layout, merged indexes, and places of a layout's buckets."""

NEGATIVE: Final = 1 << 52
"""Added to the index of a negative bucket, so that these follow the positive ones."""
UNORDERED: Final = -1


@kernel()
def count_buckets(layouts: Layouts, n: int, most_positive: int, most_negative: int) -> bool:
    """Set first spans and numbers of buckets of `n` layouts; False if there are too many."""
    table, lengths = layouts[0], layouts[2]
    first = signed(0)
    for layout in range(n):
        table[3, layout] = first
        for side in range(2):
            n_buckets, behind = signed(0), first + table[1 + side, layout]
            if behind > len(lengths):
                return False
            for span in range(first, behind):
                n_buckets += lengths[span]
            if n_buckets > (most_negative if side else most_positive):
                return False
            table[4 + side, layout] = n_buckets
            first = behind
    return True


@kernel()
def fill_indexes(layouts: Layouts, layout: int, indexes: IntArray) -> int:
    """Fill the indexes of a layout's buckets; how many they are, or -1 if they do not ascend."""
    table, offsets, lengths = layouts
    n = 0
    for side in range(2):
        first = table[3, layout] + (table[1, layout] if side else 0)
        index = signed(NEGATIVE if side else 0)
        begin = n
        for span in range(first, first + table[1 + side, layout]):
            index += offsets[span]
            for _ in range(lengths[span]):
                if n > begin and index <= indexes[n - 1]:
                    return UNORDERED
                indexes[n] = index
                n += 1
                index += 1
    return n


@kernel()
def merge_indexes(
    union: IntArray, n_union: int, indexes: IntArray, n: int, merged: IntArray
) -> int:
    """Fill all indexes of two ascending lists; how many they are. `merged` has room for both."""
    i, k, n_merged = 0, 0, 0
    while i < n_union or k < n:
        if k == n or (i < n_union and union[i] <= indexes[k]):
            if k < n and union[i] == indexes[k]:
                k += 1
            merged[n_merged] = union[i]
            i += 1
        else:
            merged[n_merged] = indexes[k]
            k += 1
        n_merged += 1
    return n_merged


@kernel()
def find_places(union: IntArray, n_union: int, indexes: IntArray, n: int, places: IntArray) -> None:
    """Fill the places of ascending indexes in an ascending list that has all of them."""
    place = 0
    for i in range(n):
        while place < n_union - 1 and union[place] < indexes[i]:
            place += 1
        places[i] = place


@kernel()
def is_one_layout(layout_of: IntArray) -> bool:
    """Whether all histograms of a group have the same layout."""
    n_others = 0
    for k in range(1, len(layout_of)):
        n_others += layout_of[k] != layout_of[0]
    return n_others == 0


@kernel()
def place_buckets(
    layouts: Layouts, layout: int, union: IntArray, n_union: int, is_alone: bool, room: Room
) -> None:
    """Fill the places of a layout's buckets among those of its group; `is_alone`: the same ones."""
    indexes, places = room[0], room[2]
    n = layouts[0][4, layout] + layouts[0][5, layout]
    if is_alone:
        for i in range(n):
            places[i] = i
    else:
        fill_indexes(layouts, layout, indexes)
        find_places(union, n_union, indexes, n, places)


@kernel()
def unite(layout_of: IntArray, layouts: Layouts, most: int, room: Room, union: IntArray) -> int:
    """Fill the buckets of a group, at most so many; how many they are, or an error.

    Of a group with one layout only the number counts.
    """
    indexes, merged, first = room[0], room[1], layout_of[0]
    n_union = layouts[0][4, first] + layouts[0][5, first]
    if n_union > most:
        return INCONSISTENT
    is_alone, last = True, first
    for k in range(1, len(layout_of)):
        layout = layout_of[k]
        if layout == last:
            continue
        if is_alone and fill_indexes(layouts, first, union) == UNORDERED:
            return INCONSISTENT
        is_alone, last = False, layout
        n = fill_indexes(layouts, layout, indexes)
        if n == UNORDERED:
            return INCONSISTENT
        n_merged = merge_indexes(union, n_union, indexes, n, merged)
        if n_merged > most:
            return INCONSISTENT
        union[:n_merged] = merged[:n_merged]
        n_union = signed(n_merged)
    return signed(n_union)
