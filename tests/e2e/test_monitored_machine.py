"""One monitored machine: a real Prometheus scrapes it and writes to us.

Dashboards and promtool get the same answers from us as from that Prometheus.
"""

import asyncio
import json
import re
import time
from collections.abc import Iterator, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.comparison import Question, compare_servers, load_known_differences
from conformance.processes import (
    RunningProgram,
    find_free_port,
    run_command,
    running_program,
    running_promcompat,
    running_prometheus,
)
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from promcompat.core.model import EvalRange
from tests.promqltest.suites import shared_folder
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

OWN_EXPRESSIONS = Path(__file__).parent / "expressions.txt"
METRIC_NAME = re.compile(r"[A-Za-z_:][\w:]*")
EVERY_SAMPLE = '{__name__=~".+"}[10m]'
SETTLE_TIMEOUT_SECONDS = 60
SCRAPE_SECONDS = 0.25
"""Between the scrapes that Prometheus makes of itself."""
N_SCRAPES = 75
N_TARGETS = 5
STEP_MS = 1_750
WINDOW_MS = 14_000

# The instance and cluster names are those that the shared dashboard expressions ask for.
PROMETHEUS_CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
scrape_configs:
  - job_name: prometheus
    scrape_interval: 250ms
    static_configs:
      - targets: ["127.0.0.1:{prometheus_port}"]
        labels: {{cluster: c1, instance: "node1:9090", namespace: default}}
  - job_name: node
    static_configs:
      - targets: ["127.0.0.1:{node_port}"]
        labels: {{cluster: c1, instance: "node1:9100", namespace: default}}
      - targets: ["127.0.0.1:{node_port}"]
        labels: {{cluster: c1, instance: "node1:9100:second", namespace: default}}
  - job_name: node-exporter
    static_configs:
      - targets: ["127.0.0.1:{node_port}"]
        labels: {{cluster: c1, instance: "node1:9100", namespace: default, node: "node1:9100"}}
  - job_name: absent
    static_configs:
      - targets: ["127.0.0.1:{closed_port}"]
remote_write:
  - url: {service_url}/api/v1/write
    queue_config:
      batch_send_deadline: 1s
      max_shards: 4
"""


@dataclass(frozen=True, slots=True)
class MonitoredMachine:
    """Prometheus scrapes node_exporter and itself, and writes to our service."""

    service: RunningProgram
    prometheus: RunningProgram


@pytest.fixture(scope="module")
def monitored_machine(
    timescaledb_server: DatabaseServer,
    prometheus_binary: Path,
    node_exporter_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[MonitoredMachine]:
    folder = tmp_path_factory.mktemp("machine")
    database_url = timescaledb_server.create_database()
    with ExitStack() as stack:
        start = stack.enter_context
        service = start(running_promcompat(database_url, folder / "promcompat.log"))
        node_port, prometheus_port = find_free_port(), find_free_port()
        start(
            running_program(
                [node_exporter_binary, f"--web.listen-address=127.0.0.1:{node_port}"],
                node_port,
                folder / "node_exporter.log",
                "/",
            )
        )
        config = PROMETHEUS_CONFIG.format(
            prometheus_port=prometheus_port,
            node_port=node_port,
            closed_port=find_free_port(),
            service_url=service.url,
        )
        prometheus = start(
            running_prometheus(
                prometheus_binary, folder / "prometheus", config=config, port=prometheus_port
            )
        )
        yield MonitoredMachine(service, prometheus)


# -- promtool ----------------------------------------------------------------------------------


async def wait_for_targets(machine: MonitoredMachine) -> None:
    """Return when the first scrapes of every target have come."""
    async with open_session() as session:
        service = PrometheusApi(session, machine.service.url)
        for _ in range(600):
            now = format_seconds(time.time_ns() // 1_000_000)
            targets = await service.query("up", now)
            if targets.is_success and len(targets.data["result"]) >= N_TARGETS:
                return
            await asyncio.sleep(0.1)
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


# -- dashboards --------------------------------------------------------------------------------


def read_expressions(metrics: Set[str]) -> list[str]:
    """Our own expressions, and those of real dashboards that name one of these metrics.

    The dashboards are in the shared folder, which may be absent. What names other metrics finds
    nothing on this machine; `conformance/test_shared_queries.py` asks it where it finds something.
    """
    own = OWN_EXPRESSIONS.read_text("utf-8").splitlines()
    dashboards = shared_folder() / "queries" / "dashboards_core.txt"
    shared = dashboards.read_text("utf-8").splitlines() if dashboards.is_file() else []
    named = [line for line in shared if not metrics.isdisjoint(METRIC_NAME.findall(line))]
    return list(dict.fromkeys(line for line in own + named if line.strip()))


async def count_samples(api: PrometheusApi, time_ms: int) -> int:
    """How many samples there are up to a time."""
    response = await api.query(EVERY_SAMPLE, format_seconds(time_ms))
    assert response.is_success, response.body
    return sum(len(series["values"]) for series in response.data["result"])


async def wait_for_data(prometheus: PrometheusApi, service: PrometheusApi) -> int:
    """Wait for enough data, all of it shipped; return the time up to which it is."""
    for _ in range(N_SCRAPES * 2):
        missing = N_SCRAPES - await count_scrapes(prometheus)
        if missing <= 0:
            break
        await asyncio.sleep(max(missing * SCRAPE_SECONDS, 1))
    end_ms = time.time_ns() // 1_000_000 // 1000 * 1000
    deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
    while True:
        wanted, found = [await count_samples(api, end_ms) for api in (prometheus, service)]
        if wanted == found > 0:
            return end_ms
        assert time.monotonic() < deadline, f"only {found} of {wanted} samples came"
        await asyncio.sleep(0.25)


async def count_scrapes(prometheus: PrometheusApi) -> float:
    """How often Prometheus has scraped itself."""
    now = format_seconds(time.time_ns() // 1_000_000)
    response = await prometheus.query('count_over_time(up{job="prometheus"}[10m])', now)
    result = response.data["result"]
    return float(result[0]["value"][1]) if result else 0.0


async def test_dashboards_agree(monitored_machine: MonitoredMachine) -> None:
    async with open_session(limit=16) as session:
        prometheus = PrometheusApi(session, monitored_machine.prometheus.url)
        service = PrometheusApi(session, monitored_machine.service.url)
        end_ms = await wait_for_data(prometheus, service)
        listed = await prometheus.get("label/__name__/values")
        expressions = read_expressions(set(listed.data))
        grid = EvalRange(end_ms - WINDOW_MS, end_ms, STEP_MS)
        questions = [
            Question(expr, one_grid)
            for expr in expressions
            for one_grid in (grid, EvalRange.instant(end_ms))
        ]
        agreement = await compare_servers(prometheus, service, questions)
    unexplained = agreement.unexplained(load_known_differences())
    report = "\n".join(map(str, unexplained[:50]))
    assert not unexplained, f"{len(unexplained)} of {len(questions)} answers differ:\n{report}"
    n_own = len(OWN_EXPRESSIONS.read_text("utf-8").splitlines())
    assert agreement.n_with_data > n_own, "hardly any expression found data"
