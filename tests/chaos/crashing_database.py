"""A PostgreSQL server that can be killed, stopped and started again on its port."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg

from sql.embedded.cluster import DATABASE_NAME, OWNER_ROLE, SUPERUSER, Cluster
from sql.embedded.distributions import PostgresDistribution
from sql.embedded.postgres_server import PostgresServer, start_server
from sql.embedded.server_account import choose_account
from sql.embedded.server_settings import Machine, tune_settings
from tests.benchmarks.process_usage import descendants

_PASSWORD: Final = "chaos"
_MEBIBYTE: Final = 1 << 20
_MACHINE: Final = Machine(
    memory_bytes=1024 * _MEBIBYTE, cores=2, free_disk_bytes=10_240 * _MEBIBYTE
)
# The pages that a killed process had written survive it in the kernel; only a power cut would need
# fsync. Recovery needs full pages only after one, too.
_FASTER: Final = {"fsync": "off", "full_page_writes": "off", "scram_iterations": "1"}
_LESS_WAL: Final = {"min_wal_size": "64MB", "max_wal_size": "256MB"}


def _nothing(_line: str) -> None:
    """Progress is for people."""


class CrashingDatabase:
    """One server with one empty database, which belongs to the service's role."""

    def __init__(
        self,
        distribution: PostgresDistribution,
        folder: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Make the cluster in `folder`, start it and create the database."""
        self._cluster = Cluster(
            folder=folder / "cluster",
            distribution=distribution,
            account=choose_account(folder),
            password=_PASSWORD,
        )
        self._log = folder / "postgres.log"
        self._cluster.initialize()
        has_timescaledb = distribution.timescaledb_version is not None
        tuned = tune_settings(
            _MACHINE, has_timescaledb=has_timescaledb, has_lz4=distribution.has_lz4
        )
        self._cluster.write_settings(tuned | _FASTER | _LESS_WAL | dict(settings or {}))
        self._server: PostgresServer = start_server(self._cluster, self._log, _nothing)
        self.port = self._server.port
        self._cluster.bootstrap(self.port, _PASSWORD)

    @property
    def url(self) -> str:
        """The address for the service."""
        return self._url(OWNER_ROLE)

    @property
    def superuser_url(self) -> str:
        """The address for faults that only a superuser can make."""
        return self._url(SUPERUSER)

    def _url(self, role: str) -> str:
        return f"postgresql://{role}:{_PASSWORD}@127.0.0.1:{self.port}/{DATABASE_NAME}"

    async def execute(self, statement: str) -> None:
        """Run statements as superuser."""
        connection = await asyncpg.connect(self.superuser_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """The rows of a statement as superuser."""
        connection = await asyncpg.connect(self.superuser_url)
        try:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
            return rows
        finally:
            await connection.close()

    @property
    def is_running(self) -> bool:
        """Whether its main process lives."""
        return self._server.is_running

    def kill(self) -> None:
        """End all of its processes at once, as when the machine stops, and wait for that."""
        for process in descendants(self._server.process_id):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        while self.is_running:
            time.sleep(0.002)

    async def kill_session(self) -> None:
        """Kill the process of one session, and wait until the server has ended all others."""
        killed, other = [await asyncpg.connect(self.superuser_url) for _ in range(2)]
        os.kill(await killed.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
        with suppress(asyncpg.PostgresError, OSError):
            await other.execute("SELECT pg_sleep(60)")
        killed.terminate()
        other.terminate()

    def stop(self) -> None:
        """Shut it down in an orderly way, or do nothing if it has ended."""
        self._server.stop()

    def start(self) -> None:
        """Start it again where it was, with a recovery if it was killed."""
        self._server = start_server(self._cluster, self._log, _nothing, self.port)
        assert self._server.port == self.port, "another program took the port of the database"


@contextmanager
def crashing_database(
    distribution: PostgresDistribution, folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[CrashingDatabase]:
    """A running server for as long as the block lasts."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    database = CrashingDatabase(distribution, folder, settings)
    try:
        yield database
    finally:
        database.stop()
