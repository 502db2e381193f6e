"""`promcompat serve` as a process: starting, stopping, failing, and what survives."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import orjson
import pytest

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_promcompat,
    start_promcompat,
)
from sql.embedded.client_programs import split_password
from sql.embedded.database import EmbeddedDatabase
from sql.embedded.distributions import PostgresDistribution
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.waiting import wait_for, wait_for_text

pytestmark = pytest.mark.integration

HEADERS = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
UP = (("__name__", "up"),)


def write(url: str, *series: bytes) -> int:
    request = Request(f"{url}/api/v1/write", data=encode_request(series), headers=HEADERS)
    with urlopen(request, timeout=30) as response:
        return int(response.status)


def get(url: str, form: bytes | None = None) -> tuple[int, str]:
    try:
        with urlopen(url, form, timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def values_of(url: str, selector: str, time_seconds: float) -> list[list[str]]:
    _, text = get(f"{url}/api/v1/query?query={selector}&time={time_seconds}")
    return [[value for _, value in row["values"]] for row in orjson.loads(text)["data"]["result"]]


def run_cli(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PROMCOMPAT_")}
    environment |= {f"PROMCOMPAT_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "promcompat", *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )


@contextmanager
def started(program: RunningProgram) -> Iterator[RunningProgram]:
    try:
        yield program
    finally:
        program.stop()


def children_of(pid: int) -> list[int]:
    """The worker processes of a supervisor (its database runs in another program)."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return [
        child for child in found if b"promcompat" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def metrics_files(pid: int) -> set[str]:
    """The files in which the workers of a supervisor keep their metrics."""
    (folder,) = {
        Path(path)
        for child in children_of(pid)
        for name, _, path in (
            text.partition("=") for text in Path(f"/proc/{child}/environ").read_text().split("\0")
        )
        if name == "PROMETHEUS_MULTIPROC_DIR"
    }
    return {file.name for file in folder.iterdir()}


def wait_until_gone(pid: int) -> None:
    status = Path(f"/proc/{pid}/stat")
    wait_for(lambda: not status.exists() or " Z " in status.read_text(), "it is still there")


def test_own_database_survives_restarts_and_kill_9(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    """One life ends by SIGTERM, one by SIGKILL under load; two workers then find every sample."""
    data_dir, log, port = str(tmp_path / "data"), tmp_path / "log", find_free_port()
    now_ms = time.time_ns() // 1_000_000
    with running_promcompat(None, log, port=port, data_dir=data_dir) as first:
        assert write(first.url, encode_series(UP, (now_ms, 1.0))) == 204
        assert first.stop() == 0
    acknowledged = [1.0]
    with running_promcompat(None, log, port=port, data_dir=data_dir) as second:
        killer = Thread(target=lambda: (time.sleep(0.7), second.kill()))
        killer.start()
        try:
            for number in range(1, 100_000):
                write(second.url, encode_series(UP, (now_ms + number, float(number))))
                acknowledged.append(float(number))
        except (URLError, OSError):
            killer.join()
    assert len(acknowledged) > 1
    with running_promcompat(None, log, port=port, data_dir=data_dir, workers="2") as third:
        wait_for_text(log, "workers     2")
        (values,) = values_of(third.url, "up[1h]", now_ms / 1000 + 1800)
        assert [float(value) for value in values][: len(acknowledged)] == [
            1.0,
            *acknowledged[1:],
        ]
        assert third.stop() == 0
    text = log.read_text()
    assert text.count("is ready, compatible with Prometheus 3.14.0") == 3
    assert f"{third.url}/api/v1/write" in text


@pytest.mark.parametrize("workers", ["1", "2"])
def test_service_ends_when_its_own_database_does(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path, workers: str
) -> None:
    """Nobody else starts that database again: whoever supervises the service restarts both."""
    data_dir, log = tmp_path / "data", tmp_path / "log"
    with running_promcompat(None, log, data_dir=str(data_dir), workers=workers) as service:
        wait_for_text(log, "is ready, compatible")
        pid_file = data_dir / "postgres" / "postmaster.pid"
        os.kill(int(pid_file.read_text().splitlines()[0]), signal.SIGKILL)
        assert service.process.wait(timeout=60) == 1
        wait_for_text(log, "the database stopped unexpectedly")
        assert "did not stop in time" not in log.read_text()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_does_not_wait_for_a_recovery_of_the_own_database(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path, workers: str
) -> None:
    """A recovery after a crash takes as long as the log is; this one has no end."""
    data_dir, log = tmp_path / "data", tmp_path / "log"
    with EmbeddedDatabase.start(data_dir, report=lambda _line: None):
        pass
    cluster = data_dir / "postgres"
    with (cluster / "postgresql.auto.conf").open("a") as settings:
        settings.write("hot_standby = off\n")
    (cluster / "standby.signal").touch()
    port = find_free_port()
    starting = start_promcompat(None, log, port=port, data_dir=str(data_dir), workers=workers)
    with started(starting) as service:
        wait_for_text(data_dir / "postgres.log", "entering standby mode")
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0
    assert not (cluster / "postmaster.pid").exists()


def test_sigterm_lets_a_write_in_flight_finish(timescaledb_url: str, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    body = encode_request([encode_series((("__name__", "in_flight"),), (now_ms, 7.0))])
    head = (
        f"POST /api/v1/write HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-protobuf\r\nExpect: 100-continue\r\n\r\n"
    )
    port = find_free_port()
    with (
        running_promcompat(timescaledb_url, tmp_path / "log", port=port) as service,
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        connection.sendall(head.encode())
        # The handler waits for the body from here on.
        assert b"100 Continue" in connection.recv(1000)
        service.process.send_signal(signal.SIGTERM)
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                break
        connection.sendall(body)
        assert b"204 No Content" in connection.recv(1000)
        assert service.process.wait(20) == 0
    with running_promcompat(timescaledb_url, tmp_path / "log", port=port) as service:
        assert values_of(service.url, "in_flight[1h]", now_ms / 1000) == [["7"]]


def test_sigterm_ends_long_queries_long_before_the_time_of_others(
    timescaledb_url: str, tmp_path: Path
) -> None:
    slow = " + ".join(["max_over_time(vector(1)[10m:1s])"] * 2_000)
    asked = urlencode({"query": slow, "start": 0, "end": 300_000, "step": 1_000}).encode()
    answers: list[tuple[int, str]] = []
    with running_promcompat(timescaledb_url, tmp_path / "log", shutdown_timeout="3s") as service:
        active = f"{service.url}/api/v1/status/active_queries"
        asking = Thread(
            target=lambda: answers.append(get(f"{service.url}/api/v1/query_range", asked))
        )
        asking.start()
        while "max_over_time" not in get(active)[1]:
            time.sleep(0.05)
        service.process.send_signal(signal.SIGTERM)
        asking.join()
        assert service.process.wait(20) == 0
    ((status, text),) = answers
    assert (status, orjson.loads(text)["error"]) == (503, "the service is stopping; ask again")


def test_serves_503_until_the_database_is_there(tmp_path: Path) -> None:
    nobody = find_free_port()
    url = f"postgresql://x:y@127.0.0.1:{nobody}/db"
    with started(start_promcompat(url, tmp_path / "log", port=find_free_port())) as service:
        service.wait_ready("/-/healthy")
        assert get(f"{service.url}/-/ready")[0] == 503
        assert get(f"{service.url}/api/v1/query?query=1")[0] == 503
        with pytest.raises(HTTPError) as refused:
            write(service.url, encode_series(UP, (1, 1.0)))
        with refused.value:
            assert (refused.value.code, refused.value.headers["Retry-After"]) == (503, "1")
        assert service.stop() == 0


def test_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for workers in ("1", "2"):
            done = run_cli(
                "serve", listen=f"127.0.0.1:{port}", workers=workers, data_dir=str(tmp_path / "d")
            )
            assert done.returncode == 1
            assert done.stderr == (
                f"promcompat: cannot listen on 127.0.0.1:{port}: the port is already in use\n"
            )
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_port_for_lines_in_use_is_one_clear_line(kind: int, tmp_path: Path) -> None:
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for workers in ("1", "2"):
            done = run_cli(
                "serve",
                listen="127.0.0.1:0",
                workers=workers,
                statsd_listen=address,
                data_dir=str(tmp_path / "d"),
            )
            assert done.returncode == 1
            assert done.stderr == (
                f"promcompat: cannot listen on {address}: the port is already in use\n"
            )
    assert not (tmp_path / "d").exists()


def test_a_used_data_folder_is_one_clear_line(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    data_dir = str(tmp_path / "data")
    with running_promcompat(None, tmp_path / "log", data_dir=data_dir):
        done = run_cli("serve", "--listen", "127.0.0.1:0", "--data-dir", data_dir)
    assert done.returncode == 1
    assert "is using the data folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_settings_name_flag_and_variable() -> None:
    done = run_cli("serve", "--workers", "none", listen="here")
    assert done.returncode == 2
    assert "--workers (PROMCOMPAT_WORKERS): " in done.stderr
    assert "--listen (PROMCOMPAT_LISTEN): must be HOST:PORT" in done.stderr
    assert run_cli("serve", "--no-such-flag").returncode == 2
    assert run_cli().returncode == 2


def test_help_names_settings_defaults_and_clients() -> None:
    text = run_cli("serve", "--help").stdout
    for expected in (
        "PROMCOMPAT_DATABASE_URL",
        "remote_write",
        "Default: 127.0.0.1:9201",
        "Grafana",
    ):
        assert expected in text
    assert "promcompat" in run_cli("version").stdout


def test_migrate(empty_database_url: str) -> None:
    done = run_cli("migrate", database_url=empty_database_url)
    assert done.returncode == 0
    assert done.stdout.startswith("The database has schema version ")
    assert run_cli("migrate", "--database-url", empty_database_url).returncode == 0


def test_workers_share_a_port_and_are_kept_alive(timescaledb_url: str, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    with running_promcompat(timescaledb_url, tmp_path / "log", workers="2") as service:
        wait_for_text(tmp_path / "log", "is ready, compatible")
        workers = children_of(service.process.pid)
        assert len(workers) == 2
        for number in range(20):
            series = encode_series((("__name__", "shared"),), (now_ms + number, 1.0))
            assert write(service.url, series) == 204
        # Whichever worker answers speaks for both.
        received = "promcompat_remote_write_samples_received_total 20.0"
        assert received in get(f"{service.url}/metrics")[1]
        files = metrics_files(service.process.pid)
        os.kill(workers[0], signal.SIGKILL)
        wait_until_gone(workers[0])
        wait_for_text(tmp_path / "log", "worker ended")
        # A worker that comes anew goes on with the files of the one before, and so do its counters.
        wait_for(
            lambda: (
                len(children_of(service.process.pid)) == 2
                and metrics_files(service.process.pid) == files
            )
        )
        assert received in get(f"{service.url}/metrics")[1]
        assert len(values_of(service.url, "shared[1h]", now_ms / 1000 + 60)[0]) == 20
        last = children_of(service.process.pid)
        assert service.stop() == 0
    for worker in last:
        wait_until_gone(worker)


def test_a_worker_that_hangs_is_replaced(timescaledb_url: str, tmp_path: Path) -> None:
    now_ms, log = time.time_ns() // 1_000_000, tmp_path / "log"
    running = running_promcompat(timescaledb_url, log, workers="2", worker_timeout="3s")
    with running as service, ExitStack() as opened:
        wait_for_text(log, "is ready, compatible")
        stopped, healthy = children_of(service.process.pid)
        for number in range(20):
            series = encode_series((("__name__", "kept"),), (now_ms + number, 1.0))
            assert write(service.url, series) == 204
        # An operator may ask any process for its stacks, and it goes on.
        for process in (service.process.pid, healthy):
            os.kill(process, signal.SIGUSR1)
        wait_for(lambda: log.read_text().count("Current thread 0x") == 2)
        os.kill(stopped, signal.SIGSTOP)
        address = urlsplit(service.url)
        ends = []
        for _ in range(16):
            connection = socket.create_connection((address.hostname, address.port), timeout=60)
            opened.enter_context(connection)
            connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            ends.append(connection)
        # Nobody waits for ever, whichever worker the kernel chose.
        assert {_first_line(end) for end in ends} == {b"HTTP/1.0 200 OK", b""}
        wait_until_gone(stopped)
        wait_for_text(log, "worker does not respond and is killed")
        wait_for(lambda: len(children_of(service.process.pid)) >= 2)
        assert healthy in children_of(service.process.pid)
        assert len(values_of(service.url, "kept[1h]", now_ms / 1000 + 60)[0]) == 20
        assert service.stop() == 0


def _first_line(connection: socket.socket) -> bytes:
    """Empty where the other end has gone."""
    with suppress(ConnectionResetError):
        return connection.recv(1000).partition(b"\r\n")[0]
    return b""


def test_workers_end_with_their_supervisor(timescaledb_url: str, tmp_path: Path) -> None:
    with running_promcompat(timescaledb_url, tmp_path / "log", workers="2") as service:
        wait_for_text(tmp_path / "log", "is ready, compatible")
        workers = children_of(service.process.pid)
        service.kill()
        for worker in workers:
            wait_until_gone(worker)


# -- commands that are interrupted ------------------------------------------------------------


@pytest.mark.parametrize("command", [("explain", "up", "--url"), ("import", "prometheus")])
def test_interrupted_command_says_nothing(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        more = ("--start", "100", "--to", url) if command[0] == "import" else ()
        waiting = subprocess.Popen(
            [sys.executable, "-m", "promcompat", *command, url, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        connection, _ = server.accept()
        with connection:
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=30) == ("", "")
    assert waiting.returncode == 130


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_backup_that_is_stopped_leaves_no_file(
    timescaledb_url: str, tmp_path: Path, sent: signal.Signals
) -> None:
    run_cli("migrate", "--database-url", timescaledb_url)
    file = tmp_path / "metrics.dump"
    lock = "BEGIN; LOCK TABLE promcompat.tenant IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(60)"
    with started_processes() as start:
        start("sql", "--database-url", timescaledb_url, "-c", lock)
        time.sleep(3)
        # Tests that run under nohup ignore SIGHUP, and the command would inherit that.
        inherited = signal.signal(sent, signal.SIG_DFL)
        backup = start("backup", str(file), "--database-url", timescaledb_url)
        signal.signal(sent, inherited)
        unfinished = file.with_name("metrics.dump.unfinished")
        wait_for(lambda: unfinished.exists())
        dumping = f"/proc/{backup.pid}/task/{backup.pid}/children"
        wait_for(lambda: b"pg_dump" in b"".join(_commands(dumping)))
        (pg_dump,) = (int(pid) for pid in Path(dumping).read_text().split())
        backup.send_signal(sent)
        assert backup.wait(timeout=30) == 128 + sent
        wait_until_gone(pg_dump)
    assert list(tmp_path.iterdir()) == []


def _commands(children: str) -> list[bytes]:
    pids = Path(children).read_text().split()
    return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]


@contextmanager
def started_processes() -> "Iterator[Callable[..., subprocess.Popen[bytes]]]":
    with ExitStack() as opened:

        def start(*arguments: str) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-m", "promcompat", *arguments]
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            opened.callback(process.wait)
            opened.callback(process.kill)
            return process

        yield start


# -- promcompat sql ---------------------------------------------------------------------------


def test_sql_opens_psql_on_the_database_of_the_settings(plain_postgres_url: str) -> None:
    asked = run_cli("sql", "-Atc", "SELECT current_database()", database_url=plain_postgres_url)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.strip() == plain_postgres_url.rpartition("/")[2]
    flag = run_cli("sql", "--database-url", plain_postgres_url, "-X", "-f", "/dev/null")
    assert flag.returncode == 0
    fault = run_cli("sql", "-c", "SELECT", "--no-such-flag", database_url=plain_postgres_url)
    assert "no-such-flag" in fault.stderr
    assert fault.returncode != 0


def test_sql_opens_the_services_own_database_with_its_own_psql(
    timescaledb_distribution: PostgresDistribution, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with EmbeddedDatabase.start(folder, report=lambda _line: None) as database:
        asked = run_cli("sql", "--data-dir", str(folder), "-Atc", "SELECT version()")
        assert (asked.returncode, asked.stderr) == (0, "")
        assert timescaledb_distribution.version in asked.stdout
        password = urlsplit(database.url).password
        listed = run_cli("sql", "--data-dir", str(folder), "-c", r"\! cat /proc/$PPID/cmdline")
        assert "dbname=postgresql" in listed.stdout
        assert str(password) not in listed.stdout
    stopped = run_cli("sql", "--data-dir", str(folder))
    assert stopped.returncode == 1
    assert "start promcompat serve" in stopped.stderr


def test_sql_without_any_database_says_what_to_do(tmp_path: Path) -> None:
    asked = run_cli("sql", data_dir=str(tmp_path))
    assert asked.returncode == 1
    assert "--database-url" in asked.stderr


def test_version_is_a_flag_and_a_command() -> None:
    for argument in ("--version", "version"):
        asked = run_cli(argument)
        assert asked.returncode == 0
        assert re.fullmatch(r"promcompat \S+ \(Prometheus 3\.14\.\d+\)\n", asked.stdout)


@pytest.mark.parametrize("command", ["serve", "version"])
def test_arguments_that_nobody_knows_are_refused(command: str) -> None:
    asked = run_cli(command, "--no-such-flag")
    assert asked.returncode == 2
    assert "--no-such-flag" in asked.stderr


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://u:p%40w@h:1/d", "postgresql://u@h:1/d", "p@w"),
        (
            "postgresql://h/d?user=u&password=x&sslmode=require",
            "postgresql://h/d?user=u&sslmode=require",
            "x",
        ),
        ("postgresql://u@a:1,b:2/d", "postgresql://u@a:1,b:2/d", ""),
    ],
)
def test_address_for_psql_has_no_password(url: str, address: str, password: str) -> None:
    assert split_password(url) == (address, password)
