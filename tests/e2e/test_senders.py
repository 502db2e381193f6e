"""Clients of other systems write to us unchanged: influxdb-client, datadog and vmctl."""

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import statsd
from datadog import api as datadog_api
from datadog import initialize
from datadog.dogstatsd import DogStatsd
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.rest import ApiException

from conformance.processes import (
    RunningProgram,
    find_free_port,
    run_command,
    running_program,
    running_promcompat,
    running_prometheus,
)
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from promcompat.imports.tsdb.blocks import Block, find_blocks
from promcompat.imports.tsdb.index import DamagedBlockError
from tests.support.factories import STALE_NAN, make_labels
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.older_databases import fill_promscale

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(
    timescaledb_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProgram]:
    log = tmp_path_factory.mktemp("promcompat") / "log"
    with running_promcompat(timescaledb_server.create_database(), log) as program:
        yield program


async def value_of(url: str, expr: str, time_ms: int) -> str | None:
    """The value of the only series that an expression has, None if it has none."""
    async with open_session() as session:
        answer = await PrometheusApi(session, url).query(expr, format_seconds(time_ms))
    result = answer.data["result"]
    return result[0]["value"][1] if len(result) == 1 else None


async def test_influxdb_client_writes(service: RunningProgram) -> None:
    now = time.time_ns()

    def write() -> str:
        with InfluxDBClient(url=service.url, token="any", org="o", timeout=20_000) as client:
            assert client.ping()
            writer = client.write_api(write_options=SYNCHRONOUS)
            point = Point("cpu load").tag("host", "a,b").field("one", 1.5).field("up", True)
            writer.write(bucket="metrics", record=[point.field("note", "x y").time(now)])
            try:
                writer.write(bucket="metrics", record="cpu value=no")
            except ApiException as exc:
                return str(exc.body)
        return ""

    error = orjson.loads(await asyncio.to_thread(write))
    assert error["code"] == "invalid"
    assert "line 1 (cpu value=no): the value 'no'" in error["message"]
    now_ms = now // 1_000_000
    assert await value_of(service.url, '{"cpu load_one",host="a,b"}', now_ms) == "1.5"
    assert await value_of(service.url, '{"cpu load_up"}', now_ms) == "1"


async def test_datadog_writes(service: RunningProgram) -> None:
    now = int(time.time())

    def write() -> list[object]:
        initialize(
            api_key="k", app_key="a", api_host=f"{service.url}/datadog", statsd_disable=True,
            hostname_from_config=False, mute=False,
        )  # fmt: skip
        return [
            datadog_api.Metric.send(
                metric=f"app.requests{int(compresses)}",
                points=[(now, 7)],
                host="h",
                tags=["env:x"],
                type="gauge",
                compress_payload=compresses,
            )
            for compresses in (False, True)
        ] + [datadog_api.Distribution.send(metric="app.took", points=[(now, [1.0, 2.0, 2.0])])]

    assert await asyncio.to_thread(write) == [{"status": "ok"}] * 3
    middle = 'histogram_quantile(0.5, {"app.took"}) > 1.9 < 2.1'
    assert await value_of(service.url, middle, now * 1000) is not None
    for number in (0, 1):
        expr = f'{{"app.requests{number}",env="x",host="h"}}'
        assert await value_of(service.url, expr, now * 1000) == "7"


async def test_vmctl_copies_a_prometheus_and_an_influxdb_export(
    service: RunningProgram, prometheus_binary: Path, victoria_metrics_binary: Path, tmp_path: Path
) -> None:
    """vmctl reads the snapshot of a real Prometheus, and the remote read of one."""
    now = time.time_ns() // 1_000_000
    series = {
        make_labels("copied", x=str(number)): [
            (now - 60_000 + step * 1000, step * 0.5) for step in range(50)
        ]
        for number in range(20)
    }
    vmctl = victoria_metrics_binary.with_name("vmctl")
    folder = tmp_path / "prometheus"
    with running_prometheus(prometheus_binary, folder) as prometheus:
        async with open_session() as session:
            api = PrometheusApi(session, prometheus.url)
            await api.write(series)
            snapshot = await api.post("admin/tsdb/snapshot", {})
        reading = [
            "remote-read",
            f"--remote-read-src-addr={prometheus.url}",
            "--remote-read-step-interval=day",
            f"--remote-read-filter-time-start={time.strftime('%Y-%m-%dT00:00:00Z', time.gmtime())}",
            "--remote-read-filter-label=__name__",
            "--remote-read-filter-label-value=copied",
        ]
        snapshot_folder = folder / "data" / "snapshots" / snapshot.data["name"]
        for mode, source in (
            ("read", reading),
            ("snapshot", ["prometheus", f"--prom-snapshot={snapshot_folder}"]),
        ):
            code, output, errors = await run_command(
                [
                    vmctl, *source, "-s", "--disable-progress-bar", f"--vm-addr={service.url}",
                    f"--vm-extra-label=mode={mode}",
                ]
            )  # fmt: skip
            assert code == 0, output + errors
            counted = f'sum(count_over_time(copied{{mode="{mode}"}}[5m]))'
            assert await value_of(service.url, counted, now) == "1000"
            summed = f'sum(sum_over_time(copied{{mode="{mode}"}}[5m]))'
            assert await value_of(service.url, summed, now) == str(
                sum(v for p in series.values() for _, v in p)
            ).removesuffix(".0")


async def test_what_we_export_is_read_by_victoria_metrics_and_back(
    service: RunningProgram, victoria_metrics_binary: Path, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    port = find_free_port()
    command = [
        victoria_metrics_binary,
        f"-httpListenAddr=127.0.0.1:{port}",
        f"-storageDataPath={tmp_path / 'data'}",
    ]
    points = [(now - 60_000 + step * 1000, step / 3) for step in range(50)]
    async with open_session() as session:
        await PrometheusApi(session, service.url).write({make_labels("out", x="é"): points})
        asked = {"match[]": "out"}
        async with session.get(f"{service.url}/api/v1/export", params=asked) as answer:
            lines = await answer.read()
        lines += lines.replace(b'"out"', b'"only_there"')
        with running_program(command, port, tmp_path / "log", "/health") as victoria:
            for _ in range(100):
                async with session.post(f"{victoria.url}/api/v1/import", data=lines) as answer:
                    assert answer.status == 204
                async with session.get(f"{victoria.url}/internal/force_flush") as answer:
                    assert answer.status == 200
                async with session.get(
                    f"{victoria.url}/api/v1/export", params={**asked, "reduce_mem_usage": "1"}
                ) as answer:
                    exported = await answer.read()
                if exported:
                    break
                await asyncio.sleep(0.1)
            code, _, errors = await run_command(
                [
                    sys.executable, "-m", "promcompat", "import", "victoriametrics", victoria.url,
                    "--to", service.url, "--match", "only_there",
                    "--start", str(now // 1000 - 3600), "--end", str(now // 1000),
                ]
            )  # fmt: skip
            assert code == 0, errors
            assert "50 samples were sent" in errors
        document = orjson.loads(exported.splitlines()[0])
        assert document["metric"] == {"__name__": "out", "x": "é"}
        back = exported.replace(b'"out"', b'"back"')
        async with session.post(f"{service.url}/api/v1/import", data=back) as answer:
            assert (answer.status, answer.headers["X-Promcompat-Samples-Stored"]) == (204, "50")
    counted = "count_over_time(back[5m])"
    assert await value_of(service.url, counted, now) == "50"


async def test_statsd_and_graphite_clients_write_over_udp_and_tcp(
    plain_database_url: str, tmp_path: Path
) -> None:
    graphite, ours = find_free_port(), find_free_port()
    settings = {
        "graphite_listen": f"127.0.0.1:{graphite}",
        "statsd_listen": f"127.0.0.1:{ours}",
        "statsd_flush_interval": "300ms",
    }

    def write() -> None:
        udp = statsd.StatsClient("127.0.0.1", ours, prefix="app")
        with udp.pipeline() as pipe:
            pipe.incr("hits", 3)
            pipe.gauge("level", 5)
            pipe.timing("took", 320)
        udp.close()
        tcp = statsd.TCPStatsClient("127.0.0.1", ours)
        tcp.incr("tcp_hits")
        tcp.close()
        dog = DogStatsd("127.0.0.1", ours, disable_telemetry=True, origin_detection_enabled=False)
        dog.increment("dog.hits", 2, tags=["env:x"])
        dog.flush()
        dog.close_socket()
        with socket.create_connection(("127.0.0.1", graphite), timeout=10) as connection:
            connection.sendall(b"servers.load;dc=a 1.5\nbad\n")

    with running_promcompat(plain_database_url, tmp_path / "log", **settings) as service:
        await asyncio.to_thread(write)
        for expr, value in {
            '{"app.hits"}': "3",
            '{"app.level"}': "5",
            '{"app.took_bucket",le="0.5"}': "1",
            '{"app.took_sum"}': "0.32",
            "tcp_hits": "1",
            '{"dog.hits",env="x"}': "2",
            '{"servers.load",dc="a"}': "1.5",
        }.items():
            for _ in range(300):
                found = await value_of(service.url, expr, time.time_ns() // 1_000_000)
                if found is not None:
                    break
                await asyncio.sleep(0.1)
            assert found == value, expr


async def test_import_copies_a_prometheus_and_goes_on_at_its_checkpoint(
    service: RunningProgram, prometheus_binary: Path, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    start = now - 86_400_000
    points = [(start + step * 240_000, step * 0.5) for step in range(300)]
    series = {make_labels("history", x=str(number)): points for number in range(10)}
    series[make_labels("stale")] = [(now - 60_000, 1.0), (now - 30_000, STALE_NAN)]
    checkpoint = tmp_path / "checkpoint.json"
    with running_prometheus(prometheus_binary, tmp_path / "prometheus") as prometheus:
        async with open_session() as session:
            await PrometheusApi(session, prometheus.url).write(series)
        command = [
            sys.executable, "-m", "promcompat", "import", "prometheus", prometheus.url,
            "--to", service.url, "--match", '{__name__=~"history|stale"}',
            "--start", f"{start / 1000:.3f}", "--end", f"{now / 1000:.3f}",
            "--checkpoint", str(checkpoint),
        ]  # fmt: skip
        code, _, errors = await run_command(command)
        assert code == 0, errors
        assert "3,002 samples were sent; of their series the service has 3,002" in errors
        done = orjson.loads(checkpoint.read_bytes())
        assert (done["number"], done["position_ms"]) == (3002, now + 1)
        # As an earlier version wrote it, which added the values up.
        del done["checksum"]
        checkpoint.write_bytes(
            orjson.dumps(done | {"position_ms": now - 45_000, "number": 3001, "total": 224251.0})
        )
        code, _, errors = await run_command(command)
        assert code == 0, errors
        assert "3,002 samples were sent" in errors
        assert "values are not compared" in errors
    assert await value_of(service.url, "stale", now) is None
    counted = "sum(count_over_time(history[25h]))"
    assert await value_of(service.url, counted, now) == "3000"


async def test_import_copies_a_promscale(
    service: RunningProgram, timescaledb_server: DatabaseServer, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    odd, gone = make_labels('ps"odd', x="é"), make_labels("ps_history", x="gone")
    points = [(now - 86_400_000 + step * 240_001, step * 0.5) for step in range(300)]
    series = {make_labels("ps_history", x=str(number)): points for number in range(5)}
    series |= {odd: [(now - 2_000, 1.0), (now - 1_000, STALE_NAN)], gone: points}
    url = timescaledb_server.create_database()
    await fill_promscale(url, series, frozenset([gone]))
    checkpoint = tmp_path / "checkpoint.json"
    command = [
        sys.executable, "-m", "promcompat", "import", "promscale", url, "--to", service.url,
        "--match", '{__name__=~"ps.*"}', "--start", f"{now / 1000 - 86_500:.3f}",
        "--checkpoint", str(checkpoint),
    ]  # fmt: skip
    code, _, errors = await run_command(command)
    assert code == 0, errors
    assert "1,502 samples were sent" in errors
    assert "the service has 1,502" in errors
    assert b"promcompat:test@" not in checkpoint.read_bytes()
    assert await value_of(service.url, "sum(count_over_time(ps_history[25h]))", now) == "1500"
    assert await value_of(service.url, '{"ps\\"odd"}', now) is None
    assert await value_of(service.url, '{"ps\\"odd"} offset 1500ms', now) == "1"
    command[5] = timescaledb_server.create_database()
    code, _, errors = await run_command(command[:-2])
    assert code == 1
    assert "has no table _prom_catalog.metric of a Promscale" in errors


async def test_an_import_goes_on_where_the_service_has_another_value(
    service: RunningProgram, promtool_binary: Path, tmp_path: Path
) -> None:
    start = time.time_ns() // 1_000_000_000 - 86_400
    text, folder = tmp_path / "samples.om", tmp_path / "blocks"
    lines = [f"held {step} {start + step * 60}" for step in range(600)]
    text.write_text("\n".join([*lines, "# EOF", ""]))
    written = await run_command(
        [str(promtool_binary), "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder)]
    )
    assert written[0] == 0, written
    async with open_session() as session:
        held = {make_labels("held"): [((start + 600) * 1000, 7.5)]}
        await PrometheusApi(session, service.url).write(held)
    command = [
        sys.executable, "-m", "promcompat", "import", "tsdb", str(folder), "--to", service.url,
        "--match", "held",
    ]  # fmt: skip
    code, _, errors = await run_command(command)
    assert code == 1
    assert (
        "1 requests had samples that the service has with another value, which it keeps" in errors
    )
    assert "existing 7.5, new value 10" in errors
    assert "the service has 600, with other times or values: DIFFERENT" in errors


async def test_import_copies_blocks_that_promtool_wrote(
    service: RunningProgram, promtool_binary: Path, tmp_path: Path
) -> None:
    now = time.time_ns() // 1_000_000
    start = now // 1000 - 86_400
    lines = [
        f'blocks{{x="{number}"}} {step * 0.25 + number} {start + step * 60}'
        for number in range(3)
        for step in range(1_000)
    ]
    lines += [f"odd {value} {start + step}" for step, value in enumerate(("NaN", "+Inf", "-0"))]
    text, folder = tmp_path / "samples.om", tmp_path / "blocks"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    written = await run_command(
        [str(promtool_binary), "tsdb", "create-blocks-from", "openmetrics", str(text), str(folder)]
    )
    assert written[0] == 0, written
    command = [
        sys.executable, "-m", "promcompat", "import", "tsdb", str(folder), "--to", service.url,
        "--match", '{__name__=~"blocks|odd"}', "--checkpoint", str(tmp_path / "checkpoint.json"),
    ]  # fmt: skip
    async with open_session() as session:
        # What others write meanwhile is not compared.
        others = {make_labels("blocks", x="of somebody else"): [((start + 60) * 1000, 7.5)]}
        await PrometheusApi(session, service.url).write(others)
    code, _, errors = await run_command(command)
    assert code == 0, errors
    assert "3,003 samples were sent" in errors
    assert "the service has 3,003" in errors
    assert await value_of(service.url, "count(count_over_time(blocks[25h]) == 1000)", now) == "3"
    assert await value_of(service.url, 'sum_over_time(blocks{x="2"}[25h])', now) == "126875"
    assert await value_of(service.url, "count_over_time(odd[25h])", now) == "3"
    times = find_blocks(folder)[0]
    file = times.folder / "chunks" / "000001"
    content = bytearray(file.read_bytes())
    # In the first chunk, which begins at 8, and is a short one if a block of time ends soon.
    content[12] ^= 0xFF
    file.write_bytes(content)
    block = Block(times)
    with pytest.raises(DamagedBlockError, match="its checksum is wrong"):
        block.read(0, 1 << 62, np.ones(len(block.keys), np.bool_))
    block.close()
