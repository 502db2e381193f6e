"""Back-ups that bring every sample back, and restores that are refused because they did not."""

import asyncio
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from promcompat.__main__ import main
from promcompat.core.corrections import CorrectionRequest, DeleteSamples, SampleScope
from promcompat.core.errors import DatabaseRefusedError
from promcompat.core.model import MetricMetadata
from sql.embedded.cluster import Cluster
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import PostgresDistribution
from sql.migrate import migrate
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import STALE_NAN, block_rows, make_batch, make_labels, select_name
from tests.support.histograms import histogram
from tests.support.programs.servers import DatabaseServer, fast_folder
from tests.support.services.native_service import running_native_service
from tests.support.storage.repositories import (
    connected,
    discard,
    drain_and_compact,
    migrated_storage,
)

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
        await write_samples(database.owner_url)
        async with connected(database.owner_url) as owner:
            await owner.execute("CREATE ROLE analyst LOGIN")
            await owner.execute("SELECT grant_tenant_reader('analyst', 'default')")
        assert main(["backup", str(file), *options]) == 0
        await write_samples(database.owner_url, first=1)
        assert len(await times_of(database.owner_url)) == 6
        assert main(["restore", str(file), *options]) == 1, "the service still runs"
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["restore", str(file), *options]) == 0
    with start(folder) as database:
        assert await times_of(database.owner_url) == [at for at, _ in POINTS]
        await write_samples(database.owner_url, first=2)
        assert len(await times_of(database.owner_url)) == 6
        async with connected(database.owner_url) as owner:
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
        await write_samples(database.owner_url)
    assert main(["backup", str(file), "--data-dir", str(folder)]) == 0
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    assert main(["restore", str(file), "--data-dir", str(folder)]) == 1
    with start(folder) as database:
        assert await times_of(database.owner_url) == [at for at, _ in POINTS]
        async with connected(database.owner_url) as owner:
            names = await owner.fetchval("SELECT array_agg(datname) FROM pg_database")
    # What the restore had filled would keep the disk full that ended it.
    assert sorted(names) == ["postgres", "promcompat", "template0", "template1"]


_DROP = "DROP DATABASE promcompat WITH (FORCE)"
_HALF_DROPPED = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'promcompat'"
"""As PostgreSQL notes it before it removes the files of a database."""


@pytest.mark.usefixtures("timescaledb_distribution")
@pytest.mark.parametrize(
    ("statement", "in_its_place", "has_restored"),
    [
        ("CREATE EXTENSION timescaledb", None, False),
        ("SELECT timescaledb_post_restore()", None, False),
        (_DROP, _HALF_DROPPED, True),
        (_DROP, _DROP, True),
    ],
)
async def test_restore_that_is_killed_leaves_one_of_both_databases(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    in_its_place: str | None,
    has_restored: bool,
) -> None:
    """Whatever the last statement was; and the next restore completes."""
    folder, file = tmp_path / "data", tmp_path / "metrics.dump"
    options = [str(file), "--data-dir", str(folder)]
    with start(folder) as database:
        await write_samples(database.owner_url)
        assert main(["backup", *options]) == 0
        await write_samples(database.owner_url, first=1)
    run_sql, is_killed = Cluster.run_sql, False

    class KilledError(BaseException):
        """Ends what runs, and lets nothing be cleared up."""

    def run_until(
        self: Cluster, port: int, *arguments: str, database: str = "postgres", script: str = ""
    ) -> str:
        nonlocal is_killed
        if arguments[-1] == statement and not is_killed:
            is_killed = True
            if in_its_place is not None:
                run_sql(self, port, "-c", in_its_place)
        if is_killed:
            raise KilledError
        return run_sql(self, port, *arguments, database=database, script=script)

    with monkeypatch.context() as patched:
        patched.setattr(Cluster, "finish_restore", lambda self, port: None)
        patched.setattr(Cluster, "make_service_role", lambda self, port, password: None)
        patched.setattr(Cluster, "run_sql", run_until)
        with pytest.raises(KilledError):
            main(["restore", *options])
    with start(folder) as database:
        assert len(await times_of(database.owner_url)) == (3 if has_restored else 6)
    assert main(["restore", *options]) == 0
    with start(folder) as database:
        assert await times_of(database.owner_url) == [at for at, _ in POINTS]


# -- a database of one's own ------------------------------------------------------------------


PANEL = {"start": str(T0 // 1000), "end": str((T0 + 3 * DAY_MS) // 1000), "step": "3600"}
MOMENT = {"time": str((T0 + DAY_MS * 95 // 48) // 1000)}
EXPRESSIONS = (
    "up",
    "sum by (job) (rate(requests_total[6h]))",
    "increase(requests_total[1d])",
    "max_over_time(up[2d])",
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[1d])))",
    "count_over_time(up[1d])",
    "last_over_time({__name__=~'.+'}[1d])",
    "absent(up) or quantile(0.5, up)",
)
LISTS = ("labels", "label/__name__/values", "label/job/values", "metadata", "rules", "alerts")
NATIVE = ("/definitions", "/rules", "/corrections", "/alerts")
VIEWS = (
    "SELECT * FROM metrics ORDER BY name, labels, timestamp",
    "SELECT * FROM metrics_hourly ORDER BY name, bucket",
    "SELECT * FROM metrics_hourly_by_series ORDER BY series_id, bucket",
    "SELECT * FROM samples('up', '-infinity', 'infinity') ORDER BY labels, timestamp",
    "SELECT * FROM metric_up ORDER BY job, time",
    "SELECT * FROM series ORDER BY id",
    "SELECT * FROM definitions ORDER BY name",
    "SELECT * FROM corrections ORDER BY id",
    "SELECT * FROM tenants ORDER BY id",
    "SELECT role_name, tenant_id FROM tenant_reader",
)


async def answers_of(url: str) -> dict[str, object]:
    """What the APIs answer and SQL users read, by what was asked."""
    answers: dict[str, object] = {}
    async with running_native_service(url) as native:
        for expression in EXPRESSIONS:
            for path, times in (("query_range", PANEL), ("query", MOMENT)):
                answer = await native.prometheus(path, query=expression, **times)
                answers[f"{path} {expression}"] = answer["result"]
        for path in LISTS:
            answers[path] = await native.prometheus(path)
        answers["series"] = await native.prometheus("series", **{"match[]": "{__name__!=''}"})
        for path in NATIVE:
            answers[path] = await native.get(path)
    async with connected(url) as owner:
        await owner.execute("SET search_path = promcompat, public")
        for statement in VIEWS:
            answers[statement] = [tuple(row) for row in await owner.fetch(statement)]
    return answers


def points(first: int, rise: float) -> list[tuple[int, float]]:
    """Two days of samples every half hour, from three days before the end of PANEL on."""
    return [(T0 + k * DAY_MS // 48 + first, k * rise % 100) for k in range(96)]


async def write_everything(url: str) -> None:
    """Samples in every table that has some, a definition, a rule, a correction and a reader."""
    series = {make_labels("up", job=job): points(0, rise) for job, rise in (("a", 1), ("b", 2))}
    series[make_labels("requests_total", job="a")] = points(0, 7)
    for bound in ("0.1", "1", "+Inf"):
        series[make_labels("latency_bucket", le=bound)] = points(0, 3)
    metadata = [MetricMetadata("up", "gauge", "Whether it is up.", "")]
    async with running_native_service(url) as native:
        storage = native.storage
        await storage.store.write_batch("default", make_batch(series, metadata))
        await drain_and_compact(storage)
        if storage.rollups is not None:
            await storage.rollups.run(100)
        if storage.corrections is not None:
            scope = SampleScope([EVER.matchers], T0 + DAY_MS, T0 + DAY_MS + DAY_MS // 8)
            request = CorrectionRequest(DeleteSamples(scope), "ann", "")
            await storage.corrections.begin("default", request)
        late = {labels: [(at + 1, v) for at, v in some[:3]] for labels, some in series.items()}
        await storage.store.write_batch("default", make_batch(late))
        definition = {"unit": "s", "type": "gauge", "description": "It's up."}
        await native.send("PUT", "/definitions/up", status=201, body={"name": "up", **definition})
        rule = {"name": "Down", "expr": "up == 0", "severity": "critical", "interval": "30s"}
        await native.send("POST", "/rules", status=201, body=rule)
    async with connected(url) as owner:
        await owner.execute("SELECT promcompat.create_metric_view('up')")


@pytest.mark.parametrize(
    ("edition", "store"),
    [
        ("timescaledb", StoreKind.BLOCKS),
        ("timescaledb", StoreKind.ROWS),
        ("postgresql", StoreKind.BLOCKS),
    ],
)
async def test_commands_copy_a_database_of_ones_own(
    edition: str,
    store: StoreKind,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The copy gives every answer of the original."""
    monkeypatch.setenv("PROMCOMPAT_STORE", store.value)
    fixture = "timescaledb_server" if edition == "timescaledb" else "plain_postgres_server"
    server: DatabaseServer = request.getfixturevalue(fixture)
    url, file = server.create_database(), tmp_path / "metrics.dump"
    role = f"reader_of_{url.rpartition('/')[2]}"
    server.run_sql(f"CREATE ROLE {role}")
    await write_everything(url)
    async with connected(url) as owner:
        await owner.execute("SELECT grant_tenant_reader($1, 'default')", role)
    before = await answers_of(url)
    assert [question for question, answer in before.items() if not answer] == []
    monkeypatch.setenv("PROMCOMPAT_DATABASE_URL", url)
    assert await asyncio.to_thread(main, ["backup", str(file)]) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert await asyncio.to_thread(main, ["restore", str(file)]) == 1, "it is not empty"
    name = f"copy_of_{url.rpartition('/')[2]}"
    server.run_sql(f"CREATE DATABASE {name} OWNER promcompat")
    copy = server.url(name)
    if edition == "timescaledb":
        ordinary = ["restore", str(file), "--database-url", copy]
        assert await asyncio.to_thread(main, ordinary) == 1
        assert "which only a superuser can restore" in capsys.readouterr().err
    restored = ["restore", str(file), "--database-url", server.superuser_url(copy)]
    assert await asyncio.to_thread(main, restored) == 0
    after = await answers_of(copy)
    for question, answer in before.items():
        assert after[question] == answer, question
    async with connected(copy) as owner:
        can_read = "SELECT has_table_privilege($1, 'promcompat.metrics', 'SELECT')"
        assert await owner.fetchval(can_read, role) is True
    await write_samples(copy, first=2)
    assert len(await times_of(copy)) == len(await times_of(url)) + len(POINTS)
    server.drop_database(copy)


OTHER_NAN = float(np.array([0xFFF8_0000_DEAD_BEEF], np.uint64).view(np.float64)[0])


@pytest.mark.parametrize("edition", ["timescaledb", "plain_postgres"])
async def test_rows_have_the_bits_of_nans_after_a_restore(
    edition: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A dump writes every NaN as the same text."""
    server: DatabaseServer = request.getfixturevalue(f"{edition}_server")
    url, file = server.create_database(), tmp_path / "metrics.dump"
    monkeypatch.setenv("PROMCOMPAT_STORE", StoreKind.ROWS.value)
    values = (STALE_NAN, OTHER_NAN, math.nan, 1.5, histogram(count=3, positive=[(0, 3)]))
    samples = [(T0 + DAY_MS * number, value) for number, value in enumerate(values)]
    async with migrated_storage(url) as storage:
        # The second write meets rows that are stored already.
        for written in (samples, [*samples, (T0 + 1, STALE_NAN)]):
            await storage.store.write_batch("default", make_batch({UP: written}))
            await drain_and_compact(storage)
    async with connected(url) as owner:
        before = await owner.fetch(ROWS)
        # As a version without the column has stored it.
        await owner.execute("UPDATE sample SET nan_bits = NULL WHERE ts = from_unix_ms($1)", T0)
    assert len(before) == len(samples) + 1
    assert sum(row["nan_bits"] is not None for row in before) == 3
    assert await asyncio.to_thread(main, ["backup", str(file), "--database-url", url]) == 0
    name = f"copy_of_{url.rpartition('/')[2]}"
    server.run_sql(f"CREATE DATABASE {name} OWNER promcompat")
    copy = server.url(name)
    restored = ["restore", str(file), "--database-url", server.superuser_url(copy)]
    assert await asyncio.to_thread(main, restored) == 0
    async with connected(copy) as owner:
        await owner.execute("SET search_path = promcompat, public")
        assert await owner.fetch(ROWS) != before, "text has no bits"
        await migrate(copy, discard)
        assert await owner.fetch(ROWS) == before
        reports: list[str] = []
        await migrate(copy, reports.append)
        assert reports == []
    server.drop_database(copy)


ROWS = (
    "SELECT series_id, ts, float8send(value) AS bits, histogram, nan_bits FROM sample "
    "ORDER BY series_id, ts"
)


def copy_database(server: DatabaseServer, url: str, *, as_documented: bool) -> str:
    """Dump a database and restore it into a new one, as docs/operations/backups.md says or as the
    service's role without more ado; return its address.
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
