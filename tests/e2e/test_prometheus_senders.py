"""A real Prometheus with native histograms writes to us, by both versions of remote write."""

import asyncio
import math
import re
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from conformance.processes import find_free_port, running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from promcompat.scraping.metric_family_pb2 import Bucket, Histogram, Metric
from tests.support.services.scraped_histograms import (
    GAUGE_HISTOGRAM,
    HISTOGRAM,
    PROTOBUF,
    body,
    exemplar,
    family,
    labels,
    native,
    spans,
)
from tests.support.services.scripted_targets import ScriptedTargets, Step, scripted_targets

pytestmark = pytest.mark.e2e

CONFIG = """
global:
  scrape_interval: 500ms
  scrape_protocols: [PrometheusProto]
scrape_configs:
  - job_name: prometheus
    always_scrape_classic_histograms: true
    static_configs:
      - targets: ["127.0.0.1:{port}"]
  - job_name: program
    always_scrape_classic_histograms: true
    metrics_path: /program
    static_configs:
      - targets: ["{target}"]
  - job_name: converted
    convert_classic_histograms_to_nhcb: true
    metrics_path: /converted
    static_configs:
      - targets: ["{target}"]
remote_write:
  - name: first
    url: {url}/api/v1/write
    headers: {{X-Scope-OrgID: first}}
    # This version sends custom buckets without their bounds by version 1.0; later ones drop them.
    write_relabel_configs: [{{source_labels: [job], regex: converted, action: drop}}]
    send_native_histograms: true
    send_exemplars: true
    queue_config: {{batch_send_deadline: 500ms}}
  - name: second
    url: {url}/prometheus/api/v1/write
    headers: {{X-Scope-OrgID: second}}
    protobuf_message: io.prometheus.write.v2.Request
    send_native_histograms: true
    send_exemplars: true
    queue_config: {{batch_send_deadline: 500ms}}
"""
REMOTES = ("first", "second")
LINE = re.compile(r'^prometheus_remote_storage_(\w+_total)\{remote_name="(\w+)".*\} (\S+)$')
COUNTS = (500, 520, 530, 590, 600, 680, 700, 710, 400, 420, 450, 480, 510, 530)
"""How far the program's histograms have counted at each scrape; once they were reset.

They are never close to 0, where 3.5.3 extrapolates rates of native histograms beyond their zero.
So it does for rates of gauges, which are not asked for here.
"""


def program(scrape: int) -> Step:
    """Counters of integers and of floats, classic and native; gauges; buckets that come later."""
    scale, at = COUNTS[scrape], int(time.time()) - 100 + scrape
    coarse = {"schema": 0} if scrape > 10 else {}
    seen = native(
        scale,
        **coarse,
        exemplars=[exemplar(scale, at)],
        bucket=[
            Bucket(cumulative_count=4 * scale, upper_bound=0.5),
            Bucket(cumulative_count=9 * scale, upper_bound=2, exemplar=exemplar(scale + 0.5, at)),
            Bucket(cumulative_count=11 * scale, upper_bound=math.inf),
        ],
    )
    floats = Histogram(
        sample_count_float=4.5 * scale, sample_sum=7.5 * scale, schema=2,
        zero_count_float=0.5 * scale,
        positive_span=spans((1 - scrape % 2, 2 + scrape % 2)),
        positive_count=[0] * (scrape % 2) + [1.5 * scale, 2.5 * scale],
    )  # fmt: skip
    return Step(
        body(
            family("h", HISTOGRAM, *(Metric(label=labels(p=p), histogram=seen) for p in "ab")),
            family("f", HISTOGRAM, Metric(histogram=floats)),
            family("gh", GAUGE_HISTOGRAM, Metric(histogram=native(1000 - scale, bucket=[]))),
        ),
        PROTOBUF,
    )


def converted(scrape: int) -> Step:
    """A classic histogram alone; its job makes custom buckets of it."""
    scale = COUNTS[scrape]
    buckets = [
        Bucket(cumulative_count=scale * number, upper_bound=bound)
        for number, bound in enumerate((0.5, 1, 2.5), 1)
    ]
    whole = Histogram(sample_count=5 * scale, sample_sum=9.5 * scale, bucket=buckets)
    return Step(body(family("c", HISTOGRAM, Metric(histogram=whole))), PROTOBUF)


OWN = 'prometheus_http_request_duration_seconds{handler="/metrics"}'
GAUGES = "gh"
OF_EACH = (
    "{h}",
    "{h}[4s]",
    "sum(rate({h}[3s]))",
    "sum without (p, handler) (increase({h}[4s]))",
    "avg({h})",
    "delta({h}[3s])",
    "irate({h}[2s])",
    "resets({h}[5s])",
    "changes({h}[5s])",
    "histogram_quantile(0.9, sum(rate({h}[3s])))",
    "histogram_quantile(0.5, {h})",
    "histogram_count(increase({h}[4s]))",
    "histogram_sum(rate({h}[4s]))",
    "histogram_avg({h})",
    "histogram_fraction(0.1, 1.5, {h})",
    "histogram_stddev({h})",
    "avg_over_time({h}[3s])",
    "sum_over_time({h}[3s])",
    "count_over_time({h}[3s])",
    "last_over_time({h}[3s] offset 1s)",
    "{h} * 2 - {h}",
    "-{h} / 2",
    "rate({h}[3s:1s])",
    "count(max_over_time({h}[3s]) or {h})",
)
DASHBOARD = (
    "histogram_quantile(0.9, sum by (le, p) (rate({bucket}[4s])))",
    "histogram_quantile(0.9, sum by (p) (rate({h}[4s]))) or "
    "histogram_quantile(0.9, sum by (le, p) (rate({bucket}[4s])))",
    "sum(histogram_count(rate({h}[4s]))) - sum(rate({count}[4s]))",
    "sum(rate({sum}[4s])) / sum(rate({count}[4s]))",
    "topk(3, {bucket})",
)
"""Panels of classic histograms, of native ones, and of both side by side."""


def questions(selectors: Sequence[str]) -> list[str]:
    asked = [
        question.format(h=selector)
        for selector in selectors
        for question in OF_EACH
        if selector != GAUGES or not re.search(r"\b(rate|increase)\(", question)
    ]
    for selector in ("h", OWN):
        name, brace, matchers = selector.partition("{")
        parts = {part: f"{name}_{part}{brace}{matchers}" for part in ("bucket", "sum", "count")}
        asked += [question.format(h=selector, **parts) for question in DASHBOARD]
    return asked


async def test_every_sample_and_histogram_is_stored_and_answers_are_equal(
    plain_database_url: str, prometheus_binary: Path, tmp_path: Path
) -> None:
    port = find_free_port()
    scripts = {
        name: [step(scrape) for scrape in range(len(COUNTS))]
        for name, step in (("program", program), ("converted", converted))
    }
    log = tmp_path / "promcompat.log"
    with running_promcompat(plain_database_url, log, tenancy="header") as service:
        async with scripted_targets(scripts) as targets, open_session() as session:
            config = CONFIG.format(port=port, url=service.url, target=targets.address)
            with running_prometheus(
                prometheus_binary,
                tmp_path / "p",
                config=config,
                port=port,
                features=("native-histograms", "metadata-wal-records", "exemplar-storage"),
            ) as prometheus:
                sender = PrometheusApi(session, prometheus.url)
                first, second = (
                    PrometheusApi(session, service.url, {"X-Scope-OrgID": name}) for name in REMOTES
                )
                end = await last_scrape(targets, sender)
                for receiver in (first, second):
                    await received_until(receiver, end + 1)
                await assert_nothing_failed(sender)
                await assert_equal_answers(sender, first, ("h", "f", GAUGES, OWN), end)
                await assert_equal_answers(sender, second, ("h", "f", GAUGES, "c", OWN), end)
                for receiver in (first, second):
                    asked = [("query", "h or h_bucket"), ("start", "0"), ("end", str(end))]
                    mine, theirs = [
                        await api.get("query_exemplars", asked) for api in (receiver, sender)
                    ]
                    assert mine.data == theirs.data
                    assert len(theirs.data) == 4
                found = await second.get("metadata", [("metric", "prometheus_build_info")])
                assert found.data["prometheus_build_info"][0]["type"] == "gauge"


async def last_scrape(targets: ScriptedTargets, sender: PrometheusApi) -> float:
    """The time of the last scrape of the program's histograms, once all were scraped."""
    for _ in range(600):
        if targets.all_done("Prometheus"):
            break
        await asyncio.sleep(0.1)
    # Between the jobs' last scrapes may be a whole interval.
    ends = []
    for name in ("h", "c"):
        found = await sender.query(f"{name}[1m]", str(time.time()))
        ends += [series["histograms"][-1][0] for series in found.data["result"]]
    return float(min(ends))


async def received_until(receiver: PrometheusApi, at: float) -> None:
    """Return when the receiver has samples of this time."""
    for _ in range(600):
        found = await receiver.query("min(timestamp(up))", str(time.time()))
        if found.data["result"] and float(found.data["result"][0]["value"][1]) >= at:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no samples of {at} came: {found.data}")


async def assert_nothing_failed(sender: PrometheusApi) -> None:
    """Samples, histograms and exemplars were sent by both remotes, and nothing failed."""
    async with sender.session.get(f"{sender.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    counts = {(m[2], m[1]): float(m[3]) for line in lines if (m := LINE.match(line))}
    for name, kind in product(REMOTES, ("samples", "histograms", "exemplars")):
        assert counts[name, f"{kind}_total"] > 30
        assert counts[name, f"{kind}_failed_total"] == 0
        assert counts[name, f"{kind}_retried_total"] == 0


async def assert_equal_answers(
    sender: PrometheusApi, receiver: PrometheusApi, names: Sequence[str], end: float
) -> None:
    """All questions, at a time and over the seconds before it, are answered alike."""
    n_with_data = 0
    asked = questions(names)
    for question in asked:
        at = str(end)
        grid = (str(end - 2), at, "0.25")
        answers = [[await api.query(question, at) for api in (sender, receiver)]]
        if not question.endswith("]"):
            answers.append([await api.query_range(question, *grid) for api in (sender, receiver)])
        for theirs, mine in answers:
            assert_alike(mine.data, theirs.data, question)
            n_with_data += bool(theirs.data["result"])
    assert n_with_data > 1.7 * len(asked)


def assert_alike(mine: Any, theirs: Any, question: str) -> None:
    """Equal but for the last digits of sums, and the order of series."""
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys(), question
        for key in theirs:
            assert_alike(mine[key], theirs[key], question)
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs), question
        if theirs and isinstance(theirs[0], dict):
            mine, theirs = (
                sorted(items, key=lambda one: str(one["metric"])) for items in (mine, theirs)
            )
        for one, other in zip(mine, theirs, strict=True):
            assert_alike(one, other, question)
    elif isinstance(theirs, str) and mine != theirs:
        assert math.isclose(float(mine), float(theirs), rel_tol=1e-12), question
    else:
        assert mine == theirs, question
