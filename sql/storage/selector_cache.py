"""Resolved selectors: which series of a tenant match, for as long as its series do not change.

An entry holds the ids that were read after its generation was, so it has every series of that
generation; while the generation stays, no series came or went since. Who reads the generation from
the database at the start of a query therefore never uses an entry that lacks a series whose write
was answered before, whichever process wrote it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, Labels

SelectorKey: TypeAlias = tuple[int, tuple[LabelMatcher, ...]]

_MAX_IDS_TOGETHER: Final = 4_000_000
"""32 MB; a selector of millions of series is read from the index each time."""
_MAX_ENTRIES: Final = 10_000


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """Series `ids`, ascending, and the label set of each."""

    ids: IntArray
    labels: tuple[Labels, ...]


class ResolvedSelector:
    """The series of a selector, ids ascending, at a generation of the tenant's series.

    `with_samples` are the series that had samples the last time: most often they have them again.
    """

    __slots__ = ("generation", "ids", "with_samples")

    def __init__(self, generation: int, ids: IntArray) -> None:
        self.generation = generation
        self.ids = ids
        self.with_samples: LabelledSeries | None = None

    def labels_of(self, ids: IntArray) -> tuple[Labels, ...] | None:
        """The remembered label sets, if they are those of these series."""
        known = self.with_samples
        return known.labels if known is not None and np.array_equal(known.ids, ids) else None


class SelectorCache:
    """Resolved selectors of all tenants, the least recently used thrown out first."""

    def __init__(self, max_ids: int = _MAX_IDS_TOGETHER, max_entries: int = _MAX_ENTRIES) -> None:
        self._max_ids = max_ids
        self._max_entries = max_entries
        self._entries: OrderedDict[SelectorKey, ResolvedSelector] = OrderedDict()
        self._n_ids = 0

    def get(self, key: SelectorKey, generation: int) -> ResolvedSelector | None:
        """The series of a selector at a generation read from the database just now."""
        found = self._entries.get(key)
        if found is None or found.generation != generation:
            return None
        self._entries.move_to_end(key)
        return found

    def add(self, key: SelectorKey, resolved: ResolvedSelector) -> None:
        """Remember what was read after the generation was."""
        self._remove(key)
        if len(resolved.ids) > self._max_ids // 4:
            return
        self._entries[key] = resolved
        self._n_ids += len(resolved.ids)
        while self._n_ids > self._max_ids or len(self._entries) > self._max_entries:
            self._remove(next(iter(self._entries)))

    def __len__(self) -> int:
        return len(self._entries)

    def _remove(self, key: SelectorKey) -> None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self._n_ids -= len(removed.ids)
