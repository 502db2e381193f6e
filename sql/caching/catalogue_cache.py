"""The items of the API's lists, and counts of labels, as long as a tenant's series stay the same.

A list without time bounds is valid for one generation of the series, like resolved selectors
(`sql.caching.selector_cache`). A list with bounds has the items with a sample within them, for
which the head and the database are asked each time.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.bounded_caches import ByteBoundedCache, estimated_bytes, texts_bytes
from promcompat.core.label_counts import LabelCounts
from promcompat.core.model import IntArray

_BYTES_PER_TEXT: Final = 8
"""For its place in the list."""


@dataclass(slots=True)
class ItemList:
    """The items of a list, complete for `generation`, which was read before.

    Item `i` is of `sizes[i]` series (2: of any number); `newest[i]`, the likeliest to have samples,
    is one of them. Without `texts`, the items are these series, in the order of their label sets.
    """

    generation: int
    texts: Sequence[str] | None
    newest: IntArray
    sizes: IntArray

    @property
    def n_bytes(self) -> int:
        """The approximate size in memory."""
        n_bytes = self.newest.nbytes + self.sizes.nbytes
        if self.texts is not None:
            n_bytes += _BYTES_PER_TEXT * len(self.texts) + estimated_bytes(self.texts, texts_bytes)
        return n_bytes


@dataclass(frozen=True, slots=True)
class _Counted:
    """The counts of a tenant's labels at a generation."""

    generation: int
    counts: LabelCounts


class CatalogueCache:
    """Lists by the question they answer, and counts of labels by tenant.

    The least recently used are thrown out first.
    """

    def __init__(self, max_bytes: int) -> None:
        self._entries: ByteBoundedCache[Hashable, ItemList | _Counted] = ByteBoundedCache(max_bytes)

    def get(self, question: Hashable, generation: int) -> ItemList | None:
        """The cached list of a question, if it is of the current generation."""
        found = self._entries.get(question)
        if isinstance(found, ItemList) and found.generation == generation:
            return found
        return None

    def add(self, question: Hashable, question_bytes: int, items: ItemList) -> None:
        """Cache a list that was read after its generation."""
        self._entries.add(question, items, question_bytes + items.n_bytes)

    def get_counts(self, tenant_id: int, generation: int) -> LabelCounts | None:
        """The cached counts of a tenant's labels, if they are of the current generation."""
        found = self._entries.get(tenant_id)
        if isinstance(found, _Counted) and found.generation == generation:
            return found.counts
        return None

    def add_counts(self, tenant_id: int, generation: int, counts: LabelCounts) -> None:
        """Cache counts that were read after their generation."""
        self._entries.add(tenant_id, _Counted(generation, counts), counts.n_bytes)
