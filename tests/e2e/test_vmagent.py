"""vmagent writes to us, although we do not speak the protocol it tries first."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
)
from conformance.prometheus_api import PrometheusApi, Response, format_seconds, open_session
from tests.e2e.conftest import MonitoredMachine
from tests.servers import DatabaseServer

pytestmark = pytest.mark.e2e

TIMEOUT_SECONDS = 60
CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: node
    static_configs:
      - targets: ["{target}"]
"""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """vmagent and the service it writes to."""

    vmagent: RunningProgram
    service: RunningProgram


@pytest.fixture
def pipeline(
    monitored_machine: MonitoredMachine,
    timescaledb_server: DatabaseServer,
    vmagent_binary: Path,
    tmp_path: Path,
) -> Iterator[Pipeline]:
    config = tmp_path / "vmagent.yml"
    target = monitored_machine.node_exporter.url.removeprefix("http://")
    config.write_text(CONFIG.format(target=target))
    port = find_free_port()
    database_url = timescaledb_server.create_database()
    with running_promcompat(database_url, tmp_path / "promcompat.log") as service:
        command = [
            str(vmagent_binary),
            f"-promscrape.config={config}",
            f"-remoteWrite.url={service.url}/api/v1/write",
            f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
            "-remoteWrite.flushInterval=1s",
            f"-httpListenAddr=127.0.0.1:{port}",
        ]
        with running_program(command, port, tmp_path / "vmagent.log", "/health") as vmagent:
            yield Pipeline(vmagent, service)


async def wait_for_answer(api: PrometheusApi, expr: str) -> Response:
    """The first answer that is not empty."""
    for _ in range(TIMEOUT_SECONDS * 2):
        response = await api.query(expr, format_seconds(time.time_ns() // 1_000_000))
        if response.is_success and response.data["result"]:
            return response
        await asyncio.sleep(0.5)
    pytest.fail(f"{expr} has no answer")


async def read_counter(api: PrometheusApi, name: str) -> float:
    """The sum of a counter in the program's own metrics."""
    async with api.session.get(f"{api.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith(name)]
    assert values, name
    return sum(values)


async def test_vmagent_data_arrives(pipeline: Pipeline) -> None:
    async with open_session() as session:
        service = PrometheusApi(session, pipeline.service.url)
        rates = await wait_for_answer(service, 'rate(node_cpu_seconds_total{job="node"}[1m])')
        assert all(float(row["value"][1]) >= 0 for row in rates.data["result"])
        up = await wait_for_answer(service, "up")
        assert [row["value"][1] for row in up.data["result"]] == ["1"]
        vmagent = PrometheusApi(session, pipeline.vmagent.url)
        assert await read_counter(vmagent, "vmagent_remotewrite_packets_dropped_total") == 0
