"""One monitored machine for the whole session: a real Prometheus that also writes to us."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
    running_prometheus,
)
from tests.servers import DatabaseServer

# The instance and cluster names are those that the shared dashboard expressions ask for.
PROMETHEUS_CONFIG = """
global:
  scrape_interval: 2s
  evaluation_interval: 2s
scrape_configs:
  - job_name: prometheus
    scrape_interval: 1s
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
    """The running programs: Prometheus scrapes the exporter and itself, and writes to us."""

    service: RunningProgram
    prometheus: RunningProgram
    node_exporter: RunningProgram


@pytest.fixture(scope="session")
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
        node_exporter = start(
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
        yield MonitoredMachine(service, prometheus, node_exporter)
