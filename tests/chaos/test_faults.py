"""A sender may try again whatever happens to the database, and nothing is lost or doubled."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from promcompat.core.errors import PromcompatError
from sql.embedded.distributions import PostgresDistribution
from tests.chaos.crashing_database import CrashingDatabase, crashing_database
from tests.chaos.faults import SmallDisk, SteppedClock, small_disk
from tests.chaos.stores import SHORT
from tests.chaos.survival import scene, survive, survive_all
from tests.support.programs.components import require_component
from tests.support.storage.repositories import migrated_storage
from tests.support.storage.storage_processes import ask_samples, write_rows

pytestmark = pytest.mark.e2e

T = TypeVar("T")

FAULT_SECONDS = 0.5
HOUR_SECONDS = 3600
CLOCK_SECONDS = 1.2
"""The service looks at its clock at least once in that time."""
DISK_MEBIBYTES = 320


@pytest.fixture
def database(
    wheel_distribution: PostgresDistribution, tmp_path: Path
) -> Iterator[CrashingDatabase]:
    with crashing_database(wheel_distribution, tmp_path / "database") as database:
        yield database


async def test_faults_come_and_go(database: CrashingDatabase, tmp_path: Path) -> None:
    """One service lives through all of them, one after the other; `make chaos` has both stores."""
    async with scene(database, tmp_path, {"store": SHORT}, seed=3) as there:
        await survive_all(there, FAULT_SECONDS)


async def test_a_crash_of_one_server_process_changes_the_epoch(database: CrashingDatabase) -> None:
    """The postmaster lives on, and what it had committed without waiting for the disk may be gone.

    A process that has read it must not keep it.
    """
    async with migrated_storage(database.url) as storage:
        row, tenant = (0, 1_700_000_000_000, 0), "red"
        asked = partial(ask_samples, storage, tenant, [0], 0, 1 << 60)
        written = partial(write_rows, storage, tenant, [row])
        assert await written()
        stored, known = await asked(), storage.database.guard.known_epoch
        for _ in range(2):
            await database.kill_session()
            assert await when_recovered(written)
            assert await when_recovered(asked) == stored
            assert storage.database.guard.known_epoch != known
            known = storage.database.guard.known_epoch


async def when_recovered(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of the first attempt that succeeds."""
    async with asyncio.timeout(30):
        while True:
            with suppress(PromcompatError):
                return await attempt()
            await asyncio.sleep(0.1)


async def test_clock_steps_back_and_forth(
    database: CrashingDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The senders' samples are older than any step back: those of the future are refused."""
    clock = SteppedClock(require_component("libfaketime"), tmp_path / "clock")
    with monkeypatch.context() as patch:
        for name, value in clock.environment().items():
            patch.setenv(name, value)
        starting = scene(database, tmp_path, {"store": SHORT}, seed=5)
        there = await starting.__aenter__()
    try:
        await survive(there, "clock", partial(stepping, clock), FAULT_SECONDS)
    finally:
        await starting.__aexit__(None, None, None)


@asynccontextmanager
async def stepping(clock: SteppedClock) -> AsyncIterator[None]:
    """Ahead by an hour, back by a day, far ahead, and true again."""
    for seconds in (HOUR_SECONDS, -24 * HOUR_SECONDS, 40 * 24 * HOUR_SECONDS):
        clock.step(seconds)
        await asyncio.sleep(CLOCK_SECONDS)
    try:
        yield
    finally:
        clock.step(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small file system")
async def test_full_disk(wheel_distribution: PostgresDistribution, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "disk", DISK_MEBIBYTES) as disk,
        crashing_database(wheel_distribution, disk.folder) as database,
    ):
        async with scene(database, tmp_path, {"store": SHORT}, seed=4) as there:
            fault = partial(full, disk, database)
            await survive(there, "full disk", fault, FAULT_SECONDS, is_refused=True)


@asynccontextmanager
async def full(disk: SmallDisk, database: CrashingDatabase) -> AsyncIterator[None]:
    """No space is left. A server that cannot write its log ends; somebody starts it later."""
    disk.fill()
    try:
        yield
    finally:
        disk.free()
        if not database.is_running:
            database.start()
