"""The loops of the service: they go on after faults, and say when they are late."""

import asyncio
import logging
from typing import Any

import pytest

from promcompat import loops
from promcompat.core.errors import StorageUnavailableError
from promcompat.loops import PeriodicLoop, running
from promcompat.telemetry.telemetry import Telemetry
from tests.support.waiting import until


@pytest.fixture(autouse=True)
def watched_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_WATCH_SECONDS", 0.01)


def messages(caplog: pytest.LogCaptureFixture, text: str) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == text]


async def test_loop_that_does_not_end_is_late_and_then_on_time_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    telemetry, blocked = Telemetry(), asyncio.Event()
    sample = telemetry.registry.get_sample_value
    succeeded_at = "promcompat_loop_last_success_timestamp_seconds"
    async with running([PeriodicLoop("rules", 0.01, blocked.wait, 0.05)], telemetry.loops):
        await until(lambda: messages(caplog, "loop is late"))
        [late] = messages(caplog, "loop is late")
        assert late.loop == "rules"
        assert (sample("promcompat_loop_late_seconds", {"loop": "rules"}) or 0) > 0.05
        assert sample(succeeded_at, {"loop": "rules"}) is None
        blocked.set()
        await until(lambda: messages(caplog, "loop is on time again"))
        assert (sample(succeeded_at, {"loop": "rules"}) or 0) > 1e9


async def test_loop_that_fails_is_counted_and_late_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    telemetry, n_runs = Telemetry(), 0

    async def fail() -> None:
        nonlocal n_runs
        n_runs += 1
        if n_runs % 2:
            raise StorageUnavailableError("gone")
        raise KeyError("a fault of ours")

    async with running([PeriodicLoop("rules", 0.001, fail, 0.02)], telemetry.loops):
        await until(lambda: n_runs > 3 and messages(caplog, "loop is late"))
    failures = telemetry.registry.get_sample_value(
        "promcompat_loop_failures_total", {"loop": "rules"}
    )
    assert failures is not None
    assert failures >= 3


async def test_loop_on_time_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, n_runs = Telemetry(), 0

    async def run() -> None:
        nonlocal n_runs
        n_runs += 1

    async with running([PeriodicLoop("rules", 0.001, run, 5.0)], telemetry.loops):
        await until(lambda: n_runs > 10)
    assert not caplog.records


async def test_a_loop_ends_whose_run_fails_while_it_is_cancelled() -> None:
    """What cleans up after a cancellation may fail, and raise that in its place."""
    telemetry, begun = Telemetry(), asyncio.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise StorageUnavailableError("gone")

    async with asyncio.timeout(30):
        async with running([PeriodicLoop("maintenance", 3600, run)], telemetry.loops):
            await begun.wait()
