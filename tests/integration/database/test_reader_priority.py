"""Backends that read step back for those that write, on a server of our own only."""

import os
from pathlib import Path

import asyncpg
import pytest

from sql.database.reader_priority import NICENESS, lower_priority
from tests.support.factories import make_batch, make_labels, select_name
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

OWN = os.getpriority(os.PRIO_PROCESS, 0)
"""The niceness that these tests, and so their database servers, run with."""
BACKENDS = """
SELECT application_name, pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'promcompat %'
"""


def niceness(process_id: int) -> tuple[int, str]:
    """That of a process, and that of its session where the kernel has such."""
    autogroup = Path(f"/proc/{process_id}/autogroup")
    session = autogroup.read_text().split("nice")[-1].strip() if autogroup.exists() else ""
    return os.getpriority(os.PRIO_PROCESS, process_id), session


async def priorities(url: str, *, is_own_server: bool) -> dict[str, set[tuple[int, str]]]:
    """The niceness of readers and writers after some use."""
    async with (
        opened_storage(url, is_own_server=is_own_server) as storage,
        connected(url) as watcher,
    ):
        await storage.store.write_batch("default", make_batch({make_labels("up"): [(1000, 1.0)]}))
        assert len(await storage.store.select("default", [select_name("up", 0, 2000)] * 3)) == 3
        found: dict[str, set[tuple[int, str]]] = {}
        for name, process_id in await watcher.fetch(BACKENDS):
            found.setdefault(name, set()).add(niceness(process_id))
    return found


async def test_readers_step_back_for_writers(plain_database_url: str) -> None:
    found = await priorities(plain_database_url, is_own_server=True)
    assert {nice for nice, _ in found["promcompat read"]} == {NICENESS}
    assert {session for _, session in found["promcompat read"]} <= {str(NICENESS), ""}
    assert {nice for nice, _ in found["promcompat write"]} == {OWN}
    assert {session for _, session in found["promcompat write"]} <= {"0", ""}


async def test_readers_of_another_server_are_left_alone(plain_database_url: str) -> None:
    found = await priorities(plain_database_url, is_own_server=False)
    assert {nice for nice, _ in found["promcompat read"]} == {OWN}


async def test_process_that_is_no_backend_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(asyncpg.Connection):
        """A connection to a machine on which our own process id is that of a backend."""

        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

        def get_server_pid(self) -> int:
            return os.getpid()

    before = os.getpriority(os.PRIO_PROCESS, os.getpid())
    await lower_priority(Elsewhere())
    assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == before
