"""vmagent writes to us, although we do not speak the protocol it tries first."""

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
)
from conformance.prometheus_api import PrometheusApi, Response, format_seconds, open_session
from tests.support.factories import encode_field
from tests.support.programs.servers import DatabaseServer

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
    timescaledb_server: DatabaseServer,
    node_exporter_binary: Path,
    vmagent_binary: Path,
    tmp_path: Path,
) -> Iterator[Pipeline]:
    target, port = f"127.0.0.1:{find_free_port()}", find_free_port()
    config = tmp_path / "vmagent.yml"
    config.write_text(CONFIG.format(target=target))
    exporter = [node_exporter_binary, f"--web.listen-address={target}"]
    database_url = timescaledb_server.create_database()
    with (
        running_promcompat(database_url, tmp_path / "promcompat.log") as service,
        running_program(exporter, int(target.partition(":")[2]), tmp_path / "exporter.log", "/"),
    ):
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
    for _ in range(TIMEOUT_SECONDS * 10):
        response = await api.query(expr, format_seconds(time.time_ns() // 1_000_000))
        if response.is_success and response.data["result"]:
            return response
        await asyncio.sleep(0.1)
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


# -- vmagent as a bridge ----------------------------------------------------------------------


def otlp_gauge(name: str, value: float, time_ns: int) -> bytes:
    """An OTLP export request with one point of one gauge."""
    point = b"\x19" + struct.pack("<Q", time_ns) + b"\x21" + struct.pack("<d", value)
    metric = encode_field(1, name.encode()) + encode_field(5, encode_field(1, point))
    return encode_field(1, encode_field(2, encode_field(2, metric)))


async def test_other_protocols_come_through_vmagent(
    plain_database_url: str, vmagent_binary: Path, tmp_path: Path
) -> None:
    """What docs/http-api.md says: Influx, Graphite, OpenTSDB, DataDog, CSV and OTLP."""
    port, graphite, opentsdb = find_free_port(), find_free_port(), find_free_port()
    with running_promcompat(plain_database_url, tmp_path / "promcompat.log") as service:
        command = [
            str(vmagent_binary),
            f"-remoteWrite.url={service.url}/api/v1/write",
            f"-remoteWrite.tmpDataPath={tmp_path / 'queue'}",
            "-remoteWrite.flushInterval=1s",
            f"-httpListenAddr=127.0.0.1:{port}",
            f"-graphiteListenAddr=127.0.0.1:{graphite}",
            f"-opentsdbListenAddr=127.0.0.1:{opentsdb}",
        ]
        with running_program(command, port, tmp_path / "vmagent.log", "/health") as vmagent:
            now = int(time.time())
            datadog = {"series": [{"metric": "dd", "points": [[now, 3]], "tags": ["env:x"]}]}
            bodies: dict[str, bytes] = {
                "/write": b"cpu,host=a usage=12.5",
                "/datadog/api/v1/series": orjson.dumps(datadog),
                "/api/v1/import/csv?format=2:metric:ask,1:label:ticker": b"GOOG,1.25",
                "/opentelemetry/v1/metrics": otlp_gauge("orders", 7.0, now * 1_000_000_000),
            }
            async with open_session() as session:
                for path, body in bodies.items():
                    async with session.post(vmagent.url + path, data=body) as answer:
                        assert answer.status < 300, path
                send_line(graphite, f"servers.load 1.5 {now}")
                send_line(opentsdb, f"put tsdb {now} 42 host=b")
                api = PrometheusApi(session, service.url)
                for expr, value in {
                    'cpu_usage{host="a"}': "12.5",
                    'dd{env="x"}': "3",
                    'ask{ticker="GOOG"}': "1.25",
                    "orders": "7",
                    '{"servers.load"}': "1.5",
                    'tsdb{host="b"}': "42",
                }.items():
                    response = await wait_for_answer(api, expr)
                    assert response.data["result"][0]["value"][1] == value, expr


def send_line(port: int, line: str) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(line.encode() + b"\n")
