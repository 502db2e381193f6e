"""What appending to the log of arrivals costs: samples a second, and bytes of WAL and table.

    .venv/bin/python -m tests.benchmarks.append_bench

Writes of 2,000 samples of 20,000 series go through group commit into a real TimescaleDB, whose
fsync is off. Neither HTTP nor series are part of it.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sql.database.connection_pool import acquired
from sql.database.copy_format import SampleRows
from sql.database.database import Database
from sql.database.storage_stats import StorageStats
from sql.samples.arrivals.arrival_committer import ArrivalCommitter
from sql.samples.arrivals.arrival_log import ArrivalLog
from sql.samples.draining.drainer import DrainStats
from sql.samples.reading.block_reader import BlockReader
from sql.samples.storage_options import StorageOptions
from sql.samples.stores.arrival_store import SampleSources
from sql.samples.writing.duplicate_policies import DuplicatePolicies
from sql.samples.writing.group_commit import Committer, GroupCommit, GroupCommitOptions
from tests.support.programs.components import require_component
from tests.support.programs.servers import run_server

N_SERIES = 20_000
ROWS_PER_WRITE = 2_000
N_SCRAPES = 40
N_SENDERS = 4
FIRST_ID = 900_000_000_000_000_000
START_MS = 1_700_000_000_000
SIZES = """
    SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint,
        pg_total_relation_size('arrival') + hypertable_size('sample')
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What storing samples took."""

    name: str
    seconds: float
    cpu_seconds: float
    commits: int
    wal_bytes: int
    stored_bytes: int

    def line(self, n_samples: int) -> str:
        """The figures of one sample and of one second."""
        return (
            f"{self.name:24} {n_samples / self.seconds / 1e6:5.2f}M samples/s"
            f" {self.commits / self.seconds:5.0f} commits/s"
            f" {self.cpu_seconds / n_samples * 1e6:5.2f} s of CPU a million (this process)"
            f" {self.wal_bytes / n_samples:6.2f} B of WAL a sample,"
            f" {self.stored_bytes / n_samples:6.2f} B stored"
        )


def make_writes(version: int, start_ms: int) -> list[SampleRows]:
    """Counters of 20,000 series, scraped every 15 s within a second."""
    random = np.random.default_rng(1)
    ids = FIRST_ID + np.arange(N_SERIES)
    values = random.integers(0, 1_000_000, N_SERIES).astype(np.float64)
    offsets = random.integers(0, 1_000, N_SERIES)
    writes = []
    for scrape in range(N_SCRAPES):
        values = values + random.integers(0, 500, N_SERIES)
        times = start_ms + 15_000 * scrape + offsets
        for first in range(0, N_SERIES, ROWS_PER_WRITE):
            part = slice(first, first + ROWS_PER_WRITE)
            tenants = np.ones(ROWS_PER_WRITE, np.int64)
            bits = values[part].view(np.uint64)
            writes.append(SampleRows(ids[part], times[part], bits, None, version, tenants))
    return writes


async def measure(
    name: str, database: Database, committer: Committer, writes: Sequence[SampleRows], parallel: int
) -> Measured:
    """Let each sender send its share, one write after the other."""
    stats = StorageStats()
    writer = GroupCommit(committer, GroupCommitOptions(max_parallel=parallel), stats)

    async def send(own: Sequence[SampleRows]) -> None:
        for rows in own:
            await writer.write(rows)

    before = await sizes(database)
    started, cpu_started = time.perf_counter(), time.process_time()
    await asyncio.gather(*(send(writes[number::N_SENDERS]) for number in range(N_SENDERS)))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    after = await sizes(database)
    await writer.close()
    wal_bytes, stored_bytes = (late - early for late, early in zip(after, before, strict=True))
    return Measured(name, seconds, cpu_seconds, stats.commits, wal_bytes, stored_bytes)


async def sizes(database: Database) -> tuple[int, int]:
    """The position of the WAL, and the size of both tables."""
    async with acquired(database.read_pool) as connection:
        return tuple(await connection.fetchrow(SIZES))


async def run(url: str) -> None:
    """Measure, and print a line for each number of writes at a time."""
    database = await Database.open(url)
    sources = SampleSources.of(database, BlockReader(DrainStats()), StorageOptions())
    log = ArrivalLog(database.log_pool, database.guard)
    n_samples = N_SERIES * N_SCRAPES
    for number, parallel in enumerate((1, 2, 1, 2)):
        policies = DuplicatePolicies(database.write_pool)
        committer = ArrivalCommitter(log, policies, sources.lookup)
        writes = make_writes(database.guard.version, START_MS + number * 10**9)
        name = f"append, {parallel} at a time"
        print((await measure(name, database, committer, writes, parallel)).line(n_samples))  # noqa: T201
    await sources.head.close()
    await database.close()


def main() -> None:
    """Run on a database of its own."""
    distribution = require_component("TimescaleDB")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with run_server("append", distribution, Path(folder), lambda _line: None) as server:
            asyncio.run(run(server.create_database()))


if __name__ == "__main__":
    main()
