"""Back-ups that bring every sample back, and restores that are refused because they did not."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from promcompat.__main__ import main
from promcompat.core.corrections import CorrectionRequest, DeleteSamples, SampleScope
from promcompat.core.errors import DatabaseRefusedError
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import PostgresDistribution
from sql.migrate import migrate
from sql.samples.metric_storage import MetricStorage
from tests.factories import block_rows, make_batch, make_labels, select_name
from tests.repositories import connected, discard, migrated_storage
from tests.servers import DatabaseServer, fast_folder

pytestmark = pytest.mark.integration

T0 = 1_700_000_000_000
DAY_MS = 86_400_000
POINTS = [(T0 + day * DAY_MS, float(day)) for day in range(3)]
UP = make_labels("up", job="a")
EVER = select_name("up", -(2**62), 2**62)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is plenty of it: these databases wait for the disk at each commit."""
    with fast_folder(tmp_path) as folder:
        yield folder


async def write_samples(url: str, first: int = 0) -> None:
    points = [(at + first, value) for at, value in POINTS]
    async with migrated_storage(url) as storage:
        await storage.store.write_batch("default", make_batch({UP: points}))


async def times_of(url: str) -> list[int]:
    async with migrated_storage(url) as storage:
        (block,) = await storage.store.select("default", [EVER])
    return [at for at, _ in block_rows(block).get(UP, [])]


def start(folder: Path) -> EmbeddedDatabase:
    return EmbeddedDatabase.start(folder, report=discard)


@pytest.mark.usefixtures("timescaledb_distribution")
async def test_backup_of_a_running_service_brings_everything_back(tmp_path: Path) -> None:
    folder, file = tmp_path / "data", tmp_path / "metrics.dump"
    options = ["--data-dir", str(folder)]
    with start(folder) as database:
        await write_samples(database.url)
        async with connected(database.url) as owner:
            await owner.execute("CREATE ROLE analyst LOGIN")
            await owner.execute("SELECT grant_tenant_reader('analyst', 'default')")
        assert main(["backup", str(file), *options]) == 0
        await write_samples(database.url, first=1)
        assert len(await times_of(database.url)) == 6
        assert main(["restore", str(file), *options]) == 1, "the service still runs"
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["restore", str(file), *options]) == 0
    with start(folder) as database:
        assert await times_of(database.url) == [at for at, _ in POINTS]
        await write_samples(database.url, first=2)
        assert len(await times_of(database.url)) == 6
        async with connected(database.url) as owner:
            assert await owner.fetchval("SELECT count(*) FROM metrics") == 6
            can_read = "SELECT has_table_privilege('analyst', 'promcompat.metrics', 'SELECT')"
            assert await owner.fetchval(can_read) is True
            public = (
                "SELECT has_function_privilege('analyst', 'promcompat.lock_series()', 'EXECUTE')"
            )
            assert await owner.fetchval(public) is False


@pytest.mark.usefixtures("timescaledb_distribution")
async def test_damaged_backup_leaves_the_database_as_it_is(tmp_path: Path) -> None:
    folder, file = tmp_path / "data", tmp_path / "metrics.dump"
    with start(folder) as database:
        await write_samples(database.url)
    assert main(["backup", str(file), "--data-dir", str(folder)]) == 0
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    assert main(["restore", str(file), "--data-dir", str(folder)]) == 1
    with start(folder) as database:
        assert await times_of(database.url) == [at for at, _ in POINTS]


# -- a database of one's own ------------------------------------------------------------------


async def answers_of(url: str) -> list[object]:
    """What the API and SQL users read."""
    async with connected(url) as owner:
        rows = await owner.fetch(
            "SELECT timestamp, name, value, labels::text FROM promcompat.metrics ORDER BY 1, 2, 4"
        )
        series = await owner.fetch("SELECT id, metric_name, labels::text FROM promcompat.series")
        definitions = await owner.fetch("SELECT name, unit FROM promcompat.metric_definition")
    return [await times_of(url), rows, sorted(series), definitions]


@pytest.mark.parametrize("edition", ["timescaledb", "postgresql"])
async def test_commands_copy_a_database_of_ones_own(
    edition: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture = "timescaledb_server" if edition == "timescaledb" else "plain_postgres_server"
    server: DatabaseServer = request.getfixturevalue(fixture)
    url, file = server.create_database(), tmp_path / "metrics.dump"
    await write_samples(url)
    async with migrated_storage(url) as storage:
        await storage.drains.drainer.drain_all()
        await storage.drains.compact()
        scope = SampleScope([EVER.matchers], T0 + DAY_MS, T0 + DAY_MS)
        await storage.corrections.begin(
            "default", CorrectionRequest(DeleteSamples(scope), "ann", "")
        )
    await write_samples(url, first=1)
    async with connected(url) as owner:
        await owner.execute(
            "INSERT INTO metric_definition (tenant_id, name, display_name, description, unit, type,"
            " aggregation, duplicate_policy, version)"
            " SELECT id, 'up', '', '', 's', 'gauge', 'avg', 'first', 1 FROM tenant"
        )
    before = await answers_of(url)
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", url)
    assert await asyncio.to_thread(main, ["backup", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert await asyncio.to_thread(main, ["restore", str(file)]) == 1, "it is not empty"
    assert await answers_of(url) == before
    name = f"copy_of_{url.rpartition('/')[2]}"
    server.run_sql(f"CREATE DATABASE {name} OWNER promcompat")
    copy = server.url(name)
    restored = ["restore", str(file), "--database-url", server.superuser_url(copy)]
    assert await asyncio.to_thread(main, restored) == 0
    await migrate(copy, discard)
    assert await answers_of(copy) == before
    await write_samples(copy, first=2)
    assert len(await times_of(copy)) == len(await times_of(url)) + len(POINTS)
    server.drop_database(copy)


def copy_database(server: DatabaseServer, url: str, *, as_documented: bool) -> str:
    """Dump a database and restore it into a new one, as docs/operations.md says or as the service's
    role without more ado; return its address.
    """
    cluster = server.cluster
    dump = subprocess.run(
        cluster.command("pg_dump", "-Fc", url),
        env=cluster.environment(),
        capture_output=True,
        check=True,
        cwd="/",
    ).stdout
    name = f"copy_of_{url.rpartition('/')[2]}"
    server.run_sql(f"CREATE DATABASE {name} OWNER promcompat")
    server.run_sql("CREATE EXTENSION timescaledb", name)
    if as_documented:
        server.run_sql("SELECT timescaledb_pre_restore()", name)
    target = server.url(name, "postgres" if as_documented else "promcompat")
    subprocess.run(
        cluster.command("pg_restore", "-d", target),
        env=cluster.environment(),
        input=dump,
        capture_output=True,
        check=as_documented,
        cwd="/",
    )
    if as_documented:
        server.run_sql("SELECT timescaledb_post_restore()", name)
    return server.url(name)


async def test_documented_way_brings_samples_back(
    timescaledb_server: DatabaseServer, timescaledb_distribution: PostgresDistribution
) -> None:
    assert timescaledb_distribution.timescaledb_version
    url = timescaledb_server.create_database()
    await write_samples(url)
    copy = copy_database(timescaledb_server, url, as_documented=True)
    assert await times_of(copy) == [at for at, _ in POINTS]
    timescaledb_server.drop_database(copy)


async def test_incomplete_restore_is_refused_at_start(timescaledb_server: DatabaseServer) -> None:
    """An ordinary role cannot restore what TimescaleDB knows: there is a table without samples."""
    url = timescaledb_server.create_database()
    await write_samples(url)
    copy = copy_database(timescaledb_server, url, as_documented=False)
    await migrate(copy, discard)
    with pytest.raises(DatabaseRefusedError, match="restored incompletely"):
        await MetricStorage.open(copy)
    timescaledb_server.drop_database(copy)
