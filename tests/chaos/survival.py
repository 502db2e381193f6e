"""One service under senders: a fault comes and goes, and everything is as it was."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from conformance.prometheus_api import PrometheusApi, open_session
from tests.chaos.crashing_database import CrashingDatabase
from tests.chaos.faults import FAULTS, Faulty
from tests.chaos.replicas import Replica, running_replicas
from tests.chaos.sql_comparison import compare_rows_of
from tests.chaos.traffic import Findings, Timeline, Writer, compare_answers
from tests.support.programs.network import cuttable_network

RECOVERY_SECONDS: Final = 120.0
"""Twice the time after which the server ends a transaction whose client vanished."""
_DAY_MS: Final = 86_400_000
_SERIES: Final = 20


@dataclass(slots=True)
class Scene:
    """A service on a database behind a network, and its senders."""

    faulty: Faulty
    replica: Replica
    api: PrometheusApi
    writers: list[Writer]
    findings: Findings = field(default_factory=Findings)


@asynccontextmanager
async def scene(
    database: CrashingDatabase, folder: Path, settings: Mapping[str, str], seed: int
) -> AsyncIterator[Scene]:
    """A service that is ready, and three senders that have not begun."""
    rng, findings = random.Random(seed), Findings()
    async with cuttable_network(database.url) as network:
        starting = running_replicas(["service"], network.url, folder, settings)
        [replica] = await asyncio.to_thread(starting.__enter__)
        try:
            async with open_session(limit=10) as session:
                api = PrometheusApi(session, replica.url)
                writers = _writers(api, findings, rng)
                yield Scene(Faulty(database, network, rng), replica, api, writers, findings)
        finally:
            await asyncio.to_thread(starting.__exit__, None, None, None)


def _writers(api: PrometheusApi, findings: Findings, rng: random.Random) -> list[Writer]:
    """Senders of yesterday, of late data and of a long past: a clock may go back by hours."""
    now_ms = time.time_ns() // 1_000_000
    timelines = [
        Timeline(now_ms - 2 * _DAY_MS, 10),
        Timeline(now_ms - 3 * _DAY_MS, 15_000, is_disordered=True),
        Timeline(now_ms - 4_000 * _DAY_MS, 3_600_000),
    ]
    return [
        Writer(number, _SERIES, each, [api], findings, random.Random(rng.random()), 0, 0.01)
        for number, each in enumerate(timelines)
    ]


async def survive(
    there: Scene,
    name: str,
    fault: Callable[[], AbstractAsyncContextManager[None]],
    seconds: float,
    *,
    is_refused: bool = False,
) -> None:
    """Write before, during and after a fault; fails when anything is not as it must be.

    The fault lasts for some seconds; with `is_refused` also until a write is answered 503.
    """
    process, ended = there.replica.processes()[0], asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in there.writers:
            group.create_task(writer.write(ended))
        try:
            await _wait_for_rounds(there, f"before {name}")
            async with fault():
                await asyncio.sleep(seconds)
                if is_refused:
                    await _wait_for_refusal(there, name)
            await _wait_for_rounds(there, f"after {name}")
        finally:
            ended.set()
    assert not there.findings.violations, f"{name}: {there.findings}"
    assert there.replica.processes()[0] == process, f"{name}: the service was restarted"
    by_api = await compare_answers(there.api, there.writers)
    by_sql = await compare_rows_of(there.faulty.database.superuser_url, there.writers)
    assert by_api.is_none, f"{name}: by the API {by_api}, {there.findings}"
    assert by_sql.is_none, f"{name}: by SQL {by_sql}, {there.findings}"


async def survive_all(
    there: Scene, seconds: float, tell: Callable[[str], None] = lambda _line: None
) -> None:
    """Each of FAULTS, one after the other, for some seconds each."""
    for name, make in FAULTS.items():
        await survive(there, name, partial(make, there.faulty), seconds)
        tell(f"survived {name}")
    assert there.findings.write_answers["503"] > 0, there.findings


async def _wait_for_refusal(there: Scene, name: str) -> None:
    """Return once a write is answered 503 again."""
    answers = there.findings.write_answers
    before, deadline = answers["503"], time.monotonic() + RECOVERY_SECONDS
    while answers["503"] == before:
        assert time.monotonic() < deadline, f"{name}: nothing is refused: {there.findings}"
        await asyncio.sleep(0.02)


async def _wait_for_rounds(there: Scene, moment: str) -> None:
    """Return once each sender was answered again twice."""
    before: Sequence[int] = [writer.n_acknowledged for writer in there.writers]
    deadline = time.monotonic() + RECOVERY_SECONDS
    while any(
        writer.n_acknowledged < count + 2
        for writer, count in zip(there.writers, before, strict=True)
    ):
        assert time.monotonic() < deadline, f"nothing is taken {moment}: {there.findings}"
        await asyncio.sleep(0.02)
