"""Drains and compacts what a stopped service has stored, as two days of background work do."""

import asyncio
import time
from pathlib import Path
from typing import Final

from sql.database.connection_pool import acquired
from sql.embedded.database import EmbeddedDatabase
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StorageOptions
from tests.benchmarks.query_data import DAY_MS
from tests.support.storage.repositories import drain_and_compact

_RELEASE: Final = "UPDATE drain_state SET compacted_at = '-infinity'"
"""The service was the one that compacts, and would be waited for."""
_COUNTS: Final = """
SELECT
    (SELECT count(*) FROM arrival) AS arrivals,
    (SELECT coalesce(sum(n_samples), 0) FROM sample_run) AS in_runs,
    (SELECT coalesce(sum(n_samples), 0) FROM sample_block) AS in_blocks
"""


def settle(data: Path) -> str:
    """Move every sample of a data folder into runs and blocks; returns what is where."""
    database = EmbeddedDatabase.start(data, report=lambda _: None)
    try:
        return asyncio.run(_settle(database.url))
    finally:
        database.stop()


def _in_two_days() -> int:
    """A clock by which every day of the samples has ended, so that its runs become blocks."""
    return time.time_ns() // 1_000_000 + 2 * DAY_MS


async def take_over_compaction(storage: MetricStorage) -> None:
    """Let this storage compact at once, whichever service did before."""
    async with acquired(storage.database.write_pool) as connection:
        await connection.execute(_RELEASE)


async def _settle(url: str) -> str:
    storage = await MetricStorage.open(url, StorageOptions(now_ms=_in_two_days))
    try:
        await take_over_compaction(storage)
        await drain_and_compact(storage)
        async with acquired(storage.database.read_pool) as connection:
            await connection.execute("ANALYZE")
            row = await connection.fetchrow(_COUNTS)
    finally:
        await storage.close()
    return (
        f"{row['in_blocks']:,} samples in blocks, {row['in_runs']:,} in runs, "
        f"{row['arrivals']:,} arrivals left"
    )
