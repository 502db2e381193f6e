"""The items of the API's lists, cached as long as a tenant's series do not change.

A list without time bounds is valid for one generation of the series, like resolved selectors
(`sql.caching.selector_cache`). A list with bounds has the items with a sample within them. To find
these, a *sighting* of each item is cached: a sample of one of its series. It is valid until samples
of its day are changed late, however young it is, since every removal of samples counts their days.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

import numpy as np

from promcompat.core.bounded_caches import ByteBoundedCache, estimated_bytes, texts_bytes
from promcompat.core.model import BoolArray, IntArray, Labels
from sql.caching.late_writes import ReadState
from sql.catalog import MS_PER_DAY, TimeBounds

ItemT = TypeVar("ItemT")
_BYTES_PER_ITEM: Final = 40
"""For the place in the list and for the sighting."""
_NEVER: Final = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Sightings:
    """For each item one of its series and the Unix ms of a sample of it (`_NEVER` for none).

    `late_writes` are the counts of each day at that moment.
    """

    series_ids: IntArray
    times_ms: IntArray
    late_writes: Mapping[int, int]

    def within(self, bounds: TimeBounds, state: ReadState) -> BoolArray:
        """Which items are known to have a sample within bounds, whose days `state` has read."""
        known = (self.times_ms >= bounds.start_ms) & (self.times_ms <= bounds.end_ms)
        first, last = bounds.start_ms // MS_PER_DAY, bounds.end_ms // MS_PER_DAY
        changed = [
            day
            for day, count in state.late_writes.items()
            if first <= day <= last and self.late_writes.get(day) != count
        ]
        if changed:
            known &= ~np.isin(self.times_ms // MS_PER_DAY, changed)
        return np.asarray(known)

    def renewed(self, known: BoolArray, found: "SeenSamples", state: ReadState) -> "Sightings":
        """The sightings after all items but the `known` ones were probed and some `found`.

        Sightings outside of these bounds are dropped, as the counts of their days were not read.
        """
        series_ids = self.series_ids.copy()
        times_ms = np.where(known, self.times_ms, _NEVER)
        series_ids[found.items], times_ms[found.items] = found.series_ids, found.times_ms
        return Sightings(series_ids, times_ms, state.late_writes)


@dataclass(frozen=True, slots=True)
class SeenSamples:
    """Items with a sample within some bounds: a series of each, and the Unix ms of the sample."""

    items: IntArray
    series_ids: IntArray
    times_ms: IntArray

    def and_others(self, others: "SeenSamples") -> "SeenSamples":
        """Both; they have no item in common."""
        return SeenSamples(
            np.concatenate([self.items, others.items]),
            np.concatenate([self.series_ids, others.series_ids]),
            np.concatenate([self.times_ms, others.times_ms]),
        )


@dataclass(slots=True)
class Catalogue(Generic[ItemT]):
    """The items of a list, complete for `generation`, which was read before.

    Item `i` is of `sizes[i]` series (2: of any number); `newest[i]`, the likeliest to have samples,
    is one of them.
    """

    generation: int
    items: Sequence[ItemT]
    newest: IntArray
    sizes: IntArray
    sightings: Sightings = field(init=False)

    def __post_init__(self) -> None:
        """Start without sightings."""
        self.sightings = Sightings(self.newest, np.full(len(self.items), _NEVER), {})

    @property
    def n_bytes(self) -> int:
        """The approximate size in memory."""
        return _BYTES_PER_ITEM * len(self.items) + estimated_bytes(self.items, _item_bytes)

    def chosen(self, is_chosen: BoolArray) -> list[ItemT]:
        """Some of the items, in their order."""
        return [self.items[index] for index in np.flatnonzero(is_chosen).tolist()]


def _item_bytes(item: object) -> int:
    """A label set, a label value or a set of names."""
    return item.n_bytes() if isinstance(item, Labels) else texts_bytes((str(item),))


class CatalogueCache:
    """Catalogues by the question they answer, the least recently used thrown out first."""

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteBoundedCache[Hashable, Catalogue[object]] = ByteBoundedCache(max_bytes)

    def get(self, question: Hashable, generation: int) -> Catalogue[object] | None:
        """The cached list of a question, if it is of the current generation."""
        found = self._entries.get(question)
        return found if found is not None and found.generation == generation else None

    def add(self, question: Hashable, question_bytes: int, catalogue: Catalogue[object]) -> None:
        """Cache a list that was read after its generation."""
        self._entries.add(question, catalogue, question_bytes + catalogue.n_bytes)
