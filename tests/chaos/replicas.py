"""Services on one database that are killed and started again, as a supervisor does."""

import asyncio
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from conformance.processes import RunningProgram, find_free_port, start_promcompat
from tests.benchmarks.process_usage import descendants
from tests.chaos.crashing_database import CrashingDatabase

_DRAINING_SESSIONS = """
SELECT FROM pg_locks AS l
WHERE l.granted AND l.locktype = 'relation'
    AND l.relation = to_regclass('promcompat.drain_order')
"""


@dataclass(slots=True)
class Replica:
    """One `promcompat serve` with its workers."""

    name: str
    database_url: str
    folder: Path
    settings: Mapping[str, str]
    port: int = field(default_factory=find_free_port)
    program: RunningProgram | None = None

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return at once."""
        log = self.folder / f"{self.name}.log"
        self.program = start_promcompat(self.database_url, log, port=self.port, **self.settings)

    def processes(self) -> list[int]:
        """The service and its workers; empty when it does not run."""
        if self.program is None or self.program.process.poll() is not None:
            return []
        return descendants(self.program.process.pid)

    def kill(self) -> None:
        """End the service and its workers at once."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.program is not None:
            self.program.process.wait(60)

    async def wait_ready(self) -> None:
        """Return once it serves. Raises ProcessError when it ends instead."""
        assert self.program is not None
        await asyncio.to_thread(self.program.wait_ready, "/-/ready")

    def has_ended(self) -> bool:
        """Whether its main process is gone."""
        return self.program is None or self.program.process.poll() is not None


@contextmanager
def running_replicas(
    names: Sequence[str], database_url: str, folder: Path, settings: Mapping[str, str]
) -> Iterator[list[Replica]]:
    """Services that start now, one of them first because it migrates; stopped at the end."""
    replicas = [Replica(name, database_url, folder, settings) for name in names]
    try:
        for replica in replicas:
            replica.start()
            assert replica.program is not None
            replica.program.wait_ready("/-/ready")
        yield replicas
    finally:
        for replica in replicas:
            if replica.program is not None:
                replica.program.stop()


async def is_draining(database: CrashingDatabase) -> bool:
    """Whether a drain or a merge is under way; False too when the database is away."""
    try:
        return bool(await database.fetch(_DRAINING_SESSIONS))
    except (OSError, asyncpg.PostgresError):
        return False
