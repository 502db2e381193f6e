"""A real Temporal for tests: the development server, which can be stopped and started again."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from temporalio.client import Client
from temporalio.service import RPCError

from conformance.processes import END_WITH_US, find_free_port
from tests.support.programs.components import require_component

_START_SECONDS = 60.0


@dataclass(slots=True)
class TemporalServer:
    """A development server that keeps its state in a file while it is stopped."""

    binary: Path
    folder: Path
    port: int = field(default_factory=find_free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [
            self.binary,
            *("server", "start-dev", "--headless", "--ip", "127.0.0.1", "--log-level", "error"),
            *("--port", str(self.port), "--db-filename", self.folder / "temporal.db"),
        ]
        with (self.folder / "temporal.log").open("ab") as output:
            self._process = subprocess.Popen(
                [*END_WITH_US, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        deadline = monotonic() + _START_SECONDS
        while not asyncio.run(_answers(self.address)):
            if self._process.poll() is not None or monotonic() > deadline:
                raise RuntimeError((self.folder / "temporal.log").read_text("utf-8", "replace"))
            sleep(0.1)

    def stop(self) -> None:
        """Stop it; open workflows stay in its file."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(20)
            self._process = None


async def _answers(address: str) -> bool:
    try:
        async with asyncio.timeout(2):
            client = await Client.connect(address)
            return await client.service_client.check_health()
    except (RuntimeError, RPCError, TimeoutError):
        return False


@contextmanager
def running_temporal(folder: Path) -> Iterator[TemporalServer]:
    """Run a server in `folder` for as long as the block lasts."""
    server = TemporalServer(require_component("Temporal"), folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
