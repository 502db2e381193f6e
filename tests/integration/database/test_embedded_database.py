"""The embedded database on both distributions: restarts, crashes, locks, private folders."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from promcompat.core.cache_folder import InstallError
from sql.embedded import distributions
from sql.embedded.cluster import Cluster
from sql.embedded.data_folder import DataFolder
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import PostgresDistribution
from sql.embedded.errors import DataFolderInUseError, EmbeddedDatabaseError
from sql.embedded.postgres_server import start_server
from sql.embedded.server_account import choose_account
from tests.support.programs.servers import fast_folder

pytestmark = pytest.mark.integration

_CHECKOUT = Path(__file__).parents[3]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is plenty of it: these databases wait for the disk at each commit."""
    with fast_folder(tmp_path) as folder:
        yield folder


@pytest.fixture(params=["debian", "wheel"])
def distribution(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> PostgresDistribution:
    """Each distribution in turn; the wheel as a system without Debian's packages gets it."""
    if request.param == "debian":
        chosen: PostgresDistribution = request.getfixturevalue("timescaledb_distribution")
        return chosen
    chosen = request.getfixturevalue("wheel_distribution")

    def refuse(_cache_folder: Path, _report: object) -> PostgresDistribution:
        raise InstallError("this system has no apt-get")

    monkeypatch.setattr(distributions, "install_timescaledb", refuse)
    return chosen


@pytest.fixture
def data_folder(distribution: PostgresDistribution, tmp_path: Path) -> Path:
    """A folder that is not there yet, below one that nobody else may enter."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    return private / "data of promcompat"


@pytest.fixture(scope="module")
def created_folder(
    timescaledb_distribution: PostgresDistribution, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A data folder that has run once, made once: creating a cluster takes a second."""
    folder = tmp_path_factory.mktemp("embedded") / "data"
    _start(folder).stop()
    return folder


@pytest.fixture
def timescaledb_folder(created_folder: Path, tmp_path: Path) -> Path:
    """A copy of it with its owners, for what does not differ between distributions."""
    subprocess.run(["cp", "-a", created_folder, tmp_path / "data"], check=True)
    return tmp_path / "data"


def _start(folder: Path) -> EmbeddedDatabase:
    return EmbeddedDatabase.start(folder, report=lambda line: None)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _fetch_value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_data_and_address_survive_a_restart(data_folder: Path) -> None:
    with _start(data_folder) as first:
        await _execute(first.owner_url, "CREATE TABLE kept AS SELECT 42 AS value")
    assert not first.is_running
    with _start(data_folder) as second:
        assert second.url == first.url
        assert await _fetch_value(second.owner_url, "SELECT value FROM kept") == 42


async def test_edition_is_the_distributions(
    data_folder: Path, distribution: PostgresDistribution
) -> None:
    query = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    with _start(data_folder) as database:
        assert await _fetch_value(database.url, query) == distribution.timescaledb_version
        assert database.description == distribution.description
        assert await _fetch_value(database.url, "SHOW is_superuser") == "off"
        assert await _fetch_value(database.url, "SHOW synchronous_commit") == "on"
        assert await _fetch_value(database.url, "SHOW fsync") == "on"


def test_folders_above_keep_their_permissions(data_folder: Path) -> None:
    before = data_folder.parent.stat()
    with _start(data_folder):
        pass
    after = data_folder.parent.stat()
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid)
    assert (data_folder / "postgres").stat().st_mode & 0o777 == 0o700
    assert (data_folder / "database-url").stat().st_mode & 0o777 == 0o600


async def test_other_accounts_need_the_password(data_folder: Path) -> None:
    with _start(data_folder) as database:
        address = database.url.rpartition("@")[2]
        for role in ("postgres", "promcompat", "promcompat_service"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(f"postgresql://{role}:guessed@{address}")


def _superuser_url(database: EmbeddedDatabase, password: str) -> str:
    return f"postgresql://postgres:{password}@{database.url.rpartition('@')[2]}"


def _password_of(url: str) -> str:
    return urlsplit(url).password or ""


async def test_password_of_the_service_is_not_that_of_the_superuser(data_folder: Path) -> None:
    with _start(data_folder) as database:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(_superuser_url(database, _password_of(database.url)))
        assert _password_of(database.url) != _password_of(database.owner_url)
        for statement in (
            "ALTER ROLE postgres PASSWORD 'taken'",
            "ALTER ROLE promcompat PASSWORD 'taken'",
            "CREATE ROLE another",
            "CREATE SCHEMA mine",
            "SET ROLE promcompat",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await _execute(database.url, statement)
        assert await _fetch_value(database.owner_url, "SELECT current_user") == "promcompat"
        assert (data_folder / "database.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("interrupted", [False, True], ids=["whole", "interrupted"])
async def test_folder_of_an_early_version_gets_a_superuser_with_a_password_of_its_own(
    timescaledb_folder: Path, interrupted: bool
) -> None:
    state_file = timescaledb_folder / "database.json"
    with _start(timescaledb_folder) as database:
        old_password = _password_of(database.owner_url)
        state = json.loads(state_file.read_text())
        superuser = _superuser_url(database, state["superuser_password"])
        if not interrupted:
            await _execute(superuser, f"ALTER ROLE postgres PASSWORD '{old_password}'")
            del state["superuser_password"], state["is_superuser_separate"]
        else:
            state["is_superuser_separate"] = False  # It has its password; that was not noted.
    state_file.write_text(json.dumps(state))
    for _ in range(2):
        with _start(timescaledb_folder) as database:
            assert _password_of(database.owner_url) == old_password
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(_superuser_url(database, old_password))
            password = json.loads(state_file.read_text())["superuser_password"]
            assert await _fetch_value(_superuser_url(database, password), "SELECT 1") == 1


def test_second_instance_on_the_folder_is_refused(timescaledb_folder: Path) -> None:
    with _start(timescaledb_folder) as database:
        with pytest.raises(DataFolderInUseError, match=rf"pid {os.getpid()}\) is using"):
            _start(timescaledb_folder)
        assert database.is_running


def test_stop_twice_is_harmless(timescaledb_folder: Path) -> None:
    database = _start(timescaledb_folder)
    database.stop()
    database.stop()
    assert not database.is_running


async def test_database_outlives_the_thread_that_started_it(timescaledb_folder: Path) -> None:
    started: list[EmbeddedDatabase] = []
    thread = threading.Thread(target=lambda: started.append(_start(timescaledb_folder)))
    thread.start()
    thread.join()
    with started[0] as database:
        assert await _fetch_value(database.url, "SELECT 1") == 1


async def test_another_program_on_the_port_moves_the_database(timescaledb_folder: Path) -> None:
    with _start(timescaledb_folder) as first:
        port = int(first.url.rpartition(":")[2].partition("/")[0])
    with socket.create_server(("127.0.0.1", port)), _start(timescaledb_folder) as second:
        assert second.url != first.url
        assert await _fetch_value(second.url, "SELECT 1") == 1


class _Command:
    """`python -m sql.embedded run FOLDER` in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sql.embedded", "run", str(folder)],
            cwd=_CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def wait(self) -> int:
        return self.process.wait(timeout=30)


@pytest.fixture
def command(timescaledb_folder: Path) -> Iterator[_Command]:
    running = _Command(timescaledb_folder)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        assert running.process.stdout is not None
        running.process.stdout.close()


async def test_killed_service_loses_no_committed_row(
    command: _Command, timescaledb_folder: Path
) -> None:
    await _execute(command.url, "CREATE TABLE kept AS SELECT 42 AS value")
    command.process.kill()
    # At once, while the orphaned server may still be shutting down.
    with _start(timescaledb_folder) as database:
        assert await _fetch_value(database.owner_url, "SELECT value FROM kept") == 42


@pytest.mark.parametrize("to_group", [False, True], ids=["process", "process group"])
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_service_and_database(
    command: _Command, timescaledb_folder: Path, sent: signal.Signals, to_group: bool
) -> None:
    if to_group:
        os.killpg(command.process.pid, sent)
    else:
        command.process.send_signal(sent)
    assert command.wait() == 0
    assert not (timescaledb_folder / "postgres" / "postmaster.pid").exists()
    log = (timescaledb_folder / "postgres.log").read_text(encoding="utf-8")
    assert log.rstrip().endswith("database system is shut down")


async def test_orphaned_server_is_replaced(
    timescaledb_folder: Path, timescaledb_distribution: PostgresDistribution
) -> None:
    cluster = Cluster(
        folder=timescaledb_folder / "postgres",
        distribution=timescaledb_distribution,
        account=choose_account(timescaledb_folder),
        password="not used",
    )
    lines: list[str] = []
    orphan = start_server(cluster, timescaledb_folder / "postgres.log", lines.append)
    with EmbeddedDatabase.start(timescaledb_folder, report=lines.append) as database:
        assert not orphan.is_running
        assert await _fetch_value(database.url, "SELECT 1") == 1
    assert any(f"pid {orphan.process_id}" in line for line in lines)


def test_stale_pid_file_of_another_program_is_ignored(timescaledb_folder: Path) -> None:
    pid_file = timescaledb_folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n", encoding="utf-8")
    with _start(timescaledb_folder) as database:
        assert database.is_running


@pytest.mark.parametrize("content", [b"", b"not a number\n", b"\xff\xfe", bytes(64)])
def test_pid_file_without_a_number_is_removed(timescaledb_folder: Path, content: bytes) -> None:
    """A crash of the machine or a full disk leaves such a file; PostgreSQL refuses to start."""
    (timescaledb_folder / "postgres" / "postmaster.pid").write_bytes(content)
    with _start(timescaledb_folder) as database:
        assert database.is_running


def test_interrupted_creation_is_repaired(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    unfinished = tmp_path / "data" / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("17\n", encoding="ascii")
    with _start(tmp_path / "data") as database:
        assert database.is_running
    assert not unfinished.exists()


def test_other_major_version_is_refused(timescaledb_folder: Path) -> None:
    (timescaledb_folder / "postgres" / "PG_VERSION").write_text("16\n", encoding="ascii")
    with pytest.raises(EmbeddedDatabaseError, match=r"created by PostgreSQL 16.*PostgreSQL 17"):
        _start(timescaledb_folder)


async def test_missing_database_is_not_made_anew(timescaledb_folder: Path) -> None:
    """Its files may be on a disk that is not mounted, or moved: their passwords are kept."""
    cluster, moved = timescaledb_folder / "postgres", timescaledb_folder / "moved"
    with _start(timescaledb_folder) as first:
        await _execute(first.owner_url, "CREATE TABLE kept AS SELECT 42 AS value")
    cluster.rename(moved)
    with pytest.raises(EmbeddedDatabaseError, match=r"is missing.*remove database\.json"):
        _start(timescaledb_folder)
    cluster.mkdir()
    with pytest.raises(EmbeddedDatabaseError, match=r"there is no database in .*postgres: "):
        _start(timescaledb_folder)
    cluster.rmdir()
    moved.rename(cluster)
    with _start(timescaledb_folder) as second:
        assert await _fetch_value(second.owner_url, "SELECT value FROM kept") == 42


def test_database_that_does_not_start_shows_its_log(timescaledb_folder: Path) -> None:
    with (timescaledb_folder / "postgres/postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("shared_buffers = 'a lot'\n")
    with pytest.raises(EmbeddedDatabaseError, match="shared_buffers"):
        _start(timescaledb_folder)


async def test_own_settings_below_the_include_win(timescaledb_folder: Path) -> None:
    with (timescaledb_folder / "postgres/postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("work_mem = '5MB'\n")
    with _start(timescaledb_folder) as database:
        assert await _fetch_value(database.url, "SHOW work_mem") == "5MB"


async def test_extension_is_updated_to_the_installed_version(timescaledb_folder: Path) -> None:
    folder = DataFolder(timescaledb_folder)
    state = folder.read_state()
    assert state is not None
    folder.write_state(replace(state, timescaledb_version="2.0.0"), "unused", "unused")
    folder.close()
    with _start(timescaledb_folder):
        pass
    folder = DataFolder(timescaledb_folder)
    assert folder.read_state() == state
    folder.close()
