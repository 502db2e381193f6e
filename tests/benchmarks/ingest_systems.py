"""The three systems that `ingest_bench` loads: each on a new folder, alone while it is measured."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import asyncpg

from conformance.processes import (
    PROMETHEUS_FEATURES,
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
    running_prometheus,
)
from sql.embedded.data_folder import read_database_url
from tests.benchmarks.process_usage import folder_bytes
from tests.support.programs.components import find_program

OURS: Final = "promcompat"
PROMETHEUS: Final = "Prometheus"
VICTORIA: Final = "VictoriaMetrics"
SYSTEMS: Final = (OURS, PROMETHEUS, VICTORIA)

_PROMETHEUS_CONFIG: Final = "global: {}\n"
_LOG_FOLDERS: Final = {OURS: "pg_wal", PROMETHEUS: "wal", VICTORIA: "no such folder"}
_UNDRAINED: Final = """
    SELECT coalesce(sum(n_samples), 0) FROM promcompat.arrival
"""


@dataclass(frozen=True, slots=True)
class System:
    """A running system with an empty store."""

    name: str
    program: RunningProgram
    data: Path

    @property
    def url(self) -> str:
        """Where it serves HTTP; remote write is at /api/v1/write, queries are at /api/v1/query."""
        return self.program.url

    def stored_bytes(self) -> int:
        """Bytes of its files without the write-ahead log."""
        return folder_bytes(self.data, without=(_LOG_FOLDERS[self.name],))

    def log_bytes(self) -> int | None:
        """Bytes written to the write-ahead log until now; None where there is no such log.

        Prometheus' are those of its files, which it removes from time to time.
        """
        match self.name:
            case "promcompat":
                return int(self._ask("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
            case "Prometheus":
                return folder_bytes(self.data / "wal")
            case _:
                return None

    def n_undrained(self) -> int | None:
        """Samples that our database has not moved to its final place yet."""
        return int(self._ask(_UNDRAINED)) if self.name == OURS else None

    def head_mib(self) -> float | None:
        """Memory of the samples in the heads of our processes."""
        if self.name != OURS:
            return None
        with urlopen(f"{self.url}/metrics", timeout=30) as response:
            lines = response.read().decode().splitlines()
        held = [line for line in lines if line.startswith("promcompat_head_bytes_held")]
        return sum(float(line.rpartition(" ")[2]) for line in held) / (1 << 20)

    def _ask(self, statement: str) -> Any:
        url = read_database_url(self.data)
        assert url is not None

        async def ask() -> Any:
            connection = await asyncpg.connect(url)
            try:
                return await connection.fetchval(statement)
            finally:
                await connection.close()

        return asyncio.run(ask())


@contextmanager
def running_system(name: str, folder: Path, settings: dict[str, str]) -> Iterator[System]:
    """Run one of `SYSTEMS` in a new folder; `settings` are of our service."""
    folder.mkdir()
    # Our database runs as an ordinary user, who must get there.
    folder.chmod(0o755)
    match name:
        case "promcompat":
            data, log = folder / "data", folder / "log"
            with running_promcompat(None, log, data_dir=str(data), **settings) as program:
                yield System(name, program, data)
        case "Prometheus":
            binary, place = find_program("prometheus"), folder / "prometheus"
            features = (*PROMETHEUS_FEATURES, "native-histograms")
            with running_prometheus(
                binary, place, config=_PROMETHEUS_CONFIG, features=features
            ) as program:
                yield System(name, program, place / "data")
        case _:
            with running_victoria_metrics(folder / "victoria") as program:
                yield System(name, program, folder / "victoria" / "data")


@contextmanager
def running_victoria_metrics(folder: Path) -> Iterator[RunningProgram]:
    """Run a VictoriaMetrics; its store in `folder` may be new."""
    folder.mkdir(exist_ok=True)
    port = find_free_port()
    command: list[str | Path] = [
        find_program("victoria-metrics"),
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr=127.0.0.1:{port}",
        "-retentionPeriod=100y",
        "-search.latencyOffset=0s",
        "-search.maxUniqueTimeseries=1000000",
    ]
    with running_program(command, port, folder / "log", "/health") as program:
        yield program
