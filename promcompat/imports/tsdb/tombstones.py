"""The file of tombstones of a block of Prometheus' TSDB: the times that were deleted of its series.

The format is described in `tsdb/docs/format/tombstones.md` of Prometheus.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from promcompat.core.model import IntArray
from promcompat.imports.tsdb.index import Cursor, DamagedBlockError

_HEAD: Final = struct.pack(">IB", 0x0130BA30, 1)
_CHECKSUM_BYTES: Final = 4
_Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DeletedTimes:
    """Ranges of times of a series, both ends included, in order of their beginnings.

    `ends[i]` is the latest end of the ranges up to the one that begins at `starts[i]`.
    """

    starts: IntArray
    ends: IntArray

    @classmethod
    def of(cls, ranges: list[_Range]) -> "DeletedTimes":
        """Ranges in any order; there must be one."""
        bounds = np.array(sorted(ranges), np.int64)
        return cls(bounds[:, 0], np.maximum.accumulate(bounds[:, 1]))

    def contain(self, timestamps: IntArray) -> NDArray[np.bool_]:
        """Which timestamps are in a range."""
        last = np.searchsorted(self.starts, timestamps, side="right") - 1
        return (last >= 0) & (timestamps <= self.ends[last])


def read_tombstones(file: Path) -> Mapping[int, DeletedTimes]:
    """What is deleted of each series, by its number; nothing if there is no file.

    Raises DamagedBlockError.
    """
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise DamagedBlockError(f"{file} cannot be read: {exc}") from exc
    if not data.startswith(_HEAD) or len(data) < len(_HEAD) + _CHECKSUM_BYTES:
        raise DamagedBlockError(f"{file} is not a file of tombstones of version 1")
    content = data[len(_HEAD) : -_CHECKSUM_BYTES]
    if google_crc32c.value(content) != int.from_bytes(data[-_CHECKSUM_BYTES:], "big"):
        raise DamagedBlockError(f"{file} is damaged: its checksum is wrong")
    try:
        ranges = _read_ranges(Cursor(content))
    except (IndexError, ValueError) as exc:
        raise DamagedBlockError(f"{file} is damaged: {exc}") from exc
    return {number: DeletedTimes.of(found) for number, found in ranges.items()}


def _read_ranges(cursor: Cursor) -> dict[int, list[_Range]]:
    ranges: dict[int, list[_Range]] = {}
    while cursor.at < len(cursor.data):
        number = cursor.uvarint()
        ranges.setdefault(number, []).append((cursor.varint(), cursor.varint()))
    return ranges
