"""A real Prometheus and vmctl read our samples by remote read, and Prometheus by federation."""

import asyncio
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession
from google.protobuf.proto import parse_length_prefixed

from conformance.comparison import Question, compare_servers
from conformance.processes import (
    RunningProgram,
    find_free_port,
    run_command,
    running_program,
    running_promcompat,
    running_prometheus,
)
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from conformance.queries import expressions
from conformance.synthetic import END_MS, all_series
from promcompat.core.model import EvalRange
from promcompat.scraping.metric_family_pb2 import MetricFamily
from tests.support.factories import STALE_NAN, make_labels
from tests.support.formats.remote_write import V2_HEADERS, RequestV2, WireHistogram
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

CONFIG = """
remote_read:
  - url: {url}/api/v1/read
    read_recent: true
"""
MINUTE_MS = 60_000
GRIDS = (
    EvalRange(END_MS - 100 * MINUTE_MS, END_MS + 7 * MINUTE_MS, 4 * MINUTE_MS),
    EvalRange.instant(END_MS - 1_000),
)


@pytest.fixture(scope="module")
def service(
    timescaledb_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProgram]:
    log = tmp_path_factory.mktemp("promcompat") / "log"
    with running_promcompat(timescaledb_server.create_database(), log) as program:
        yield program


@pytest.fixture(scope="module")
def full(
    prometheus_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProgram]:
    """A Prometheus that has the samples itself."""
    folder = tmp_path_factory.mktemp("prometheus") / "full"
    with running_prometheus(prometheus_binary, folder) as program:
        yield program


async def test_prometheus_and_vmctl_read_what_we_have(
    service: RunningProgram,
    full: RunningProgram,
    prometheus_binary: Path,
    victoria_metrics_binary: Path,
    tmp_path: Path,
) -> None:
    """The answers of an empty Prometheus that reads from us are those of one that has the data."""
    questions = [Question(expr, grid) for expr in expressions()[::8] for grid in GRIDS]
    series = all_series()
    config = CONFIG.format(url=service.url)
    with running_prometheus(prometheus_binary, tmp_path / "empty", config=config) as empty:
        async with open_session(limit=16) as session:
            reference = PrometheusApi(session, full.url)
            await reference.write(series)
            await PrometheusApi(session, service.url).write(series)
            candidate = PrometheusApi(session, empty.url)
            agreement = await compare_servers(reference, candidate, questions)
    report = "\n".join(map(str, agreement.differences[:20]))
    assert not agreement.differences, report
    assert agreement.n_with_data > len(questions) // 2
    await copy_by_vmctl(service.url, victoria_metrics_binary, tmp_path)


SCRAPES_US = """
scrape_configs:
  - job_name: federation
    scrape_interval: 1s
    honor_labels: true
    metrics_path: /federate
    params:
      match[]: ['{{job="federated"}}', '{{__name__=~"fed.*"}}']
    static_configs:
      - targets: ["{address}"]
"""
ACCEPTED = (
    "",
    "text/html",
    "text/plain;escaping=dots",
    "text/plain;escaping=values;q=0.5,text/plain;version=1.0.0;escaping=dots",
    "text/plain;escaping=unknown",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3",
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=other",
)


async def test_federation_is_that_of_prometheus(
    service: RunningProgram, full: RunningProgram, prometheus_binary: Path, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    points = [(now - 4_000, 1.5), (now - 2_000, -0.0)]
    series = {
        make_labels("fed_up", job="federated", instance="x"): points,
        make_labels("fed_up", job='fed"er\\ated\n'): [(now - 3_000, 1e21)],
        make_labels("fed.dotted", **{"label.x": "1", "a_b": "ü"}): [(now - 3_000, float("nan"))],
        make_labels("0fed:eration", job="federated"): [(now - 3_000, float("-inf"))],
        make_labels("fed_stale"): [(now - 3_000, 1.0), (now - 2_000, STALE_NAN)],
        make_labels("fed_old"): [(now - 400_000, 1.0)],
        make_labels("fed_tiny"): [(now - 2_000, 1e-7)],
        make_labels("fed_large"): [(now - 2_000, 1234567.0)],
    }
    config = SCRAPES_US.format(address=service.url.removeprefix("http://"))
    async with open_session() as session:
        for program in (service, full):
            await PrometheusApi(session, program.url).write(series)

        async def federate(program: RunningProgram, accept: str, query: str) -> tuple[object, ...]:
            headers = {"Accept": accept} if accept else {}
            async with session.get(f"{program.url}/federate{query}", headers=headers) as answer:
                return answer.status, answer.headers["Content-Type"], await answer.text()

        selected = '?match[]={job="federated"}&match[]={__name__=~"fed.*"}'
        for accept in ACCEPTED:
            answer = await federate(full, accept, selected)
            assert await federate(service, accept, selected) == answer
            assert str(answer[2]).count("# TYPE") == 5
        for query in ("", "?match[]=up{", "?match[]=", "?match[]=up[5m]", "?match[]={}"):
            assert await federate(service, "", query) == await federate(full, "", query), query

        with running_prometheus(prometheus_binary, tmp_path / "scraper", config=config) as scraper:
            api = PrometheusApi(session, scraper.url)
            expected = [
                {"__name__": "fed_up", "job": "federated", "instance": "x"},
                {"__name__": "fed_up", "job": 'fed"er\\ated\n'},
            ]
            for _ in range(300):
                found = await api.query("sort(fed_up)", format_seconds(now + 1_000))
                if found.is_success and found.data["result"]:
                    break
                await asyncio.sleep(0.1)
            assert [row["metric"] for row in found.data["result"]] == expected
            utf8 = await api.query('{"fed.dotted"}', format_seconds(now + 1_000))
            assert utf8.data["result"][0]["metric"]["label.x"] == "1"


async def copy_by_vmctl(url: str, victoria_metrics: Path, folder: Path) -> None:
    """Both modes of vmctl's remote-read copy every series into a VictoriaMetrics."""
    port = find_free_port()
    command = [
        victoria_metrics,
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={folder / 'victoria'}",
        "-retentionPeriod=100y",
    ]
    expected = len(set(all_series()))
    with running_program(command, port, folder / "victoria.log", "/health") as victoria:
        for mode in ("true", "false"):
            code, output, errors = await run_command(
                [
                    victoria_metrics.with_name("vmctl"),
                    "remote-read",
                    "-s",
                    "--disable-progress-bar",
                    f"--remote-read-src-addr={url}",
                    "--remote-read-step-interval=day",
                    f"--remote-read-use-stream={mode}",
                    "--remote-read-filter-time-start=2025-03-29T20:00:00Z",
                    "--remote-read-filter-time-end=2025-03-30T02:00:00Z",
                    f"--vm-addr={victoria.url}",
                    f"--vm-extra-label=copy={mode}",
                ]
            )
            assert code == 0, output + errors
        async with open_session() as session:
            for mode in ("true", "false"):
                assert await wait_for_series(session, victoria.url, mode, expected) == expected


async def wait_for_series(session: ClientSession, url: str, mode: str, expected: int) -> int:
    """How many series VictoriaMetrics has of a mode; it shows them after a moment."""
    found = 0
    asked = {"match[]": f'{{copy="{mode}"}}', "reduce_mem_usage": "1"}
    for _ in range(100):
        async with session.get(f"{url}/internal/force_flush") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/api/v1/export", params=asked) as answer:
            lines = (await answer.read()).splitlines()
        found = len({orjson.dumps(orjson.loads(line)["metric"]) for line in lines})
        if found == expected:
            break
        await asyncio.sleep(0.1)
    return found


PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
HISTOGRAM = WireHistogram(
    count=7, sum=-2.5, schema=1, zero_threshold=0.25, zero_count=1,
    positive_spans=[(-1, 2), (3, 1)], positive=[1, 2, 1], negative_spans=[(4, 1)], negative=[2],
)  # fmt: skip
FLOATS = HISTOGRAM.but(is_float=True, count=7.5, zero_count=1.5, hint=3)


async def test_federation_by_protobuf_has_native_histograms(
    service: RunningProgram, prometheus_binary: Path, tmp_path: Path
) -> None:
    """The families are those of Prometheus, and a Prometheus that scrapes them has the samples."""
    now = time.time_ns() // 1_000_000
    histograms = {
        "fed_native": [HISTOGRAM.but(timestamp_ms=now - 3_000), FLOATS.but(timestamp_ms=now)],
        "fed_native_int": [HISTOGRAM.but(timestamp_ms=now - 2_000)],
        "fed_native_mixed": [HISTOGRAM.but(timestamp_ms=now - 2_000)],
    }
    request = RequestV2()
    for name, sent in histograms.items():
        for histogram in sent:
            request.add([("__name__", name), ("a", "b\n")], histograms=[histogram])
    request.add([("__name__", "fed_native_mixed"), ("b", "")], (now - 1_000, 0.0))
    request.add([("__name__", "fed_native_stale")], (now - 1_000, STALE_NAN))
    config = SCRAPES_US.format(address=service.url.removeprefix("http://"))
    config = config.replace("honor_labels", "scrape_protocols: [PrometheusProto]\n    honor_labels")
    native = {"features": ("native-histograms", "promql-experimental-functions")}
    selected = '?match[]={__name__=~"fed_native.*"}'
    with running_prometheus(prometheus_binary, tmp_path / "full", **native) as full:
        async with open_session() as session:

            async def families(program: RunningProgram) -> tuple[str, list[MetricFamily]]:
                headers = {"Accept": PROTOBUF}
                async with session.get(
                    f"{program.url}/federate{selected}", headers=headers
                ) as answer:
                    stream = BytesIO(await answer.read())
                    kind = answer.headers["Content-Type"]
                found = iter(lambda: parse_length_prefixed(MetricFamily, stream), None)
                return kind, list(found)

            for program in (service, full):
                url = f"{program.url}/api/v1/write"
                async with session.post(url, data=request.body(), headers=V2_HEADERS) as answer:
                    assert answer.status == 204, await answer.text()
            mine, theirs = await families(service), await families(full)
            assert mine == theirs
            assert [family.type for family in theirs[1]] == [5, 4, 3, 4]
            with running_prometheus(
                prometheus_binary, tmp_path / "scraper", config=config, **native
            ) as scraper:
                api = PrometheusApi(session, scraper.url)
                question = 'sort_by_label({__name__=~"fed_native.*", a!=""}, "__name__")'
                for _ in range(300):
                    found = await api.query(question, format_seconds(now + 1_000))
                    if found.is_success and found.data["result"]:
                        break
                    await asyncio.sleep(0.1)
                counts = [row["histogram"][1]["count"] for row in found.data["result"]]
                assert counts == ["7.5", "7", "7"]
