"""A real Prometheus with native histograms writes to us, by both versions of remote write."""

import asyncio
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from conformance.processes import find_free_port, running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session

pytestmark = pytest.mark.e2e

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: prometheus
    scrape_protocols: [PrometheusProto]
    static_configs:
      - targets: ["127.0.0.1:{port}"]
remote_write:
  - name: first
    url: {url}/api/v1/write
    send_native_histograms: true
    queue_config: {{batch_send_deadline: 1s}}
  - name: second
    url: {url}/prometheus/api/v1/write
    protobuf_message: io.prometheus.write.v2.Request
    send_native_histograms: true
    queue_config: {{batch_send_deadline: 1s}}
"""
LINE = re.compile(r'^prometheus_remote_storage_(\w+_total)\{remote_name="(\w+)".*\} (\S+)$')


async def sent(api: PrometheusApi) -> dict[tuple[str, str], float]:
    """The counters of each remote, by remote and name."""
    async with api.session.get(f"{api.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {(m[2], m[1]): float(m[3]) for line in lines if (m := LINE.match(line))}


H = "prometheus_http_request_duration_seconds"
QUESTIONS = (
    H,
    f"{H}[10s]",
    f"sum by (handler) (rate({H}[10s]))",
    f"histogram_quantile(0.9, sum(rate({H}[10s])))",
    f"histogram_count(increase({H}[10s]))",
    f"histogram_avg({H})",
    f"histogram_fraction(0, 0.1, {H})",
    f"avg_over_time({H}[5s])",
    f"{H} * 2 - {H}",
)


async def test_every_sample_and_histogram_is_stored_and_answers_are_equal(
    plain_database_url: str, prometheus_binary: Path, tmp_path: Path
) -> None:
    port = find_free_port()
    with running_promcompat(plain_database_url, tmp_path / "promcompat.log") as service:
        config = CONFIG.format(port=port, url=service.url)
        features = ("native-histograms", "metadata-wal-records")
        with running_prometheus(
            prometheus_binary, tmp_path / "p", config=config, port=port, features=features
        ) as prometheus:
            async with open_session() as session:
                sender = PrometheusApi(session, prometheus.url)
                counts = await sent_histograms(sender)
                for name in ("first", "second"):
                    assert counts[name, "samples_total"] > 0
                    for kind, how in product(("samples", "histograms"), ("failed", "retried")):
                        assert counts[name, f"{kind}_{how}_total"] == 0
                receiver = PrometheusApi(session, service.url)
                found = await receiver.get("metadata", [("metric", "prometheus_build_info")])
                assert found.data["prometheus_build_info"][0]["type"] == "gauge"
                at = max(await newest_sample(sender), await newest_sample(receiver)) - 2
                for question in QUESTIONS:
                    asked = [("query", question), ("time", str(at))]
                    mine, theirs = [await api.get("query", asked) for api in (receiver, sender)]
                    assert_alike(mine.data, theirs.data)
                    assert theirs.data["result"], question


async def sent_histograms(sender: PrometheusApi) -> dict[tuple[str, str], float]:
    """The counters once both remotes were sent histograms of several scrapes."""
    for _ in range(600):
        counts = await sent(sender)
        if all(counts.get((name, "histograms_total"), 0) > 30 for name in ("first", "second")):
            return counts
        await asyncio.sleep(0.1)
    raise AssertionError(f"no histograms were sent: {counts}")


async def newest_sample(api: PrometheusApi) -> float:
    """The time of the newest sample of the histogram."""
    found = await api.get("query", [("query", f"max(timestamp({H}))")])
    return float(found.data["result"][0]["value"][1])


def assert_alike(mine: Any, theirs: Any) -> None:
    """Equal but for the last digits of sums, and the order of series."""
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys()
        for key in theirs:
            assert_alike(mine[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs)
        if theirs and isinstance(theirs[0], dict):
            mine, theirs = (
                sorted(items, key=lambda one: str(one["metric"])) for items in (mine, theirs)
            )
        for one, other in zip(mine, theirs, strict=True):
            assert_alike(one, other)
    elif isinstance(theirs, str) and mine != theirs:
        assert math.isclose(float(mine), float(theirs), rel_tol=1e-12)
    else:
        assert mine == theirs


def _metric_of(item: dict[str, Any]) -> str:
    return str(item["metric"])
