"""Kernels of the table of known series: a hash table in numpy arrays.

`slots` has a power of two of elements, each the number of an entry or -1, of which at most half are
entries. A key is in the first slots from its hash on: the search ends at an empty one. The hash is
SipHash-1-3 under a random key of the process, so that nobody can send keys that share slots, and a
key is only found if tenant and bytes are equal too.
"""

import numpy as np
from numpy.typing import NDArray

from promcompat.core.compiled_kernels import kernel

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ints = NDArray[np.int64]
Slots = NDArray[np.int32]

NOT_FOUND = -1
"""The same as `UNKNOWN_SERIES`."""


@kernel(allocates=False)
def load_word(data: Bytes, position: int) -> np.uint64:
    """The 8 bytes at a position as a little-endian number; the caller checks the bounds.

    Of unsigned positions, which cannot count from the end, the compiler makes one load of them.
    """
    first = np.uint64(position)
    word = np.uint64(data[first])
    word |= np.uint64(data[first + np.uint64(1)]) << np.uint64(8)
    word |= np.uint64(data[first + np.uint64(2)]) << np.uint64(16)
    word |= np.uint64(data[first + np.uint64(3)]) << np.uint64(24)
    word |= np.uint64(data[first + np.uint64(4)]) << np.uint64(32)
    word |= np.uint64(data[first + np.uint64(5)]) << np.uint64(40)
    word |= np.uint64(data[first + np.uint64(6)]) << np.uint64(48)
    word |= np.uint64(data[first + np.uint64(7)]) << np.uint64(56)
    return word


@kernel(allocates=False)
def _rotated(word: np.uint64, bits: int) -> np.uint64:
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@kernel(allocates=False)
def _sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v1 = _rotated(v1, 13) ^ v0
    v0 = _rotated(v0, 32)
    v2 += v3
    v3 = _rotated(v3, 16) ^ v2
    v0 += v3
    v3 = _rotated(v3, 21) ^ v0
    v2 += v1
    v1 = _rotated(v1, 17) ^ v2
    v2 = _rotated(v2, 32)
    return v0, v1, v2, v3


@kernel(allocates=False)
def hash_key(secret: Words, tenant: int, data: Bytes, start: int, end: int) -> np.uint64:
    """SipHash-1-3 of the tenant's number and `data[start:end]` under the two words of `secret`."""
    v0 = secret[0] ^ np.uint64(0x736F6D6570736575)
    v1 = secret[1] ^ np.uint64(0x646F72616E646F6D)
    v2 = secret[0] ^ np.uint64(0x6C7967656E657261)
    v3 = secret[1] ^ np.uint64(0x7465646279746573)
    word = np.uint64(tenant)
    v3 ^= word
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= word
    position = start
    while position + 8 <= end:
        word = load_word(data, position)
        v3 ^= word
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        v0 ^= word
        position += 8
    word = np.uint64(end - start) << np.uint64(56)
    shift = np.uint64(0)
    while position < end:
        word |= np.uint64(data[position]) << shift
        shift += np.uint64(8)
        position += 1
    v3 ^= word
    v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(3):
        v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@kernel(allocates=False)
def are_equal(data: Bytes, start: int, end: int, keys: Bytes, key_start: int) -> bool:
    """Whether `data[start:end]` are the bytes of `keys` from `key_start` on, as many."""
    position, key_position = start, key_start
    while position + 8 <= end:
        if load_word(data, position) != load_word(keys, key_position):
            return False
        position += 8
        key_position += 8
    while position < end:
        if data[position] != keys[key_position]:
            return False
        position += 1
        key_position += 1
    return True


@kernel(allocates=False)
def is_entry(
    tenants: Ints,
    ids: Ints,
    starts: Ints,
    keys: Bytes,
    tenant: int,
    entry: int,
    data: Bytes,
    start: int,
    end: int,
) -> bool:
    """Whether `data[start:end]` is the key of a tenant that an entry has; it may be the one after
    the last, and must not be removed."""
    return (
        entry < len(ids)
        and ids[entry] != NOT_FOUND
        and tenants[entry] == tenant
        and starts[entry + 1] - starts[entry] == end - start
        and are_equal(data, start, end, keys, starts[entry])
    )


@kernel(allocates=False)
def find_entry(
    secret: Words,
    slots: Slots,
    hashes: Words,
    tenants: Ints,
    starts: Ints,
    keys: Bytes,
    tenant: int,
    data: Bytes,
    start: int,
    end: int,
) -> int:
    """The entry of the key `data[start:end]` of a tenant, or NOT_FOUND."""
    wanted = hash_key(secret, tenant, data, start, end)
    return find_hashed(wanted, slots, hashes, tenants, starts, keys, tenant, data, start, end)


@kernel(allocates=False)
def find_hashed(
    wanted: np.uint64,
    slots: Slots,
    hashes: Words,
    tenants: Ints,
    starts: Ints,
    keys: Bytes,
    tenant: int,
    data: Bytes,
    start: int,
    end: int,
) -> int:
    """The same for a key whose hash is known."""
    mask = len(slots) - 1
    slot = np.int64(wanted & np.uint64(mask))
    # Bounded, so that not even a table without an empty slot could keep a thread forever.
    for _ in range(len(slots)):
        entry = int(slots[slot])
        if entry < 0:
            return NOT_FOUND
        if (
            hashes[entry] == wanted
            and tenants[entry] == tenant
            and starts[entry + 1] - starts[entry] == end - start
            and are_equal(data, start, end, keys, starts[entry])
        ):
            return entry
        slot = (slot + 1) & mask
    return NOT_FOUND


@kernel(
    "void(u8[::1], i4[::1], u8[::1], i8[::1], i8[::1], i8[::1], u1[::1], u1[::1], i8,"
    " Array(u1, 1, 'C', readonly=True), i8[:, ::1], i8[::1])",
    allocates=False,
)
def find_keys(
    secret: Words,
    slots: Slots,
    hashes: Words,
    tenants: Ints,
    ids: Ints,
    starts: Ints,
    keys: Bytes,
    marks: Bytes,
    tenant: int,
    message: Bytes,
    bounds: Ints,
    found: Ints,
) -> None:
    """Fill `found` with the id of each key that is a part of `message`; NOT_FOUND if unknown.

    `bounds` [n, at least 2] has first and end of each. The entries found are marked as used.
    """
    last_entry = NOT_FOUND
    for index in range(len(bounds)):
        first, end = bounds[index, 0], bounds[index, 1]
        # Senders repeat the order of their series, in which the entries were made.
        entry = last_entry + 1
        if not is_entry(tenants, ids, starts, keys, tenant, entry, message, first, end):
            entry = find_entry(
                secret, slots, hashes, tenants, starts, keys, tenant, message, first, end
            )
        found[index] = NOT_FOUND
        if entry >= 0:
            found[index] = ids[entry]
            marks[entry] = 1
            last_entry = entry


@kernel("void(u8[::1], i8[::1], i8[::1], u1[::1], i8, i8, u8[::1])", allocates=False)
def hash_entries(
    secret: Words, tenants: Ints, starts: Ints, keys: Bytes, first: int, end: int, hashes: Words
) -> None:
    """Fill the hashes of the entries from `first` to before `end`."""
    for entry in range(first, end):
        hashes[entry] = hash_key(secret, tenants[entry], keys, starts[entry], starts[entry + 1])


@kernel("void(i4[::1], u8[::1], u1[::1], i8, i8)", allocates=False)
def fill_slots(slots: Slots, hashes: Words, is_live: Bytes, first: int, end: int) -> None:
    """Put the live entries from `first` to before `end` into slots, of which half stay empty."""
    mask = len(slots) - 1
    for entry in range(first, end):
        if not is_live[entry]:
            continue
        slot = np.int64(hashes[entry] & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = entry


@kernel("void(i8[::1], i8[::1], u1[::1], i8[::1], u1[::1])", allocates=False)
def copy_keys(kept: Ints, starts: Ints, keys: Bytes, kept_starts: Ints, kept_keys: Bytes) -> None:
    """Fill `kept_starts` and `kept_keys` with the keys of the entries in `kept`."""
    end = 0
    kept_starts[0] = 0
    for index in range(len(kept)):
        entry = kept[index]
        for position in range(starts[entry], starts[entry + 1]):
            kept_keys[end] = keys[position]
            end += 1
        kept_starts[index + 1] = end
