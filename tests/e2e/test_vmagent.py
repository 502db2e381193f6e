"""vmagent writes to us, although we do not speak the protocol it tries first."""

import asyncio
import time

import pytest

from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from tests.e2e.conftest import MonitoredMachine

pytestmark = pytest.mark.e2e

TIMEOUT_SECONDS = 60


async def test_vmagent_data_arrives(monitored_machine: MonitoredMachine) -> None:
    async with open_session() as session:
        service = PrometheusApi(session, monitored_machine.service.url)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            now = format_seconds(time.time_ns() // 1_000_000)
            rates = await service.query('rate(node_cpu_seconds_total{job="vmagent-node"}[1m])', now)
            if rates.is_success and rates.data["result"]:
                break
            assert time.monotonic() < deadline, monitored_machine.vmagent.log.read_text()
            await asyncio.sleep(0.5)
        up = await service.query('up{job="vmagent-node"}', now)
        assert [row["value"][1] for row in up.data["result"]] == ["1"]
        url = f"{monitored_machine.vmagent.url}/metrics"
        async with session.get(url) as response:
            metrics = (await response.text()).splitlines()
    dropped = [
        float(line.split()[-1])
        for line in metrics
        if line.startswith("vmagent_remotewrite_packets_dropped_total")
    ]
    assert dropped
    assert sum(dropped) == 0
