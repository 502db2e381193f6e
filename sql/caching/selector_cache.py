"""Resolved selectors: which series of a tenant match, as long as the tenant's series do not change.

The ids of an entry were read after its generation, so it has every series of that generation; while
the generation stays the same, no series was created or removed. A query that reads the generation
from the database first therefore never uses an entry that lacks a series whose write was
acknowledged before, whichever process wrote it.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from promcompat.core.bounded_caches import ByteBoundedCache, estimated_bytes, texts_bytes
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, LabelSets, label_sets_bytes

SelectorKey: TypeAlias = tuple[int, tuple[LabelMatcher, ...]]
_BYTES_KEPT: Final = 100
"""Of each series: its set without a name, and its places in groups."""


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """Series `ids`, ascending, and the label set of each."""

    ids: IntArray
    labels: LabelSets

    @property
    def n_bytes(self) -> int:
        """About what they take in memory, with what is kept of the label sets."""
        n_bytes = self.ids.nbytes + _BYTES_KEPT * len(self.labels)
        return n_bytes + estimated_bytes(self.labels, label_sets_bytes)


class ResolvedSelector:
    """The series of a selector, ids ascending, at a generation of the tenant's series.

    `with_samples` are the series that had samples in the last read, which is likely to repeat.
    """

    __slots__ = ("generation", "ids", "with_samples")

    def __init__(self, generation: int, ids: IntArray) -> None:
        self.generation = generation
        self.ids = ids
        self.with_samples: LabelledSeries | None = None

    def labels_of(self, ids: IntArray) -> LabelSets | None:
        """The cached label sets, if they are those of these series."""
        known = self.with_samples
        if known is None or len(known.ids) != len(ids):
            return None
        return known.labels if (known.ids == ids).all() else None


class SelectorCache:
    """Resolved selectors of all tenants, the least recently used thrown out first."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteBoundedCache[SelectorKey, ResolvedSelector] = ByteBoundedCache(max_bytes)

    def get(self, key: SelectorKey, generation: int) -> ResolvedSelector | None:
        """The cached series of a selector at the current generation."""
        found = self._entries.get(key)
        return found if found is not None and found.generation == generation else None

    def add(self, key: SelectorKey, resolved: ResolvedSelector) -> None:
        """Cache series that were read after their generation."""
        self._entries.add(key, resolved, _n_bytes_of(key, resolved))

    def add_labels(
        self, key: SelectorKey, resolved: ResolvedSelector, series: LabelledSeries
    ) -> None:
        """Cache the label sets of a selector's series too, if the selector is still cached.

        If they take too much memory, only the ids stay.
        """
        if self._entries.get(key) is not resolved:
            return
        resolved.with_samples = series
        self.add(key, resolved)
        if self._entries.get(key) is None:
            resolved.with_samples = None
            self.add(key, resolved)

    def __len__(self) -> int:
        return len(self._entries)


def _n_bytes_of(key: SelectorKey, resolved: ResolvedSelector) -> int:
    texts = texts_bytes(text for matcher in key[1] for text in (matcher.name, matcher.value))
    labelled = resolved.with_samples
    return texts + resolved.ids.nbytes + (0 if labelled is None else labelled.n_bytes)
