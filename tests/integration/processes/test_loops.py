"""The loops of a serving process, wired to a real database."""

from typing import Literal

import pytest

from promcompat.composition.network import ServiceAddress
from promcompat.composition.services import open_backend
from promcompat.configuration.settings import Settings
from promcompat.loops import PeriodicLoop, every_loop
from promcompat.telemetry.telemetry import Telemetry
from sql.migrate import migrate
from tests.support.storage.repositories import discard

pytestmark = pytest.mark.integration

ALWAYS = ["heartbeat", "free memory", "maintenance", "metric views"]
ALWAYS += ["storage metrics", "remediation metrics"]
DRAINS = ["limits", "head", "drain", "corrections"]
BLOCKS = ["compaction"]
ALERTING = ["thresholds", "rules", "rule files", "removed rules", "breaches", "levels"]
ALERTING += ["remediations", "alert metrics"]


async def nothing() -> None:
    """Stands for what only a process can do."""


def names_of(loops: list[PeriodicLoop]) -> list[str]:
    """The names of the loops; a receiver's own name holds a hash of its address."""
    return [name.split("-")[0] for name in (loop.name for loop in loops)]


async def test_every_loop_runs_on_an_empty_database(database_url: str) -> None:
    await migrate(database_url, discard)
    settings = Settings(
        database_url=database_url,
        alertmanager_urls="http://127.0.0.1:1",
        webhook_urls="http://127.0.0.1:1/a,http://127.0.0.1:1/b",
    )
    telemetry = Telemetry()
    async with open_backend(
        settings, telemetry, ServiceAddress(external_url="http://here")
    ) as backend:
        loops = every_loop(settings, telemetry, backend, nothing)
        for loop in loops:
            await loop.run()
    receivers = ["notify alertmanager", *["notify webhook", "bound webhook"] * 2]
    expected = [
        *ALWAYS,
        *DRAINS,
        *BLOCKS,
        *ALERTING,
        "alert retention",
        *receivers,
    ]
    assert names_of(loops) == expected
    assert len({loop.name for loop in loops}) == len(loops)


@pytest.mark.parametrize(("store", "expected"), [("blocks", BLOCKS), ("rows", [])])
async def test_without_alerting_only_the_others_run(
    plain_database_url: str, store: Literal["blocks", "rows"], expected: list[str]
) -> None:
    await migrate(plain_database_url, discard)
    settings = Settings(database_url=plain_database_url, alerting=False, store=store)
    telemetry = Telemetry()
    async with open_backend(
        settings, telemetry, ServiceAddress(external_url="http://here")
    ) as backend:
        loops = every_loop(settings, telemetry, backend, nothing)
    assert names_of(loops) == [*ALWAYS, *DRAINS, *expected]
