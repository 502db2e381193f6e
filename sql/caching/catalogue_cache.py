"""The items of the API's lists, cached as long as a tenant's series do not change.

A list without time bounds is valid for one generation of the series, like resolved selectors
(`sql.caching.selector_cache`). A list with bounds has the items with a sample within them, for
which the head and the database are asked each time.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import numpy as np

from promcompat.core.bounded_caches import ByteBoundedCache, estimated_bytes, texts_bytes
from promcompat.core.model import BoolArray, IntArray, Labels, label_sets_bytes

ItemT = TypeVar("ItemT")
_BYTES_PER_ITEM: Final = 40
"""For the place in the list, its series and their number."""


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

    @property
    def n_bytes(self) -> int:
        """The approximate size in memory."""
        return _BYTES_PER_ITEM * len(self.items) + estimated_bytes(self.items, _items_bytes)

    def chosen(self, is_chosen: BoolArray) -> list[ItemT]:
        """Some of the items, in their order."""
        return [self.items[index] for index in np.flatnonzero(is_chosen).tolist()]


def _items_bytes(items: Sequence[object]) -> int:
    """Label sets, label values or sets of names."""
    label_sets = [item for item in items if isinstance(item, Labels)]
    others = (str(item) for item in items if not isinstance(item, Labels))
    return label_sets_bytes(label_sets) + texts_bytes(others)


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
