"""A database that cannot be used: what ends a start, what is waited for, and what people read."""

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import asyncpg
import pytest

from conformance.processes import find_free_port, start_promcompat
from promcompat.__main__ import main
from promcompat.core.errors import DatabaseRefusedError, StorageUnavailableError
from sql.database.connecting import SESSION_DEFAULTS, connect_fault, describe_place
from sql.database.database_check import check_database
from sql.embedded.cluster import SUPERUSER, Cluster
from sql.embedded.postgres_server import start_server
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected, discard
from tests.support.waiting import wait_for_text

pytestmark = pytest.mark.integration

COMMANDS = (
    ("serve", "--listen", "127.0.0.1:0", "--workers", "1"),
    ("serve", "--listen", "127.0.0.1:0", "--workers", "2"),
    ("worker", "--temporal-address", "127.0.0.1:1"),
    ("migrate",),
    ("maintain",),
    ("explain", "up"),
)


def changed(url: str, old: str, new: str) -> str:
    assert old in url
    return url.replace(old, new)


# -- what can never work ----------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_faults_of_all_files_are_told_before_the_database_is_asked(
    workers: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each with its file, its place and what would be right; as the commands that check say it."""
    for name, text in {
        "limits": "overrides: {a: {max_rules: many}}\n",
        "relabel": "- {action: kept}\n",
        "scrape": "scrape_configs:\n- {job_name: a, scrape_intervall: 5s}\n",
        "rules": "groups:\n- name: g\n  rules:\n  - {record: a, expr: 'sum('}\n",
    }.items():
        (tmp_path / f"{name}.yml").write_text(text)
    for name in ("limits_file", "alert_relabel_file", "scrape_config", "rule_files"):
        file = name.removesuffix("_file").removesuffix("_config").removesuffix("_files")
        file = {"alert_relabel": "relabel", "rule": "rules"}.get(file, file)
        monkeypatch.setenv(f"PROMCOMPAT_{name.upper()}", str(tmp_path / f"{file}.yml"))
    nowhere = "postgresql://a:b@127.0.0.1:1/c"
    arguments = ["serve", "--listen", "127.0.0.1:0", "--workers", workers]
    assert main([*arguments, "--database-url", nowhere]) == 1
    error = capfd.readouterr().err
    for setting, name, text in (
        ("LIMITS_FILE", "limits", "expected a whole number"),
        ("ALERT_RELABEL_FILE", "relabel", "kept"),
        ("SCRAPE_CONFIG", "scrape", "scrape_intervall"),
        ("RULE_FILES", "rules", "unclosed left parenthesis"),
    ):
        path = tmp_path / f"{name}.yml"
        assert re.search(rf"(?s)PROMCOMPAT_{setting} {re.escape(str(path))}.*{text}", error), error
    assert main(["rules", "check", str(tmp_path / "rules.yml")]) == 1
    assert "unclosed left parenthesis" in capfd.readouterr().out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:1]))
def test_wrong_password_ends_every_command_with_the_place_and_without_the_password(
    command: tuple[str, ...], plain_postgres_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    url = changed(plain_postgres_url, ":test@", ":guessed@")
    name, *flags = command
    assert main([name, *flags, "--database-url", url]) == 1
    error = capfd.readouterr().err
    place = re.escape(url.partition("@")[2].partition("/")[0])
    assert re.search(rf'database "test_\d+" at {place} as user "promcompat": the password', error)
    assert "guessed" not in error


async def refusal(url: str) -> str:
    with pytest.raises(DatabaseRefusedError) as caught:
        await check_database(url)
    return str(caught.value)


async def refusal_in_time(url: str) -> str:
    """The refusal that comes once the server has read its rules again."""
    async with asyncio.timeout(60):
        while True:
            try:
                await check_database(url)
            except DatabaseRefusedError as exc:
                return str(exc)
            await asyncio.sleep(0.05)


async def test_unknown_database_and_user_are_told(plain_postgres_url: str) -> None:
    name = plain_postgres_url.rpartition("/")[2]
    said = await refusal(changed(plain_postgres_url, f"/{name}", "/nowhere"))
    assert 'database "nowhere"' in said
    assert "this database does not exist" in said
    said = await refusal(changed(plain_postgres_url, "//promcompat:", "//stranger:"))
    assert 'as user "stranger": the password is wrong, or the user does not exist' in said


async def test_user_that_pg_hba_does_not_admit_is_told(
    plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    rules = plain_postgres_server.cluster.folder / "pg_hba.conf"
    before = rules.read_text()
    try:
        rules.write_text(f"host {name} all all reject\n{before}")
        plain_postgres_server.run_sql("SELECT pg_reload_conf()")
        assert "see its pg_hba.conf" in await refusal_in_time(plain_database_url)
    finally:
        rules.write_text(before)
        plain_postgres_server.run_sql("SELECT pg_reload_conf()")


async def test_user_without_the_right_to_connect_is_told(
    plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    plain_postgres_server.run_sql(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC, promcompat")
    plain_postgres_server.run_sql(f"ALTER DATABASE {name} OWNER TO postgres")
    assert "the user is not allowed to connect" in await refusal(plain_database_url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:se/cret@host/database",
        "postgresql://user:secret@host:port/database",
        "postgresql://[::1/database",
    ],
)
async def test_invalid_address_is_told_without_its_password(url: str) -> None:
    said = await refusal(url)
    assert "use postgresql://USER:PASSWORD@HOST:PORT/DATABASE" in said
    assert "cret" not in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("sslmode=perhaps", "`sslmode` parameter must be one of: "),
        ("sslmode=verify-full&sslrootcert=/no/ca.pem", "sslrootcert in the URL is /no/ca.pem"),
        ("sslmode=require&sslcert=/no/me.pem&sslkey=/no/me.key", "sslcert in the URL is /no/me"),
    ],
)
async def test_wrong_options_of_tls_are_told(options: str, text: str) -> None:
    said = await refusal(f"postgresql://user:secret@127.0.0.1:1/database?{options}")
    assert text in said
    assert "cret" not in said


@pytest.mark.parametrize("option", ["sslmod=require", "work_mem=much"])
async def test_an_option_that_the_server_refuses_is_told(
    timescaledb_database_url: str, option: str
) -> None:
    said = await refusal(f"{timescaledb_database_url}?{option}")
    assert "its URL has an option that the server does not know, or a value it refuses" in said
    assert option.partition("=")[0] in said


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "there is no host with this name"),
        (ssl.SSLCertVerificationError("x"), "certificate"),
        (ConnectionError("PostgreSQL server at h:1 rejected SSL upgrade"), "does not offer TLS"),
    ],
)
def test_faults_of_the_way_to_the_server_are_told(fault: Exception, text: str) -> None:
    error = connect_fault(fault, "postgresql://u:p@h:1/d")
    assert isinstance(error, DatabaseRefusedError)
    assert text in str(error)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (socket.gaierror(socket.EAI_AGAIN, "again"), "cannot be resolved at the moment"),
        (ConnectionRefusedError(), "connection refused"),
        (TimeoutError(), "no answer"),
        (asyncpg.CannotConnectNowError("starting"), "starting up"),
        (asyncpg.TooManyConnectionsError("many"), "no free connection"),
        (asyncpg.TargetServerAttributeNotMatched(), "target_session_attrs"),
        (ConnectionResetError(), "the connection failed"),
    ],
)
def test_faults_that_pass_name_the_host_and_not_the_driver(fault: Exception, text: str) -> None:
    error = connect_fault(fault, "postgresql://u:p@h:1/d")
    assert isinstance(error, StorageUnavailableError)
    assert str(error).startswith('cannot reach database "d" at h:1 as user "u": ')
    assert text in str(error)


def test_places_name_no_password() -> None:
    assert describe_place("postgresql://u:p%40@h:5/d?password=x") == (
        'database "d" at h:5 as user "u"'
    )
    for unescaped in ("1/2", "1?2", "1#2", "1@2/3"):
        assert describe_place(f"postgresql://u:{unescaped}@h:5/d") == "the database"
    assert describe_place("postgresql://a:1,b:2/d") == 'database "d" at a:1,b:2'
    assert describe_place("postgresql:///d?host=/run&user=u") == 'database "d" at /run as user "u"'


# -- what is waited for -----------------------------------------------------------------------


def test_serve_waits_for_a_database_that_is_down_and_names_it(
    plain_database_url: str, tmp_path: Path
) -> None:
    port = find_free_port()
    address = plain_database_url.partition("@")[2].partition("/")[0]
    url = changed(plain_database_url, address, f"127.0.0.1:{port}")
    program = start_promcompat(url, tmp_path / "log", port=find_free_port())
    try:
        assert f"at 127.0.0.1:{port}" in wait_for_text(tmp_path / "log", "waiting for the database")
        with pytest.raises(HTTPError) as caught:
            urlopen(f"{program.url}/-/ready", timeout=10)
        assert f"at 127.0.0.1:{port}" in caught.value.read().decode()
    finally:
        program.stop()


async def test_serve_waits_for_connections_that_others_have(
    plain_postgres_server: DatabaseServer, plain_database_url: str, tmp_path: Path
) -> None:
    """Two are free: enough for the first things that a start does, and too few for the rest."""
    name = plain_database_url.rpartition("/")[2]
    plain_postgres_server.run_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 20")
    async with AsyncExitStack() as others:
        for _ in range(18):
            await others.enter_async_context(connected(plain_database_url))
        program = start_promcompat(plain_database_url, tmp_path / "log", port=find_free_port())
        try:
            await asyncio.to_thread(wait_for_text, tmp_path / "log", "it has no free connection")
            await others.aclose()
            await asyncio.to_thread(program.wait_ready, "/-/ready")
        finally:
            await asyncio.to_thread(program.stop)


def test_explain_does_not_wait_and_tells_the_place(
    capfd: pytest.CaptureFixture[str],
) -> None:
    port = find_free_port()
    assert main(["explain", "up", "--database-url", f"postgresql://u@127.0.0.1:{port}/d"]) == 1
    assert f'cannot reach database "d" at 127.0.0.1:{port}' in capfd.readouterr().err


# -- what looks like a database ---------------------------------------------------------------


async def test_database_that_only_reads_is_told(
    plain_postgres_server: DatabaseServer, plain_database_url: str
) -> None:
    name = plain_database_url.rpartition("/")[2]
    plain_postgres_server.run_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "default_transaction_read_only" in await refusal(plain_database_url)


def test_too_few_connections_are_told(
    plain_postgres_server: DatabaseServer,
    plain_database_url: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    name = plain_database_url.rpartition("/")[2]
    plain_postgres_server.run_sql(f"ALTER DATABASE {name} CONNECTION LIMIT 12")
    assert main(["maintain", "--database-url", plain_database_url]) == 1
    assert "it allows this user 12 connections" in capfd.readouterr().err


def empty_folder(parent: Path, cluster: Cluster) -> Path:
    """A folder that the account of a cluster reaches and owns."""
    parent.chmod(0o711)
    folder = parent / "standby"
    folder.mkdir(mode=0o700)
    cluster.account.take_ownership(folder)
    return folder


async def test_standby_is_told(plain_postgres_server: DatabaseServer, tmp_path: Path) -> None:
    primary = plain_postgres_server.cluster
    folder = empty_folder(tmp_path, primary)
    port = str(plain_postgres_server.process.port)
    primary.run_program(
        "pg_basebackup",
        *("-h", "127.0.0.1", "-p", port, "-U", SUPERUSER, "-D", str(folder), "-R", "-c", "fast"),
        secrets={"PGPASSWORD": primary.password},
    )
    standby = Cluster(
        folder=folder,
        distribution=primary.distribution,
        account=primary.account,
        password=primary.password,
    )
    process = start_server(standby, tmp_path / "standby.log", discard)
    try:
        address = f"127.0.0.1:{process.port}"
        assert "read-only standby" in await refusal(
            f"postgresql://promcompat:{primary.password}@{address}/promcompat"
        )
    finally:
        process.stop()


@contextmanager
def running_pgbouncer(server: DatabaseServer, folder: Path, **settings: str) -> Iterator[str]:
    """The address of a PgBouncer in front of a server, without the name of a database."""
    command = require_component("PgBouncer")
    port, upstream = find_free_port(), server.process.port
    users = folder / "users.txt"
    users.write_text('"promcompat" "test"\n')
    values = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "auth_type": "plain",
        "auth_file": str(users),
        "unix_socket_dir": "",
        **settings,
    }
    lines = [f"{name} = {value}" for name, value in values.items()]
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        f"[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n" + "\n".join(lines) + "\n"
    )
    folder.chmod(0o755)
    account = server.cluster.account.command_prefix
    log = (folder / "pgbouncer.log").open("wb")
    process = subprocess.Popen(
        [*account, *command, str(configuration)], stdout=log, stderr=log, cwd="/"
    )
    try:
        wait_for_text(folder / "pgbouncer.log", "process up")
        yield f"postgresql://promcompat:test@127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        log.close()


POOL_SETTINGS = "search_path,statement_timeout,idle_in_transaction_session_timeout,jit"


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pgbouncer_that_refuses_our_settings_is_told(
    mode: str, plain_postgres_server: DatabaseServer, plain_database_url: str, tmp_path: Path
) -> None:
    name = plain_database_url.rpartition("/")[2]
    with running_pgbouncer(plain_postgres_server, tmp_path, pool_mode=mode) as address:
        assert "PgBouncer" in await refusal(f"{address}/{name}")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_pgbouncer_that_drops_our_settings_is_told(
    mode: str, plain_postgres_server: DatabaseServer, plain_database_url: str, tmp_path: Path
) -> None:
    name = plain_database_url.rpartition("/")[2]
    ignored = ",".join((POOL_SETTINGS, "plan_cache_mode", *SESSION_DEFAULTS))
    settings = {"pool_mode": mode, "ignore_startup_parameters": ignored}
    with running_pgbouncer(plain_postgres_server, tmp_path, **settings) as address:
        said = await refusal(f"{address}/{name}")
    assert "connection pooler" in said
    assert ("transaction mode" in said) == (mode == "transaction")
