"""The hash of a label set by which `limit_ratio` chooses, the same as that of Prometheus 3.

Prometheus hashes the bytes its labels are stored in with XXH64 (seed 0): names and values in
order, each behind its length in one byte, or behind 255 and three little-endian bytes.
Formula: the XXH64 part of the xxHash specification, https://xxhash.com/doc/latest/.
"""

from struct import unpack_from

from promcompat.core.model import Labels

_MASK = (1 << 64) - 1
_P1 = 0x9E3779B185EBCA87
_P2 = 0xC2B2AE3D27D4EB4F
_P3 = 0x165667B19E3779F9
_P4 = 0x85EBCA77C2B2AE63
_P5 = 0x27D4EB2F165667C5


def hash_labels(labels: Labels) -> int:
    """The 64 bit hash Prometheus' `Labels.Hash` gives."""
    return xxh64(b"".join(_sized(part) for pair in labels for part in pair))


def _sized(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    size = len(data)
    return (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(3, "little")) + data


def xxh64(data: bytes) -> int:
    """The XXH64 of `data` with seed 0."""
    stripes = len(data) // 32 * 32
    result = _hash_stripes(data, stripes) if stripes else _P5
    result = (result + len(data)) & _MASK
    words = stripes + (len(data) - stripes) // 8 * 8
    for (word,) in (unpack_from("<Q", data, at) for at in range(stripes, words, 8)):
        result = (_rotate(result ^ _round(0, word), 27) * _P1 + _P4) & _MASK
    if len(data) - words >= 4:
        (word,) = unpack_from("<I", data, words)
        result = (_rotate(result ^ (word * _P1 & _MASK), 23) * _P2 + _P3) & _MASK
        words += 4
    for byte in data[words:]:
        result = _rotate(result ^ (byte * _P5 & _MASK), 11) * _P1 & _MASK
    return _avalanche(result)


def _hash_stripes(data: bytes, end: int) -> int:
    lanes = [(_P1 + _P2) & _MASK, _P2, 0, -_P1 & _MASK]
    for at in range(0, end, 32):
        words = unpack_from("<4Q", data, at)
        lanes = [_round(lane, word) for lane, word in zip(lanes, words, strict=True)]
    result = sum(_rotate(lane, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
    for lane in lanes:
        result = ((result ^ _round(0, lane)) * _P1 + _P4) & _MASK
    return result


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _P2) & _MASK, 31) * _P1 & _MASK


def _rotate(value: int, by: int) -> int:
    return (value << by | value >> (64 - by)) & _MASK


def _avalanche(value: int) -> int:
    value = (value ^ value >> 33) * _P2 & _MASK
    value = (value ^ value >> 29) * _P3 & _MASK
    return value ^ value >> 32
