"""Kills at random moments while senders write, and the comparison afterwards."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conformance.prometheus_api import PrometheusApi, open_session
from sql.embedded.distributions import PostgresDistribution
from sql.samples.storage_options import DEFAULT_STORE, StoreKind
from tests.chaos.crashing_database import CrashingDatabase, crashing_database
from tests.chaos.draining import DrainerProcess, drain_once, running_drainer
from tests.chaos.replicas import Replica, is_draining, running_replicas
from tests.chaos.sql_comparison import compare_rows_of
from tests.chaos.traffic import Difference, Findings, Timeline, Writer, compare_answers

SERVICE: Final = "service"
WORKER: Final = "worker"
DRAINER: Final = "drainer"
DATABASE: Final = "database"
TARGETS: Final = (SERVICE, WORKER, DRAINER, DATABASE)
_DAY_MS: Final = 86_400_000
_FIND_SECONDS: Final = 3.0


@dataclass(slots=True)
class System:
    """A database, the services on it, and the senders."""

    database: CrashingDatabase
    replicas: list[Replica]
    drainer: DrainerProcess
    findings: Findings = field(default_factory=Findings)
    killed: Counter[str] = field(default_factory=Counter)


@contextmanager
def running_system(
    distribution: PostgresDistribution,
    folder: Path,
    settings: Mapping[str, str],
    others: Sequence[str] = ("second",),
) -> Iterator[System]:
    """A service with two workers, and `others` without, on one database.

    The server's default is not to wait for the log: the service must ask for it where it promises.
    """
    store = StoreKind(settings.get("store", DEFAULT_STORE))
    asynchronous = {"synchronous_commit": "off"}
    with (
        crashing_database(distribution, folder / "database", asynchronous) as database,
        running_replicas(["first"], database.url, folder, {**settings, "workers": "2"}) as first,
        running_replicas(others, database.url, folder, settings) as rest,
        running_drainer(database.url, store, folder) as drainer,
    ):
        yield System(database, [*first, *rest], drainer)


def make_writers(
    apis: Sequence[PrometheusApi], findings: Findings, rng: random.Random, n_series: int
) -> list[Writer]:
    """Senders of the present, of late data, of a backfill and of a long past.

    None of them reaches the present in 100,000 rounds, half an hour of short pauses.
    """
    now_ms = time.time_ns() // 1_000_000
    timelines = [
        Timeline(now_ms - 3_600_000, 30),
        Timeline(now_ms - 3_600_000, 30),
        Timeline(now_ms - 2 * _DAY_MS, 1_500, is_disordered=True),
        Timeline(now_ms - 20 * _DAY_MS, 15_000),
        Timeline(now_ms - 4_000 * _DAY_MS, 3_600_000),
    ]
    return [
        Writer(number, n_series, timeline, apis, findings, random.Random(rng.random()))
        for number, timeline in enumerate(timelines)
    ]


async def run_kills(
    system: System, targets: Sequence[str], rng: random.Random, tell: Callable[[str], None]
) -> None:
    """Kill one target after the other, each once everything serves again."""
    for number, target in enumerate(targets):
        await asyncio.sleep(rng.uniform(0.05, 1.5))
        await _kill(system, target, rng)
        system.killed[target] += 1
        await asyncio.sleep(rng.uniform(0.0, 0.5))
        await _restore(system)
        tell(f"kill {number + 1} of {len(targets)}: {target}")


async def _kill(system: System, target: str, rng: random.Random) -> None:
    match target:
        case "database":
            await asyncio.to_thread(system.database.kill)
        case "service":
            await asyncio.to_thread(rng.choice(system.replicas).kill)
        case "worker":
            await _kill_process(rng.choice(_workers(system)))
        case _:
            await _wait_for_drain(system.database)
            await asyncio.to_thread(system.drainer.kill)


async def _kill_process(process: int) -> None:
    """Kill a process, and wait until it has ended: a dying one still counts as running."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    while _is_alive(process):  # noqa: ASYNC110
        await asyncio.sleep(0.002)


def _is_alive(process: int) -> bool:
    """Whether any thread of it is left: the first one may become a zombie before the others end."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
        n_threads = len(os.listdir(f"/proc/{process}/task"))
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX" or n_threads > 1


def _workers(system: System) -> list[int]:
    """The processes that serve: of a service with workers not its parent."""
    found = []
    for replica in system.replicas:
        processes = replica.processes()
        found += processes[1:] or processes
    return found


async def _wait_for_drain(database: CrashingDatabase) -> None:
    """Return in the middle of a drain or a merge, or after three seconds without one."""
    deadline = time.monotonic() + _FIND_SECONDS
    while time.monotonic() < deadline and not await is_draining(database):  # noqa: ASYNC110
        await asyncio.sleep(0.002)


async def _restore(system: System) -> None:
    """Start whatever has ended, and wait until all of it serves."""
    if not system.database.is_running:
        await asyncio.to_thread(system.database.start)
    for replica in system.replicas:
        if replica.has_ended():
            replica.start()
    system.drainer.start()
    for replica in system.replicas:
        await replica.wait_ready()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the stored samples compare with the acknowledged ones."""

    by_api: Difference
    by_sql: Difference
    findings: Findings

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled or answered wrongly."""
        return self.by_api.is_none and self.by_sql.is_none and not self.findings.violations

    def __str__(self) -> str:
        return (
            f"{self.by_api.n_compared:,} samples acknowledged; by the API {self.by_api}, "
            f"by SQL {self.by_sql}; writes {dict(self.findings.write_answers)}, "
            f"queries {dict(self.findings.query_answers)}; {self.findings.violations}"
        )


async def write_through_kills(
    system: System,
    targets: Sequence[str],
    rng: random.Random,
    n_series: int,
    tell: Callable[[str], None],
) -> Verdict:
    """Write while targets are killed; then compare, at once and when everything is drained."""
    ended = asyncio.Event()
    async with open_session(limit=20) as session:
        apis = [PrometheusApi(session, replica.url) for replica in system.replicas]
        writers = make_writers(apis, system.findings, rng, n_series)
        for writer in writers:
            writer.pause_seconds = 0.01
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                group.create_task(writer.write(ended))
            try:
                await run_kills(system, targets, rng, tell)
            finally:
                ended.set()
        first = await _compare(system, apis, writers)
        if not first.is_good:
            return first
        system.drainer.kill()
        await drain_once(system.database.url, system.drainer.store)
        assert await system.database.fetch("SELECT FROM promcompat.arrival LIMIT 1") == []
        return await _compare(system, apis, writers)


async def _compare(
    system: System, apis: Sequence[PrometheusApi], writers: Sequence[Writer]
) -> Verdict:
    by_api = Difference()
    for api in apis:
        by_api += await compare_answers(api, writers)
    by_sql = await compare_rows_of(system.database.superuser_url, writers)
    return Verdict(by_api, by_sql, system.findings)
