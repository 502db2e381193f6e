"""Real PostgreSQL servers for tests: one per edition and session, a fresh database per test.

Migrating a database takes longer than most tests, so it is done once per server; the databases of
tests are copies of the result.
"""

import asyncio
import itertools
import os
import shutil
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import asyncpg

from sql.database.connecting import SCHEMA
from sql.embedded.cluster import OWNER_ROLE, SUPERUSER, Cluster
from sql.embedded.distributions import PostgresDistribution
from sql.embedded.postgres_server import PostgresServer, start_server
from sql.embedded.server_account import choose_account
from sql.embedded.server_settings import Machine, tune_settings
from sql.migrate import migrate

_PASSWORD = "test"
# Nobody is connected to these two, so they can be copied.
_EMPTY = "promcompat"  # As bootstrap made it.
_MIGRATED = "migrated"
_MEBIBYTE = 1024 * 1024
# Small, because several test sessions share a machine.
_MACHINE = Machine(memory_bytes=1024 * _MEBIBYTE, cores=2, free_disk_bytes=10_240 * _MEBIBYTE)
_FASTER_THAN_SAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_FASTER_LOGIN = {"scram_iterations": "1"}
_LESS_WAL = {"min_wal_size": "64MB", "max_wal_size": "512MB"}
# TimescaleDB's scheduler holds a session in every database, and CREATE DATABASE needs the
# template without sessions (timescaledb issues 4048 and 9080).
_NO_SCHEDULER = {"timescaledb.max_background_workers": "0"}
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 3 * 1024 * _MEBIBYTE
"""What must be free for one more server in memory, which takes up to a third of it."""

Result = TypeVar("Result")


class _AdminSession:
    """A superuser's session, which saves a psql for each database that is made or dropped.

    Its event loop has a thread of its own, because callers may be in a running one.
    """

    def __init__(self, url: str) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection = self.run(asyncpg.connect(url))

    def execute(self, statement: str) -> None:
        self.run(self._connection.execute(statement))

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self._thread.submit(self._loop.run_until_complete, work).result()

    def close(self) -> None:
        self.run(self._connection.close())
        self._thread.submit(self._loop.close).result()
        self._thread.shutdown()


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A running server of one edition."""

    edition: str
    """`timescaledb` (Apache) or `postgresql` (plain)."""
    cluster: Cluster
    process: PostgresServer
    _admin: _AdminSession
    _numbers: "itertools.count[int]"

    def create_database(self) -> str:
        """Make a migrated database without samples; return its URL.

        It belongs to the service's role, which is an ordinary one, as in production.
        """
        name = self._copy(_MIGRATED)
        # CREATE DATABASE does not copy this setting, which a migration makes.
        self._admin.execute(
            f"ALTER ROLE {OWNER_ROLE} IN DATABASE {name}"
            f' SET search_path = {SCHEMA}, "$user", public'
        )
        return self.url(name)

    def create_empty_database(self) -> str:
        """Make a database as bootstrap makes it; return its URL.

        It has the extension if the edition has it, and no table of ours.
        """
        return self.url(self._copy(_EMPTY))

    def _copy(self, template: str) -> str:
        name = f"test_{next(self._numbers)}"
        self._admin.execute(
            f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER_ROLE} STRATEGY file_copy"
        )
        return name

    def prepare(self) -> None:
        """Migrate the database that others are copied from."""
        self._admin.execute(f"CREATE DATABASE {_MIGRATED} TEMPLATE {_EMPTY} OWNER {OWNER_ROLE}")
        self._admin.run(migrate(self.url(_MIGRATED), lambda _line: None))

    def drop_database(self, url: str) -> None:
        """Drop a database of this server, ending the sessions it still has."""
        self._admin.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def url(self, database: str, role: str = OWNER_ROLE) -> str:
        return _url(self.process.port, database, role)

    def superuser_url(self, url: str) -> str:
        """Return the same database's URL for the superuser."""
        return self.url(url.rpartition("/")[2], SUPERUSER)

    def run_sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement as superuser; return psql's unaligned rows."""
        return self.cluster.run_sql(self.process.port, "-c", statement, database=database)


@contextmanager
def run_server(
    edition: str, distribution: PostgresDistribution, folder: Path, report: Callable[[str], None]
) -> Iterator[DatabaseServer]:
    """Run a new server in `folder` for as long as the block lasts."""
    cluster = Cluster(
        folder=folder / "cluster",
        distribution=distribution,
        account=choose_account(folder),
        password=_PASSWORD,
    )
    cluster.initialize()
    cluster.write_settings(_test_settings(distribution))
    process = start_server(cluster, folder / "postgres.log", report)
    try:
        cluster.bootstrap(process.port, _PASSWORD)
        admin = _AdminSession(_url(process.port, "postgres", SUPERUSER))
        try:
            server = DatabaseServer(edition, cluster, process, admin, itertools.count(1))
            server.prepare()
            yield server
        finally:
            admin.close()
    finally:
        process.stop()


@contextmanager
def fast_folder(on_disk: Path) -> Iterator[Path]:
    """A folder in memory where much of it is free, else `on_disk`.

    Making a database copies a thousand files, which takes five times as long on a disk.
    """
    if not _MEMORY.is_dir() or _free_memory_bytes() < _MEMORY_BYTES:
        yield on_disk
        return
    for left in _MEMORY.glob("promcompat-tests-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=f"promcompat-tests-{os.getpid()}-", dir=_MEMORY) as name:
        yield Path(name)


def _free_memory_bytes() -> int:
    unused = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min(unused, shutil.disk_usage(_MEMORY).free)


def _url(port: int, database: str, role: str) -> str:
    return f"postgresql://{role}:{_PASSWORD}@127.0.0.1:{port}/{database}"


def _test_settings(distribution: PostgresDistribution) -> dict[str, str]:
    has_timescaledb = distribution.timescaledb_version is not None
    settings = tune_settings(
        _MACHINE, has_timescaledb=has_timescaledb, has_lz4=distribution.has_lz4
    )
    settings |= _FASTER_THAN_SAFE | _FASTER_LOGIN | _LESS_WAL
    return settings | (_NO_SCHEDULER if has_timescaledb else {})
