"""The series that recording rules wrote last, as the table `recorded_series` has them."""

import hashlib
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Self

import orjson
from cachetools import LRUCache

from promcompat.core.model import Labels

_MAX_CACHED_SERIES: Final = 200_000


@dataclass(frozen=True, slots=True)
class PackedSeries:
    """Label sets as compressed JSON, and the digest of the JSON."""

    digest: bytes
    packed: bytes

    @classmethod
    def of(cls, series: Iterable[Labels]) -> Self:
        """Pack label sets, in any order."""
        text = orjson.dumps(sorted(labels.pairs for labels in series))
        return cls(hashlib.blake2b(text, digest_size=16).digest(), zlib.compress(text, 1))


def joined_series(packed: Iterable[bytes]) -> frozenset[Labels]:
    """The label sets of packed series together."""
    return frozenset(
        Labels((name, value) for name, value in pairs)
        for text in packed
        for pairs in orjson.loads(zlib.decompress(text))
    )


class RecordedSeriesCache:
    """What a process has read lately, so that an evaluation need not read it again."""

    def __init__(self) -> None:
        self._known: LRUCache[tuple[int, bytes], Collection[Labels]] = LRUCache(
            _MAX_CACHED_SERIES, getsizeof=lambda series: 1 + len(series)
        )

    def find(self, rule_id: int, digest: bytes) -> Collection[Labels] | None:
        """The series with this digest; None when they are not known."""
        return self._known.get((rule_id, digest))

    def keep(self, rule_id: int, digest: bytes, series: Collection[Labels]) -> None:
        """Remember series; those of an enormous rule are read again each time."""
        if len(series) < _MAX_CACHED_SERIES:
            self._known[rule_id, digest] = series
