"""Making series takes turns."""

import asyncio
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.limits.tenant_limits import NO_LIMITS
from promcompat.core.model import WriteBatch
from sql.caching.series_cache import SeriesCache
from sql.database.installation_guard import InstallationGuard
from sql.database.storage_stats import StorageStats
from sql.series.resolver import ResolvedBatch, SeriesResolver
from tests.support.factories import make_labels


class BusyPool:
    """Its only connection is never free."""

    max_size = 1
    limit_seconds = 0.01

    async def take(self) -> Any:
        await asyncio.Event().wait()


async def resolve(resolver: SeriesResolver) -> ResolvedBatch:
    times, labels = np.zeros(1, np.int64), {b"k": make_labels("m")}
    batch = WriteBatch.of_keys([b"k"], times, np.zeros(1), labels)
    return await resolver.resolve("t", 1, batch, is_storable=np.ones(1, np.bool_), version=0)


async def test_a_turn_is_not_waited_for_longer_than_a_connection() -> None:
    pool: Any = BusyPool()
    watch: Any = SimpleNamespace()
    resolver = SeriesResolver(
        pool, SeriesCache(1 << 20), StorageStats(), watch, NO_LIMITS, InstallationGuard()
    )
    holder = asyncio.create_task(resolve(resolver))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailableError, match="making series takes too long"):
        await resolve(resolver)
    holder.cancel()
