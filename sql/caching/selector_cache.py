"""Resolved selectors: which series of a tenant match, as long as the tenant's series do not change.

The ids of an entry were read after its generation, so it has every series of that generation; while
the generation stays the same, no series was created or removed. A query that reads the generation
from the database first therefore never uses an entry that lacks a series whose write was
acknowledged before, whichever process wrote it.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from promcompat.core.bounded_caches import ByteBoundedCache, estimated_bytes, texts_bytes
from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import IntArray, LabelSets, PartialLabelSets, label_sets_bytes

SelectorKey: TypeAlias = tuple[int, tuple[LabelMatcher, ...]]
LabelNames: TypeAlias = tuple[str, ...]
_BYTES_KEPT: Final = 40
"""Of each series: its place among sets without a name, and in groups."""
_BYTES_WITHOUT_NAME: Final = 60
"""Of each different set without a name."""


@dataclass(frozen=True, slots=True)
class LabelledSeries:
    """Series `ids`, ascending, and the label set of each."""

    ids: IntArray
    labels: LabelSets

    @property
    def n_bytes(self) -> int:
        """About what they take in memory, with what is kept of the label sets."""
        labels = self.labels
        different = labels.distinct if isinstance(labels, PartialLabelSets) else labels
        n_bytes = self.ids.nbytes + _BYTES_KEPT * len(labels)
        n_bytes += _BYTES_WITHOUT_NAME * len(different)
        return n_bytes + estimated_bytes(different, label_sets_bytes)


class ResolvedSelector:
    """The series of a selector, ids ascending, at a generation of the tenant's series.

    `labelled` are the series that had samples in the last read, which is likely to repeat: under
    None with all labels, under some names with the labels of these names only.
    """

    __slots__ = ("generation", "ids", "labelled")

    def __init__(self, generation: int, ids: IntArray) -> None:
        self.generation = generation
        self.ids = ids
        self.labelled: dict[LabelNames | None, LabelledSeries] = {}

    def labels_of(self, ids: IntArray, names: LabelNames | None = None) -> LabelSets | None:
        """The cached label sets of exactly these series, with at least the labels of these names.

        Label sets with all labels serve any names.
        """
        for known in (self.labelled.get(None), self.labelled.get(names)):
            if known is not None and np.array_equal(known.ids, ids):
                return known.labels
        return None


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
        self,
        key: SelectorKey,
        resolved: ResolvedSelector,
        series: LabelledSeries,
        names: LabelNames | None = None,
    ) -> None:
        """Cache the label sets of a selector's series too, if the selector is still cached.

        If they take too much memory with those for other names, only these stay, or only the ids.
        """
        if self._entries.get(key) is not resolved:
            return
        for labelled in ({**resolved.labelled, names: series}, {names: series}, {}):
            resolved.labelled = labelled
            self.add(key, resolved)
            if self._entries.get(key) is resolved:
                return

    def __len__(self) -> int:
        return len(self._entries)


def _n_bytes_of(key: SelectorKey, resolved: ResolvedSelector) -> int:
    texts = texts_bytes(text for matcher in key[1] for text in (matcher.name, matcher.value))
    labelled = sum(series.n_bytes for series in resolved.labelled.values())
    return texts + resolved.ids.nbytes + labelled
