"""What was acknowledged survives the sudden death of the service."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from conformance.processes import find_free_port, start_promcompat
from conformance.prometheus_api import (
    PrometheusApi,
    WriteError,
    encode_write_requests,
    format_seconds,
    open_session,
)
from promcompat.core.model import Labels
from tests.support.factories import make_labels
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

N_WRITERS = 4
SERIES_PER_WRITER = 200
ROUNDS_BEFORE_DEATH = 40
WINDOW = "1h"


@dataclass(slots=True)
class Acknowledged:
    """How many rounds of each writer were answered 2xx; a round is a sample of each series."""

    rounds: list[int] = field(default_factory=lambda: [0] * N_WRITERS)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, writer: int) -> None:
        """One more round of this writer."""
        self.rounds[writer] += 1
        if sum(self.rounds) >= ROUNDS_BEFORE_DEATH:
            self.reached.set()


def series_of(writer: int) -> list[Labels]:
    return [
        make_labels("load_total", writer=str(writer), number=str(number))
        for number in range(SERIES_PER_WRITER)
    ]


async def write_until_death(
    api: PrometheusApi, writer: int, start_ms: int, acknowledged: Acknowledged
) -> None:
    """Write round after round, the n-th with value n at n ms, until the service is gone."""
    labels = series_of(writer)
    round_number = 0
    while True:
        points = {series: [(start_ms + round_number, float(round_number))] for series in labels}
        (body,) = encode_write_requests(points)
        try:
            await api.write_body(body)
        except (aiohttp.ClientError, WriteError):
            return
        acknowledged.note(writer)
        round_number += 1


async def test_acknowledged_samples_survive_kill_9(
    database_server: DatabaseServer, tmp_path: Path
) -> None:
    database_url, port = database_server.create_database(), find_free_port()
    start_ms = time.time_ns() // 1_000_000 - 60_000
    acknowledged = Acknowledged()
    first = start_promcompat(database_url, tmp_path / "first.log", port=port)
    try:
        first.wait_ready("/-/ready")
        async with open_session(limit=N_WRITERS) as session:
            api = PrometheusApi(session, first.url)
            writers = [
                asyncio.create_task(write_until_death(api, writer, start_ms, acknowledged))
                for writer in range(N_WRITERS)
            ]
            await asyncio.wait_for(acknowledged.reached.wait(), 60)
            first.kill()
            await asyncio.gather(*writers)
    finally:
        first.stop()

    second = start_promcompat(database_url, tmp_path / "second.log", port=port)
    try:
        second.wait_ready("/-/ready")
        async with open_session() as session:
            await check_rounds(PrometheusApi(session, second.url), start_ms, acknowledged)
    finally:
        assert second.stop() == 0


async def check_rounds(api: PrometheusApi, start_ms: int, acknowledged: Acknowledged) -> None:
    """Every series has every acknowledged sample; one more round may have been stored unsaid."""
    now = format_seconds(start_ms + 60_000)
    response = await api.query(f"load_total[{WINDOW}]", now)
    assert response.is_success, response.body
    stored = {Labels.of(row["metric"]): row["values"] for row in response.data["result"]}
    for writer, rounds in enumerate(acknowledged.rounds):
        assert rounds > 0
        for labels in series_of(writer):
            values = [float(value) for _, value in stored[labels]]
            assert values[:rounds] == [float(number) for number in range(rounds)]
            assert len(values) <= rounds + 1
