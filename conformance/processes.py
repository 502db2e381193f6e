"""Starts the real programs that answers are compared with, and stops them by their process id."""

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import urlopen

from promcompat.outgoing.client import client_context

_SETPRIV = shutil.which("setpriv")
END_WITH_US = (_SETPRIV, "--pdeathsig", "TERM") if _SETPRIV else ()
"""Before a command: the program ends when this process is killed and cannot stop it."""
START_TIMEOUT_SECONDS = 120.0
STOP_TIMEOUT_SECONDS = 60.0


class ProcessError(Exception):
    """A program did not start; the message ends with what it wrote."""


def find_free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class RunningProgram:
    """A started program; its output goes to `log`."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    url: str
    context: ssl.SSLContext | None = None
    """What trusts its certificate, if it has one."""

    def wait_ready(self, path: str) -> None:
        """Return when GET `path` answers 2xx; raise ProcessError when it ends or takes too long."""
        deadline = monotonic() + START_TIMEOUT_SECONDS
        while not self._answers(path):
            if self.process.poll() is not None or monotonic() > deadline:
                tail = "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-40:])
                raise ProcessError(f"{self.name} is not ready at {self.url}{path}:\n{tail}")
            sleep(0.05)

    def _answers(self, path: str) -> bool:
        try:
            with urlopen(self.url + path, timeout=2, context=self.context) as response:
                return bool(200 <= response.status < 300)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """End it at once, as a crash would, and wait until it is gone."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_SECONDS)

    def stop(self) -> int:
        """End it in an orderly way; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(STOP_TIMEOUT_SECONDS)


def start_program(
    command: Sequence[str | Path], port: int, log: Path, environment: dict[str, str] | None = None
) -> RunningProgram:
    """Start a program that will serve HTTP on `port`; the caller waits and stops it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*END_WITH_US, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_outer_environment() | (environment or {}),
        )
    name = Path(command[0]).name
    return RunningProgram(name, process, log, f"http://127.0.0.1:{port}")


def _outer_environment() -> dict[str, str]:
    """Ours without the settings of a developer's own service."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PROMCOMPAT_")}


@contextmanager
def running_program(
    command: Sequence[str | Path],
    port: int,
    log: Path,
    ready_path: str,
) -> Iterator[RunningProgram]:
    """Run a program for as long as the block lasts, ready from its first statement on."""
    program = start_program(command, port, log)
    try:
        program.wait_ready(ready_path)
        yield program
    finally:
        program.stop()


PROMETHEUS_FEATURES = ("promql-experimental-functions", "promql-duration-expr")
# Old samples come in any order: the tests load late data, as senders do after an outage.
_ANY_ORDER = "storage:\n  tsdb:\n    out_of_order_time_window: 1000w\n"


@contextmanager
def running_prometheus(
    binary: Path,
    folder: Path,
    *,
    config: str = _ANY_ORDER,
    port: int | None = None,
    features: Sequence[str] = PROMETHEUS_FEATURES,
    options: Sequence[str] = (),
) -> Iterator[RunningProgram]:
    """Run a Prometheus that receives remote write; its store in `folder` may be new."""
    folder.mkdir(parents=True, exist_ok=True)
    config_file = folder / "prometheus.yml"
    config_file.write_text(config)
    port = port or find_free_port()
    command: list[str | Path] = [
        binary,
        f"--config.file={config_file}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--storage.tsdb.retention.time=100y",
        "--log.level=warn",
        f"--enable-feature={','.join(features)}",
        *options,
    ]
    with running_program(command, port, folder / "log", "/-/ready") as program:
        yield program


async def run_command(command: Sequence[str | Path]) -> tuple[int, str, str]:
    """Run a program to its end; return its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@contextmanager
def running_promcompat(
    database_url: str | None, log: Path, *, port: int | None = None, **settings: str
) -> Iterator[RunningProgram]:
    """Run our service on a database, with `settings` by their names, e.g. `tenancy="header"`.

    Without a database it runs its own, under the setting `data_dir`.
    """
    program = start_promcompat(database_url, log, port=port or find_free_port(), **settings)
    try:
        program.wait_ready("/-/ready")
        yield program
    finally:
        program.stop()


def start_promcompat(
    database_url: str | None, log: Path, *, port: int, **settings: str
) -> RunningProgram:
    """Start our service on a database; the caller waits and stops it."""
    # What is written near 1970 is read back, as from a Prometheus that keeps it for 100 years.
    # Series are counted, so the service must not add its own.
    environment = {"PROMCOMPAT_RETENTION_DAYS": "0", "PROMCOMPAT_SCRAPE_SELF": "false"}
    environment |= {f"PROMCOMPAT_{name.upper()}": value for name, value in settings.items()}
    environment["PROMCOMPAT_LISTEN"] = f"127.0.0.1:{port}"
    if database_url is not None:
        environment["PROMCOMPAT_DATABASE_URL"] = database_url
    program = start_program([sys.executable, "-m", "promcompat", "serve"], port, log, environment)
    if certificate := settings.get("tls_cert_file"):
        context = client_context(Path(certificate).read_text())
        return replace(program, url=f"https://127.0.0.1:{port}", context=context)
    return program
