"""What senders say of metric families."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.bounded_caches import ByteBoundedCache, texts_bytes
from promcompat.core.maintenance import StepNotes
from promcompat.core.model import MetricMetadata
from promcompat.core.ports import MaintenanceStep
from promcompat.core.texts.storable_text import storable_text
from sql.database.connection_pool import Pool, acquired
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("series")
_REMEMBERED_BYTES: Final = 32 << 20
_REMEMBERED_SECONDS: Final = 3600.0
"""Then all of it is compared with the database again, from which another process may have deleted
what had no series."""
MAX_FAMILIES: Final = 50_000
_UNUSED_SECONDS: Final = 86_400.0
"""Metadata may come before the first sample."""
_DELETED_AT_ONCE: Final = 10_000


class MetadataWriter:
    """Stores metadata that changed; senders repeat all of it every minute.

    That of too many families of a tenant is left out, as some clients ask for all of it.
    """

    def __init__(self, pool: Pool, max_families: int = MAX_FAMILIES) -> None:
        self._pool = pool
        self._max_families = max_families
        self.forget()

    def forget(self) -> None:
        """Compare all of it with the database again, which may have lost what it had."""
        self._stored: ByteBoundedCache[tuple[int, str], MetricMetadata] = ByteBoundedCache(
            _REMEMBERED_BYTES
        )
        self._forgets_at = time.monotonic() + _REMEMBERED_SECONDS

    async def store(self, tenant_id: int, metadata: Sequence[MetricMetadata]) -> None:
        """Store the last entry of each family."""
        if time.monotonic() > self._forgets_at:
            self.forget()
        # What is stored while the database steps back is compared again afterwards.
        stored = self._stored
        # Keyed by the stored name: two names may differ only in what cannot be stored.
        latest = {entry.family: entry for entry in map(_storable, metadata)}
        changed = [
            entry for family, entry in latest.items() if stored.get((tenant_id, family)) != entry
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
            stored.add((tenant_id, entry.family), entry, n_bytes)


@dataclass(frozen=True, slots=True)
class MetadataStep(MaintenanceStep):
    """Deletes the metadata of families without series: with the last one, or never used."""

    pool: Pool
    unused_seconds: float = _UNUSED_SECONDS
    name: str = "metadata"
    unit: str = "families"

    async def plan(self) -> int:
        """How many families there are."""
        async with acquired(self.pool) as connection:
            n_families = await connection.fetchval(
                _QUERIES["count_unused_metadata"], self.unused_seconds
            )
        return int(n_families)

    async def run(self, notes: StepNotes) -> int:
        """Delete them, some thousands in each transaction; returns how many."""
        n_deleted, n_last = 0, _DELETED_AT_ONCE
        while n_last == _DELETED_AT_ONCE:
            async with acquired(self.pool) as connection:
                n_last = await connection.fetchval(
                    _QUERIES["delete_unused_metadata"], self.unused_seconds, _DELETED_AT_ONCE
                )
            n_deleted += n_last
        return n_deleted


def _storable(entry: MetricMetadata) -> MetricMetadata:
    texts = entry.family, entry.type, entry.help, entry.unit
    return MetricMetadata(*map(storable_text, texts))
