"""A real Prometheus and promcompat scrape the same targets by the same configuration.

Series, values, stale markers and the answers about targets are equal, apart from the times of
scrapes.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
import snappy
import yaml
from aiohttp import ClientSession

from conformance.processes import find_free_port, running_program, running_prometheus
from promcompat.composition.network import ServiceAddress
from promcompat.composition.services import Backend, open_backend
from promcompat.configuration.settings import Settings
from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EvalRange, FloatArray, Labels, SeriesSelection, is_stale
from promcompat.remote_read import remote_read_pb2 as wire
from promcompat.remote_write import histogram_kernels as wire_fields
from promcompat.remote_write.histograms import read_columns
from promcompat.remote_write.remote_pb2 import SeriesKey, TimeSeries
from promcompat.remote_write.series_key import decode_series_key
from promcompat.telemetry.telemetry import Telemetry
from promql.query import Query
from promql.values.matrix import Matrix
from tests.support.services import scraped_histograms
from tests.support.services.scripted_targets import (
    ELSEWHERE,
    OPEN_METRICS,
    ScriptedTargets,
    Step,
    scripted_targets,
)

pytestmark = pytest.mark.e2e

NOW_MS = time.time_ns() // 1_000_000
LATE = 20.0
HISTOGRAM = """\
# HELP h A histogram.
# TYPE h histogram
h_bucket{le="1"} 1
h_bucket{le="+Inf"} 2
h_sum 3
h_count 2
"""
OPEN = """\
# TYPE req counter
req_total{code="200"} 5 # {trace_id="abc"} 1 1.5
req_created 1
{"utf.8","ä b"="c"} NaN
# EOF
"""
JOBS: dict[str, tuple[dict[str, Any], Sequence[Step]]] = {
    "good": ({}, [Step(HISTOGRAM + "a 1\n"), Step(HISTOGRAM + "a 2"), Step("a -Inf")]),
    "vanishing": ({}, [Step("a 1\nb 1"), Step("b NaN"), Step("a 1\nb 1"), Step("b 0x")]),
    "failing": ({}, [Step("a 1"), Step("a 2", status=500), Step("a 3"), Step("", status=404)]),
    "empty": ({}, [Step("a 1"), Step(""), Step("a 1")]),
    "bad": (
        {},
        [Step("a 1"), Step("!\na 2"), Step("a 3"), Step("c 1"), Step("c 2\n}"), Step("d 1")],
    ),
    "own": (
        {},
        [
            Step(f"o 1 {NOW_MS}\nc 1"),
            Step(f"o 1 {NOW_MS}\no2 7 {NOW_MS - 1}\no2 8 {NOW_MS - 2}\nc 2"),
            Step(f"o 2 {NOW_MS}\no2 9 {NOW_MS + 5}\no3 1 {NOW_MS + 3_600_000}"),
            Step("c 1"),
        ],
    ),
    "tracked": (
        {"track_timestamps_staleness": True},
        [Step(f"t 1 {NOW_MS}\nc 1"), Step("c 2"), Step("c 3")],
    ),
    "unhonoured": ({"honor_timestamps": False}, [Step(f"u 1 {NOW_MS}"), Step("c 1")]),
    "doubled": ({}, [Step('a 1\na 2\nb{x="1",y="2"} 1\nc 1'), Step("a 3\na 3\na 4")]),
    "limited": ({"sample_limit": 2}, [Step("a 1\nb 1"), Step("a 1\nb 1\nc 1"), Step("a 1")]),
    "labels": ({"label_limit": 4}, [Step('a{x="1"} 1'), Step('a{x="1",y="2"} 1'), Step("a 1")]),
    "slow": ({}, [Step("a 1"), Step("a 2", seconds=LATE), Step("a 3")]),
    "large": ({"body_size_limit": "1KB"}, [Step("a 1"), Step("#" * 1100 + "\na 1"), Step("a 1")]),
    "packed": ({}, [Step("a 1", is_gzip=True), Step("a 2", is_gzip=True)]),
    "redirected": ({}, [Step(location=f"/{ELSEWHERE}"), Step(location=f"/{ELSEWHERE}")]),
    "unredirected": ({"follow_redirects": False}, [Step(location=f"/{ELSEWHERE}")]),
    "open": ({}, [Step(OPEN, OPEN_METRICS), Step(OPEN, OPEN_METRICS), Step("a 1", OPEN_METRICS)]),
    "untyped": ({}, [Step("a 1"), Step("a 1", ""), Step("a 1", "text/html"), Step("a 1", "x")]),
    "fallback": ({"fallback_scrape_protocol": "PrometheusText0.0.4"}, [Step("a 1", "")]),
    "honoured": ({"honor_labels": True}, [Step('a{job="x",instance=""} 1')]),
    "clashing": (
        {},
        [
            Step('a{job="x",instance="",exported_job="y"} 1'),
            Step('a{job="x",exported_job=""} 1'),
        ],
    ),
    "impossible": (
        {},
        [Step('{"a",""="x"} 1'), Step("a 1 99999999999999999999"), Step("a 1\nb 1 -1e3")],
    ),
    "dotted": ({"metric_name_escaping_scheme": "dots"}, [Step("a 1")]),
    "by_value": (
        {"metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "values"},
        [Step("a 1")],
    ),
    "relabelled": (
        {
            "metric_relabel_configs": [
                {"source_labels": ["__name__"], "regex": "drop.*", "action": "drop"},
                {"source_labels": ["__name__"], "regex": "old_(.*)", "target_label": "__name__"},
            ]
        },
        [Step("a 1\ndropped 1\nold_b 2"), Step("dropped 1"), Step("a 1")],
    ),
    "legacy": (
        {"metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "underscores"},
        [Step("a 1"), Step('{"a.b"} 1'), Step('{"a","b.c"="1"} 1')],
    ),
    "nameless": (
        {"metric_relabel_configs": [{"regex": "__name__", "action": "labeldrop"}]},
        [Step("a 1")],
    ),
    **scraped_histograms.JOBS,
}


PATHS = (
    *("/a%20b", "/a b", "/a?b=c", "/*", "/(a)!'x'", "/ü", "a", "/a;b,c=d&e+f$g@h:i", "/a//b/../c"),
    *("/~x", "/a[b]", '/a"b<c>`{}|\\^'),
)


def configuration(address: str, exporter: str, folder: Path) -> str:
    jobs: list[dict[str, Any]] = [
        {
            "job_name": name,
            "metrics_path": f"/{name}",
            "static_configs": [{"targets": [address], "labels": {"env": "test"}}],
            **options,
        }
        for name, (options, _) in JOBS.items()
    ]
    (folder / "targets.json").write_text(f'[{{"targets": ["{exporter}"]}}]')
    jobs += [
        {"job_name": "node", "static_configs": [{"targets": [exporter]}]},
        {"job_name": "files", "file_sd_configs": [{"files": [str(folder / "*.json")]}]},
        {"job_name": "down", "static_configs": [{"targets": ["127.0.0.1:1"]}]},
        {
            "job_name": "paths",
            "static_configs": [
                {"targets": ["127.0.0.1:1"], "labels": {"__metrics_path__": path, "n": str(number)}}
                for number, path in enumerate(PATHS)
            ],
        },
        {"job_name": "root", "metrics_path": "", "static_configs": [{"targets": ["127.0.0.1:1"]}]},
        {
            "job_name": "twice",
            "static_configs": [{"targets": ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]}],
            "relabel_configs": [{"target_label": "__address__", "replacement": "127.0.0.1:1"}],
        },
        {
            "job_name": "chosen",
            "params": {"p": ["1", "2"]},
            "static_configs": [{"targets": [exporter, "other:1"], "labels": {"__param_p": "3"}}],
            "relabel_configs": [
                {"source_labels": ["__address__"], "regex": "other.*", "action": "drop"},
                {"target_label": "instance", "replacement": "i"},
            ],
        },
        {
            "job_name": "crowded",
            "target_limit": 1,
            "static_configs": [{"targets": [exporter, exporter.replace("127.0.0.1", "localhost")]}],
        },
    ]
    shared = {"scrape_interval": "1s", "scrape_timeout": "900ms"}
    return yaml.safe_dump({"global": shared, "scrape_configs": jobs})


Samples = dict[Labels, list[tuple[int, str]]]
"""Times and values; the value of a stale marker is `stale`."""


def as_texts(values: FloatArray, histograms: Histograms | None) -> list[str]:
    texts = [
        "stale" if is_end else str(value)
        for value, is_end in zip(values.tolist(), is_stale(values).tolist(), strict=True)
    ]
    rows = np.flatnonzero(is_histogram(values))
    for row, number in zip(rows, histogram_numbers(values[rows]), strict=True):
        assert histograms is not None
        texts[row] = scraped_histograms.as_text(histograms, number)
    return texts


async def samples_of_prometheus(url: str) -> Samples:
    every = wire.LabelMatcher(type=wire.LabelMatcher.NEQ, name=b"job", value=b"")
    query = wire.Query(start_timestamp_ms=0, end_timestamp_ms=NOW_MS * 2, matchers=[every])
    body = snappy.compress(wire.ReadRequest(queries=[query]).SerializeToString())
    headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    async with (
        ClientSession() as session,
        session.post(f"{url}/api/v1/read", data=body, headers=headers) as answer,
    ):
        assert answer.status == 200
        read = wire.ReadResponse.FromString(snappy.decompress(await answer.read()))
    found: Samples = {}
    for encoded in wire.QueryResult.FromString(read.results[0]).timeseries:
        series = TimeSeries.FromString(encoded)
        key = SeriesKey.FromString(encoded)
        labels = decode_series_key(SeriesKey(labels=key.labels).SerializeToString())
        bits = np.array([sample.value for sample in series.samples], np.uint64)
        times = [sample.timestamp for sample in series.samples]
        pairs = list(zip(times, as_texts(bits.view(np.float64), None), strict=True))
        if series.histograms:
            ends = np.cumsum([len(message) for message in series.histograms])
            bounds = np.column_stack((np.append(0, ends[:-1]), ends))
            native, fields = read_columns(b"".join(series.histograms), bounds)
            is_end = is_stale(native.sums).tolist()
            texts = [
                "stale" if is_end[row] else scraped_histograms.as_text(native, row)
                for row in range(len(native))
            ]
            pairs += zip(fields[:, wire_fields.TIMESTAMP].tolist(), texts, strict=True)
        found[labels] = sorted(pairs)
    return found


async def samples_of_ours(backend: Backend) -> Samples:
    matcher = LabelMatcher("job", MatchOp.NOT_EQUAL, "")
    selection = SeriesSelection(matchers=(matcher,), start_ms=0, end_ms=NOW_MS * 2)
    (block,) = await backend.storage.metrics.store.select("default", [selection])
    values = as_texts(np.ascontiguousarray(block.values), block.histograms)
    pairs = list(zip(block.timestamps.tolist(), values, strict=True))
    ends = block.offsets.tolist()
    return {
        labels: pairs[first:end]
        for labels, first, end in zip(block.labels, ends, ends[1:], strict=False)
    }


def scripted(samples: Samples) -> dict[Labels, list[str]]:
    """The values of the scripts' series until the scrape that was the last of their script.

    Samples with a time of their own count whenever they are. Series that only have stale markers
    do not: Prometheus 3.5.3 marks some that it never stored, later versions do not.
    """
    ends = {
        labels.get("job"): pairs[len(JOBS[job][1]) - 1][0]
        for labels, pairs in samples.items()
        if labels.get("__name__") == "up" and (job := labels.get("job")) in JOBS
    }
    assert ends.keys() == JOBS.keys()
    found: dict[Labels, list[str]] = {}
    for labels, pairs in samples.items():
        name, job = labels.get("__name__"), labels.get("job")
        end_ms = ends.get("honoured" if job == "x" else job, 0)
        kept = [value for at, value in pairs if at <= end_ms or (at - NOW_MS) in (-2, -1, 0, 5)]
        if set(kept) - {"stale"} and name != "scrape_duration_seconds":
            found[labels] = kept
    return found


def settled(target: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on the moment; errors are told in other words."""
    changing = {"lastScrape", "lastScrapeDuration"}
    return {
        name: bool(value) if name == "lastError" else value
        for name, value in target.items()
        if name not in changing
    }


async def until(condition: Callable[[], bool], backend: Backend, prometheus_url: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, prometheus_url
        await backend.services.scraping.run_once()
        await asyncio.sleep(0.2)


async def ask(url: str, path: str) -> Any:
    async with ClientSession() as session, session.get(f"{url}/api/v1/{path}") as answer:
        return (await answer.json())["data"]


async def test_scrapes_are_those_of_prometheus(
    prometheus_binary: Path, node_exporter_binary: Path, plain_database_url: str, tmp_path: Path
) -> None:
    scripts = {name: steps for name, (_, steps) in JOBS.items()}
    scripts[ELSEWHERE] = [Step(f"a {number}") for number in range(50)]
    port, exporter_log = find_free_port(), tmp_path / "exporter"
    command = [node_exporter_binary, f"--web.listen-address=127.0.0.1:{port}"]
    command += ["--collector.disable-defaults", "--collector.loadavg", "--collector.uname"]
    with running_program(command, port, exporter_log, "/metrics"):
        async with scripted_targets(scripts) as targets:
            config = configuration(targets.address, f"127.0.0.1:{port}", tmp_path)
            # What a later Prometheus has in its configuration is a feature flag of this one.
            flags = "extra_scrape_metrics: true\n  scrape_native_histograms: true"
            ours = config.replace("global:", f"global:\n  {flags}", 1)
            (tmp_path / "prometheus.yml").write_text(ours)
            settings = Settings(
                database_url=plain_database_url,
                scrape_config=tmp_path / "prometheus.yml",
                alerting=False,
            )
            loop = asyncio.get_running_loop()
            external_url = f"http://{socket.gethostname()}:1"
            running = running_prometheus(
                prometheus_binary,
                tmp_path / "p",
                config=config,
                features=["extra-scrape-metrics", "native-histograms"],
            )
            prometheus = await loop.run_in_executor(None, running.__enter__)
            try:
                async with open_backend(
                    settings, Telemetry(), ServiceAddress(external_url=external_url)
                ) as backend:
                    await compare(backend, prometheus.url, targets, tmp_path / "targets.json")
            finally:
                await loop.run_in_executor(None, running.__exit__, None, None, None)


async def compare(
    backend: Backend, prometheus_url: str, targets: ScriptedTargets, file: Path
) -> None:
    scrapers = ("Prometheus", "promcompat")
    await until(lambda: len(targets.headers) == 2, backend, prometheus_url)
    await asyncio.to_thread(file.write_text, "[]")
    removed_at = time.monotonic()
    await until(lambda: all(map(targets.all_done, scrapers)), backend, prometheus_url)
    # Two intervals and a bit after a target has gone, its series are stale.
    await until(lambda: time.monotonic() - removed_at > 4.5, backend, prometheus_url)
    theirs = await samples_of_prometheus(prometheus_url)
    ours = await samples_of_ours(backend)
    found, wanted = scripted(ours), scripted(theirs)
    differences = [
        f"{labels} ours: {found.get(labels)} theirs: {wanted.get(labels)}"
        for labels in sorted(found.keys() | wanted.keys())
        if found.get(labels) != wanted.get(labels)
    ]
    assert not differences, "\n".join(differences)
    # A Prometheus takes up to five seconds longer to learn of it.
    (ended,) = (pairs for labels, pairs in ours.items() if is_up_of(labels, "files"))
    assert [value for _, value in ended][-2:] == ["1.0", "stale"]
    await compare_bounds(backend, prometheus_url)
    await compare_targets(backend, prometheus_url)
    for name in ("Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds"):
        assert targets.headers["promcompat"][name] == targets.headers["Prometheus"][name]
    for name in JOBS:
        assert targets.accepted["promcompat", name] == targets.accepted["Prometheus", name]


async def compare_bounds(backend: Backend, prometheus_url: str) -> None:
    """The bounds of custom buckets, by a question whose answer depends on them."""
    expr = 'histogram_quantile(0.6, last_over_time(c{job="converted"}[10m]))'
    question = Query("default", expr, EvalRange.instant(time.time_ns() // 1_000_000))
    value = (await backend.services.queries.run(question)).value
    assert isinstance(value, Matrix)
    ours = dict(zip((labels.get("x") for labels in value.labels), value.values[:, 0], strict=True))
    theirs = (await ask(prometheus_url, f"query?{urlencode({'query': expr})}"))["result"]
    assert len(theirs) == 2
    assert ours == {found["metric"]["x"]: float(found["value"][1]) for found in theirs}


def is_up_of(labels: Labels, job: str) -> bool:
    return (labels.get("__name__"), labels.get("job")) == ("up", job)


async def compare_targets(backend: Backend, prometheus_url: str) -> None:
    theirs = await ask(prometheus_url, "targets")
    ours = await backend.services.scraping.targets()

    def of(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        named = [settled(item) for item in items if item["scrapePool"] not in JOBS]
        return sorted(named, key=lambda item: (item["scrapePool"], str(item["labels"])))

    assert of(ours.active) == of(theirs["activeTargets"])
    assert ours.active[0].keys() == theirs["activeTargets"][0].keys()
    assert list(ours.dropped) == theirs["droppedTargets"]
    assert ours.dropped_counts == theirs["droppedTargetCounts"]
    assert {"scrapePools": ours.pools} == await ask(prometheus_url, "scrape_pools")
    selected = 'targets/metadata?metric=node_load1&match_target={job="node"}'
    (described,) = await ask(prometheus_url, selected)
    metadata = await backend.services.scraping.metadata()
    (numbers,) = (n for labels, n in metadata.targets if labels["job"] == "node")
    found = {metadata.families[number][0]: metadata.families[number] for number in numbers}
    assert list(found["node_load1"][1:]) == [described[n] for n in ("type", "help", "unit")]
