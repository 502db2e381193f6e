"""Faults other than kills: each is there for as long as its block lasts, and then gone.

The senders of `tests.chaos.traffic` write meanwhile. What they are answered may be sent again
later, and afterwards everything works without a restart of the service.
"""

import asyncio
import os
import random
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from sql.embedded.cluster import DATABASE_NAME
from tests.chaos.crashing_database import CrashingDatabase
from tests.support.programs.network import CuttableNetwork

_CUT_SECONDS: Final = 120.0
"""Until then, senders have sent what a cut waits for."""
_SESSIONS: Final = "FROM pg_stat_activity WHERE application_name LIKE 'promcompat %'"
_TABLES: Final = """
SELECT c.oid::regclass::text AS name
FROM pg_class AS c
WHERE c.relnamespace = 'promcompat'::regnamespace AND c.relkind IN ('r', 'p')
    AND NOT c.relispartition
    AND c.relname = ANY (
        '{arrival, arrival_order, drain_order, drain_state, drained_extent, sample_change,
        sample_run, sample_block, sample_deletion, block_slot, sample, series,
        series_removal, installation, tenant}'::text[]
    )
ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Faulty:
    """What a fault is made on."""

    database: CrashingDatabase
    network: CuttableNetwork
    """Between the service and the database."""
    rng: random.Random


Fault = Callable[[Faulty], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def database_restart(faulty: Faulty) -> AsyncIterator[None]:
    """The database is shut down in an orderly way, and started at the end."""
    await asyncio.to_thread(faulty.database.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(faulty.database.start)


@asynccontextmanager
async def no_more_sessions(faulty: Faulty) -> AsyncIterator[None]:
    """Every session ends and the database accepts no new one: all of them are taken."""
    await faulty.database.execute(f"ALTER DATABASE {DATABASE_NAME} CONNECTION LIMIT 0")
    await faulty.database.execute(f"SELECT pg_terminate_backend(pid) {_SESSIONS}")
    try:
        yield
    finally:
        await faulty.database.execute(f"ALTER DATABASE {DATABASE_NAME} CONNECTION LIMIT -1")


@asynccontextmanager
async def cancelled_statements(faulty: Faulty) -> AsyncIterator[None]:
    """Whatever runs is cancelled every few milliseconds, as by a statement timeout."""
    async with _repeated(faulty, f"SELECT pg_cancel_backend(pid) {_SESSIONS}", 0.02):
        yield


@asynccontextmanager
async def ended_sessions(faulty: Faulty) -> AsyncIterator[None]:
    """A session of the service's is ended now and then, whatever it does."""
    end_one = f"SELECT pg_terminate_backend(pid) {_SESSIONS} ORDER BY random() LIMIT 1"
    async with _repeated(faulty, end_one, 0.05):
        yield


@asynccontextmanager
async def _repeated(faulty: Faulty, statement: str, pause_seconds: float) -> AsyncIterator[None]:
    connection = await asyncpg.connect(faulty.database.superuser_url)

    async def repeat() -> None:
        while True:
            await connection.fetch(statement)
            await asyncio.sleep(faulty.rng.uniform(0, 2 * pause_seconds))

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await connection.close()


@asynccontextmanager
async def long_transaction(faulty: Faulty) -> AsyncIterator[None]:
    """Somebody reads in one transaction for the whole time, and keeps its snapshot."""
    connection = await asyncpg.connect(faulty.database.superuser_url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for (table,) in await connection.fetch(_TABLES):
                await connection.fetch(f"TABLE {table} LIMIT 1")
            yield
    finally:
        await connection.close()


@asynccontextmanager
async def locked_tables(faulty: Faulty) -> AsyncIterator[None]:
    """One table of the engine after the other is locked against everybody."""
    connection = await asyncpg.connect(faulty.database.superuser_url)

    async def lock_each() -> None:
        for (table,) in await connection.fetch(_TABLES):
            async with connection.transaction():
                await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                await asyncio.sleep(faulty.rng.uniform(0.1, 0.4))

    try:
        await lock_each()
        yield
    finally:
        await connection.close()


@asynccontextmanager
async def silent_network(faulty: Faulty) -> AsyncIterator[None]:
    """Nothing comes through to the database, and nobody is told."""
    faulty.network.cut()
    try:
        yield
    finally:
        faulty.network.mend()


@asynccontextmanager
async def cut_in_a_statement(faulty: Faulty) -> AsyncIterator[None]:
    """The network falls silent in the middle of what is being sent."""
    faulty.network.cut_after(faulty.rng.randrange(1, 20_000))
    try:
        async with asyncio.timeout(_CUT_SECONDS):
            while not faulty.network.is_cut:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield
    finally:
        faulty.network.mend()


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault
    for fault in (
        long_transaction,
        locked_tables,
        ended_sessions,
        cancelled_statements,
        no_more_sessions,
        database_restart,
        cut_in_a_statement,
        silent_network,
    )
}


@dataclass(frozen=True, slots=True)
class SteppedClock:
    """The wall clock of a service that was started with `environment`."""

    library: Path
    file: Path

    def environment(self) -> dict[str, str]:
        """What makes a program read the clock from the file; its monotonic clock stays true."""
        self.step(0)
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            # Reading it at every look at the clock made a service ten times slower.
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Put the clock so many seconds ahead of the true time."""
        self.file.write_text(f"{seconds:+d}\n")


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A file system of a few hundred megabytes; only root can make one."""

    folder: Path

    @property
    def filler(self) -> Path:
        """The file that takes the rest of its space."""
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def free(self) -> None:
        """Give the space back."""
        self.filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, size_mebibytes: int) -> Iterator[SmallDisk]:
    """A small file system, mounted for as long as the block lasts; for root."""
    folder.mkdir()
    assert os.geteuid() == 0
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mebibytes}m,mode=755", "tmpfs", folder]
    subprocess.run(mount, check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
