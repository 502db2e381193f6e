"""How every store finds the series of what it writes, reads and deletes."""

from dataclasses import dataclass

import numpy as np

from promcompat.core.model import IntArray, SeriesSelection
from sql.caching.series_cache import SeriesCache
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.series.metadata import MetadataWriter
from sql.series.reader import SeriesReader
from sql.series.resolver import SeriesResolver
from sql.series.starts import SeriesStarts


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAccess:
    """The parts that know the series of a database."""

    database: Database
    known_keys: SeriesCache
    resolver: SeriesResolver
    reader: SeriesReader
    metadata: MetadataWriter
    starts: SeriesStarts

    async def selected_ids(
        self, tenant: str, selection: SeriesSelection
    ) -> tuple[int | None, IntArray]:
        """The tenant's id (None if it never wrote) and those of the selected series, ascending."""
        return await self.database.guard.in_one_epoch(lambda: self._selected_ids(tenant, selection))

    @read_again
    async def _selected_ids(
        self, tenant: str, selection: SeriesSelection
    ) -> tuple[int | None, IntArray]:
        tenant_id = await self.database.tenants.find(tenant)
        if tenant_id is None:
            return None, np.empty(0, np.int64)
        async with acquired(self.database.read_pool) as connection:
            generation = await self.reader.generation(connection, tenant_id)
            found = await self.reader.resolve(connection, tenant_id, selection.matchers, generation)
        return tenant_id, found.ids
