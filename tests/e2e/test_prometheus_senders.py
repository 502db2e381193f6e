"""A real Prometheus with native histograms writes to us, by both versions of remote write."""

import asyncio
import re
from itertools import product
from pathlib import Path

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


async def test_no_sample_and_no_histogram_is_counted_as_failed(
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
                stored = await receiver.get("query", [("query", "prometheus_build_info")])
                assert len(stored.data["result"]) == 1


async def sent_histograms(sender: PrometheusApi) -> dict[tuple[str, str], float]:
    """The counters once both remotes were sent histograms of several scrapes."""
    for _ in range(600):
        counts = await sent(sender)
        if all(counts.get((name, "histograms_total"), 0) > 30 for name in ("first", "second")):
            return counts
        await asyncio.sleep(0.1)
    raise AssertionError(f"no histograms were sent: {counts}")
