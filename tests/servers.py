"""Real PostgreSQL servers for tests: one per edition and session, a fresh database per test."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sql.embedded.cluster import SERVICE_ROLE, SUPERUSER, Cluster
from sql.embedded.distributions import PostgresDistribution
from sql.embedded.postgres_server import PostgresServer, start_server
from sql.embedded.server_account import choose_account
from sql.embedded.server_settings import Machine, tune_settings

_PASSWORD = "test"
_TEMPLATE = "promcompat"  # What bootstrap made; nobody connects to it, so it can be copied.
_MEBIBYTE = 1024 * 1024
# Small, because several test sessions share a machine.
_MACHINE = Machine(memory_bytes=1024 * _MEBIBYTE, cores=2, free_disk_bytes=10_240 * _MEBIBYTE)
_FASTER_THAN_SAFE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
# TimescaleDB's scheduler holds a session in every database, and CREATE DATABASE needs the
# template without sessions (timescaledb issues 4048 and 9080).
_NO_SCHEDULER = {"timescaledb.max_background_workers": "0"}


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A running server of one edition."""

    edition: str
    """`timescaledb` (Apache) or `postgresql` (plain)."""
    cluster: Cluster
    process: PostgresServer
    _numbers: "itertools.count[int]"

    def create_database(self) -> str:
        """Make an empty database, with the extension if the edition has it; return its URL.

        It belongs to the service's role, which is an ordinary one, as in production.
        """
        name = f"test_{next(self._numbers)}"
        self.run_sql(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} OWNER {SERVICE_ROLE}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database made by `create_database`, ending the sessions it still has."""
        self.run_sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def url(self, database: str, role: str = SERVICE_ROLE) -> str:
        return f"postgresql://{role}:{_PASSWORD}@127.0.0.1:{self.process.port}/{database}"

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
        yield DatabaseServer(edition, cluster, process, itertools.count(1))
    finally:
        process.stop()


def _test_settings(distribution: PostgresDistribution) -> dict[str, str]:
    has_timescaledb = distribution.timescaledb_version is not None
    settings = tune_settings(
        _MACHINE, has_timescaledb=has_timescaledb, has_lz4=distribution.has_lz4
    )
    return settings | _FASTER_THAN_SAFE | (_NO_SCHEDULER if has_timescaledb else {})
