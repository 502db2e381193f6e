"""The snappy block format of remote write, with a bound on the decompressed size."""

import snappy

from promcompat.core.errors import BadDataError

_MAX_LENGTH_BYTES = 5
"""A block starts with its decompressed length, a varint of at most 32 bits."""


def declared_length(block: bytes) -> int:
    """The decompressed length that the block declares. Raises BadDataError without one."""
    length = 0
    for index, byte in enumerate(block[:_MAX_LENGTH_BYTES]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80 and length < 1 << 32:
            return length
    raise BadDataError("snappy: corrupt input")


def checked_length(block: bytes, max_bytes: int) -> int:
    """The decompressed length of the block. Raises BadDataError for more than `max_bytes`.

    Call this before `unpack`, so that a small body cannot make us allocate gigabytes.
    """
    length = declared_length(block)
    if length > max_bytes:
        raise BadDataError(f"snappy: decoded length {length} exceeds limit {max_bytes}")
    return length


def unpack(block: bytes) -> bytes:
    """The content of a block. Raises BadDataError when it is corrupt."""
    try:
        return bytes(snappy.uncompress(block))
    except snappy.UncompressError as exc:
        raise BadDataError("snappy: corrupt input") from exc
