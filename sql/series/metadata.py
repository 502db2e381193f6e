"""What senders say of metric families."""

from collections.abc import Sequence
from typing import Final

from promcompat.core.bounded_caches import ByteBoundedCache, texts_bytes
from promcompat.core.model import MetricMetadata
from promcompat.core.texts.storable_text import storable_text
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("series")
_REMEMBERED_BYTES: Final = 32 << 20
MAX_FAMILIES: Final = 50_000


class MetadataWriter:
    """Stores metadata that changed; senders repeat all of it every minute.

    That of too many families of a tenant is left out, as some clients ask for all of it.
    """

    def __init__(self, pool: Pool, max_families: int = MAX_FAMILIES) -> None:
        self._pool = pool
        self._max_families = max_families
        self._stored: ByteBoundedCache[tuple[int, str], MetricMetadata] = ByteBoundedCache(
            _REMEMBERED_BYTES
        )

    async def store(self, tenant_id: int, metadata: Sequence[MetricMetadata]) -> None:
        """Store the last entry of each family."""
        # Keyed by the stored name: two names may differ only in what cannot be stored.
        latest = {entry.family: entry for entry in map(_storable, metadata)}
        changed = [
            entry
            for family, entry in latest.items()
            if self._stored.get((tenant_id, family)) != entry
        ]
        if not changed:
            return
        columns = (
            [entry.family for entry in changed],
            [entry.type for entry in changed],
            [entry.help for entry in changed],
            [entry.unit for entry in changed],
        )
        async with acquired(self._pool) as connection:
            await connection.execute(
                _QUERIES["store_metadata"], tenant_id, *columns, self._max_families
            )
        for entry in changed:
            n_bytes = texts_bytes((entry.family, entry.type, entry.help, entry.unit))
            self._stored.add((tenant_id, entry.family), entry, n_bytes)


def _storable(entry: MetricMetadata) -> MetricMetadata:
    texts = entry.family, entry.type, entry.help, entry.unit
    return MetricMetadata(*map(storable_text, texts))
