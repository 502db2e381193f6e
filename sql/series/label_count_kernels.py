"""The kernel that counts the labels of series, which come as lines of JSON.

PostgreSQL writes equal texts as equal JSON, so texts are counted by their bytes in JSON, within the
quotes. The table is searched as that of known series (`promcompat.core.series_table_kernels`): the
entry of a name has the parent ROOT, and that of a value the entry of its name. An entry has the
number of series with it, and of a value the number of bytes that its text has in UTF-8.
"""

from promcompat.core.compiled_kernels import kernel, signed
from promcompat.core.series_table_kernels import (
    Bytes,
    Ints,
    Slots,
    Words,
    find_hashed,
    hash_key,
)

ROOT = -1
N_ENTRIES, N_SERIES = 0, 1
"""Places in `state`."""
N_STATE = 2
NO_ROOM, MALFORMED = -1, -2
_QUOTE, _BACKSLASH, _NEWLINE, _U = 0x22, 0x5C, 0x0A, 0x75
_ESCAPE, _LONG_ESCAPE = 2, 6
"""The bytes of an escape, such as `\\n`, and of one with a number, such as `\\u0001`. Both stand
for one byte: other characters are written as they are."""


@kernel(allocates=False)
def _end_of_text(data: Bytes, position: int) -> tuple[int, int]:
    """The position of the closing quote of a text, and how many bytes the text has.

    MALFORMED if there is no closing quote.
    """
    n_bytes = 0
    while position < len(data):
        byte = data[position]
        if byte == _QUOTE:
            return position, n_bytes
        if byte != _BACKSLASH:
            position += 1
        elif position + 1 < len(data) and data[position + 1] == _U:
            position += _LONG_ESCAPE
        else:
            position += _ESCAPE
        n_bytes += 1
    return MALFORMED, 0


@kernel(allocates=False)
def _counted(
    secret: Words,
    slots: Slots,
    hashes: Words,
    parents: Ints,
    starts: Ints,
    keys: Bytes,
    counts: Ints,
    state: Ints,
    parent: int,
    data: Bytes,
    first: int,
    end: int,
) -> int:
    """The entry of a text, which is made if necessary, and has one series more; or NO_ROOM."""
    wanted = hash_key(secret, parent, data, first, end)
    entry = find_hashed(wanted, slots, hashes, parents, starts, keys, parent, data, first, end)
    if entry < 0:
        entry = signed(state[N_ENTRIES])
        start = starts[entry]
        if entry >= len(parents) or start + end - first > len(keys):
            return NO_ROOM
        for position in range(first, end):
            keys[start + position - first] = data[position]
        starts[entry + 1] = start + end - first
        parents[entry], counts[entry] = parent, 0
        hashes[entry] = wanted
        mask = len(slots) - 1
        slot = signed(wanted) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = entry
        state[N_ENTRIES] += 1
    counts[entry] += 1
    return entry


@kernel(
    "i8(u8[::1], i4[::1], u8[::1], i8[::1], i8[::1], u1[::1], i8[::1], i8[::1], i8[::1],"
    " Array(u1, 1, 'C', readonly=True), i8[::1])",
    allocates=False,
)
def count_lines(
    secret: Words,
    slots: Slots,
    hashes: Words,
    parents: Ints,
    starts: Ints,
    keys: Bytes,
    counts: Ints,
    sizes: Ints,
    state: Ints,
    data: Bytes,
    progress: Ints,
) -> int:
    """Count the names and values of the lines `data`, from `progress[0]` on.

    Returns 0 when all are counted. NO_ROOM: the table is to be larger, and the rest, from
    `progress[0]` on, to be counted then. MALFORMED: a line is not the JSON of texts by name.
    Labels without a value are not counted. At least as many slots as entries must stay empty.
    """
    position = progress[0]
    while position < len(data):
        byte = data[position]
        if byte != _QUOTE:
            state[N_SERIES] += byte == _NEWLINE
            position += 1
            progress[0] = position
            continue
        first = position + 1
        end, _ = _end_of_text(data, first)
        if end < 0:
            return MALFORMED
        value = end + 1
        while value < len(data) and data[value] != _QUOTE:
            value += 1
        value += 1
        value_end, n_bytes = _end_of_text(data, value)
        if value_end < 0:
            return MALFORMED
        if n_bytes:
            name = _counted(
                secret, slots, hashes, parents, starts, keys, counts, state, ROOT, data, first, end
            )
            if name < 0:
                return NO_ROOM
            entry = _counted(
                secret, slots, hashes, parents, starts, keys, counts, state, name, data, value,
                value_end,
            )  # fmt: skip
            if entry < 0:
                counts[name] -= 1
                return NO_ROOM
            sizes[entry] = n_bytes
        position = value_end + 1
        progress[0] = position
    return 0
