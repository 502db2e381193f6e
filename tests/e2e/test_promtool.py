"""promtool's queries work against us as against Prometheus."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from conformance.processes import run_command
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from tests.e2e.conftest import MonitoredMachine

pytestmark = pytest.mark.e2e


async def wait_for_targets(machine: MonitoredMachine) -> None:
    """Return when the first scrapes of every target have come."""
    async with open_session() as session:
        service = PrometheusApi(session, machine.service.url)
        for _ in range(120):
            now = format_seconds(time.time_ns() // 1_000_000)
            jobs = await service.query("count by (job) (up)", now)
            if jobs.is_success and len(jobs.data["result"]) >= 4:
                return
            await asyncio.sleep(0.5)
    pytest.fail("the targets' samples did not come")


async def ask(promtool: Path, *arguments: str) -> str:
    code, output, errors = await run_command([promtool, "query", *arguments])
    assert code == 0, errors
    return output


async def test_promtool_queries(monitored_machine: MonitoredMachine, promtool_binary: Path) -> None:
    url = monitored_machine.service.url
    await wait_for_targets(monitored_machine)

    text = await ask(promtool_binary, "instant", url, 'up{job="prometheus"}')
    assert text.startswith("up{")
    assert 'instance="node1:9090"' in text
    assert "=> 1 @[" in text

    end = time.time()
    bounds = (f"--start={end - 30:.3f}", f"--end={end:.3f}", "--step=5s")
    output = await ask(promtool_binary, "range", "--format=json", *bounds, url, "vector(2)")
    (series,) = json.loads(output)
    assert [value for _, value in series["values"]] == ["2"] * 7

    listed = await ask(promtool_binary, "series", '--match=up{job="node"}', url)
    assert sorted(listed.splitlines()) == [
        '{__name__="up", cluster="c1", instance="node1:9100", job="node", namespace="default"}',
        '{__name__="up", cluster="c1", instance="node1:9100:second", job="node", '
        'namespace="default"}',
    ]

    jobs = await ask(promtool_binary, "labels", url, "job")
    assert {"absent", "node", "node-exporter", "prometheus"} <= set(jobs.splitlines())


async def test_promtool_shows_our_errors(
    monitored_machine: MonitoredMachine, promtool_binary: Path
) -> None:
    url = monitored_machine.service.url
    code, _, errors = await run_command([str(promtool_binary), "query", "instant", url, "sum("])
    assert code == 1
    assert 'bad_data: invalid parameter "query": 1:5: parse error: unclosed left paren' in errors
