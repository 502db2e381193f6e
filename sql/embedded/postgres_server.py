"""The running PostgreSQL server: start, wait until ready, stop, and clear what a crash left."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from promcompat.core.cache_folder import Report
from sql.embedded.cluster import Cluster
from sql.embedded.errors import EmbeddedDatabaseError

_POLL_SECONDS = 0.02
_FAST_SHUTDOWN_SECONDS = 60.0
_IMMEDIATE_SHUTDOWN_SECONDS = 15.0
_START_ATTEMPTS = 3
_RETRY_SECONDS = 0.5
_STATUS_LINE = 7  # Of postmaster.pid, counted from 0: "starting", "ready", "stopping" or "standby".


class PostgresServer:
    """A server process of one cluster, listening on 127.0.0.1 only."""

    def __init__(self, cluster: Cluster, log_file: Path, port: int, report: Report) -> None:
        """Start the process; `start_server` also waits until it answers."""
        self.port = port
        self._cluster = cluster
        self._report = report
        self._exited = threading.Event()
        self._process = self._spawn(log_file)

    def _spawn(self, log_file: Path) -> "subprocess.Popen[bytes]":
        """Start the server from a thread that lives as long as the server does.

        The kernel sends the parent-death signal when the *thread* that forked ends, so a caller
        that starts the database from a short-lived worker thread would stop it again.
        """
        started: list[subprocess.Popen[bytes] | OSError] = []
        ready = threading.Event()

        def run() -> None:
            try:
                process = self._open_process(log_file)
            except OSError as error:
                started.append(error)
                ready.set()
                return
            started.append(process)
            ready.set()
            process.wait()
            self._exited.set()

        threading.Thread(target=run, name="embedded-postgres", daemon=True).start()
        ready.wait()
        match started[0]:
            case OSError() as error:
                raise EmbeddedDatabaseError(f"cannot start PostgreSQL: {error}") from error
            case process:
                return process

    def _open_process(self, log_file: Path) -> "subprocess.Popen[bytes]":
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            # Socket paths are limited to 107 bytes, data folders are not.
            "unix_socket_directories": "",
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        command = self._cluster.command("postgres", "-D", str(self._cluster.folder), *arguments)
        descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with open(descriptor, "ab") as log:
            return subprocess.Popen(
                command,
                cwd="/",
                env=self._cluster.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # The terminal's Ctrl-C must reach the service first, which then stops the server.
                start_new_session=True,
            )

    @property
    def process_id(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return not self._exited.is_set()

    def wait_until_ready(self, is_given_up: Callable[[], bool] = lambda: False) -> bool:
        """Block until the server accepts connections; False when it ended instead.

        There is no time limit while the server lives: recovery after a crash takes as long as the
        log is. Raises EmbeddedDatabaseError when nobody wants the server any more.
        """
        next_report = time.monotonic() + 5.0
        while self.is_running:
            if is_given_up():
                raise EmbeddedDatabaseError("the start of the database was given up")
            if _read_status(self._cluster.folder) == (self.process_id, "ready"):
                return True
            if time.monotonic() > next_report:
                self._report("Waiting for the database to finish recovery")
                next_report += 5.0
            self._exited.wait(_POLL_SECONDS)
        return False

    def stop(self) -> None:
        """Shut down cleanly: sessions end, everything is flushed. Does nothing when stopped."""
        stop_process(self.process_id, self._exited.wait)


def start_server(
    cluster: Cluster,
    log_file: Path,
    report: Report,
    preferred_port: int | None = None,
    is_given_up: Callable[[], bool] = lambda: False,
) -> PostgresServer:
    """Start the cluster's server, on `preferred_port` if it is free, and wait until it answers.

    A failed start is tried again: another process may have taken the port in between, and the
    children of a killed server hold its shared memory for a moment. `is_given_up` is asked again
    and again, from this thread, whether anybody still wants the server.

    Raises:
        EmbeddedDatabaseError: it does not start, and the message has the last lines of its log; or
            nobody wants it, and it has stopped.
    """
    for attempt in range(_START_ATTEMPTS):
        time.sleep(attempt * _RETRY_SECONDS)
        log_start = log_file.stat().st_size if log_file.exists() else 0
        port = find_free_port(preferred_port if attempt == 0 else None)
        server = PostgresServer(cluster, log_file, port, report)
        try:
            if server.wait_until_ready(is_given_up):
                return server
        except BaseException:
            server.stop()
            raise
    with log_file.open("rb") as log:
        log.seek(log_start)
        lines = log.read().decode(errors="replace").strip().splitlines()
    raise EmbeddedDatabaseError(
        f"PostgreSQL does not start in {cluster.folder}: {' / '.join(lines[-5:])} (see {log_file})"
    )


def find_free_port(preferred: int | None = None) -> int:
    """Return a TCP port that is free on 127.0.0.1 now: `preferred` if it is, else any."""
    for port in [preferred or 0, 0]:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            bound: int = probe.getsockname()[1]
            return bound
    raise EmbeddedDatabaseError("no free TCP port on 127.0.0.1")


def clear_orphan(folder: Path, report: Report) -> None:
    """Stop a server that a killed service left on the cluster `folder`, and remove its pid file.

    The caller holds the data folder's lock, so no live service owns a server that runs there.

    Raises:
        EmbeddedDatabaseError: the orphan does not stop.
    """
    process_id, _ = _read_status(folder)
    if process_id is not None and _is_server_of(process_id, folder):
        report(f"Stopping the database that a killed promcompat left running (pid {process_id})")
        stop_process(process_id, lambda seconds: _wait_for_end(process_id, folder, seconds))
    # PostgreSQL takes any live process of that number for its server: after a restart of the
    # machine or container that may be another program, or a zombie nobody has reaped. It does not
    # start either where a crash of the machine or a full disk left the file without a number.
    (folder / "postmaster.pid").unlink(missing_ok=True)


def _wait_for_end(process_id: int, folder: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _is_server_of(process_id, folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop_process(process_id: int, wait: Callable[[float], bool]) -> None:
    """Stop a server: by fast shutdown, or else immediately, with a recovery at the next start.

    Never SIGKILL: the server's children would live on and block the next start. `wait(seconds)`
    says whether the process ended within that time.
    """
    for sent, seconds in (
        (signal.SIGINT, _FAST_SHUTDOWN_SECONDS),
        (signal.SIGQUIT, _IMMEDIATE_SHUTDOWN_SECONDS),
    ):
        if wait(0.0):
            return
        with suppress(ProcessLookupError):
            os.kill(process_id, sent)
        if wait(seconds):
            return
    raise EmbeddedDatabaseError(f"PostgreSQL (pid {process_id}) does not stop")


def _read_status(folder: Path) -> tuple[int | None, str]:
    """Return the process id and status in the cluster's postmaster.pid, (None, "") without one."""
    try:
        text = (folder / "postmaster.pid").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None, ""
    lines = text.splitlines()
    process_id = int(lines[0]) if lines and lines[0].isdigit() else None
    return process_id, lines[_STATUS_LINE].strip() if len(lines) > _STATUS_LINE else ""


def _is_server_of(process_id: int, folder: Path) -> bool:
    """Whether that process lives and is a server of the cluster (servers work inside it)."""
    if Path("/proc/self/cwd").exists():
        try:
            return Path(f"/proc/{process_id}/cwd").samefile(folder)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return False
    listing = subprocess.run(
        ["ps", "-o", "command=", "-p", str(process_id)], capture_output=True, text=True, check=False
    )
    return "postgres" in listing.stdout and str(folder) in listing.stdout
