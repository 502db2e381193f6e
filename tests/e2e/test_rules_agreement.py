"""The same rules over the same samples in a real Prometheus: rules and alerts shown alike."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from conformance.processes import find_free_port, running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from tests.e2e.test_alertmanager import call
from tests.support.factories import make_labels
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

RULES: list[dict[str, Any]] = [
    {
        "alert": "High",
        "expr": "m   > 5",
        "labels": {"severity": "page", "where": "{{ $labels.host }}"},
        "annotations": {"summary": "{{ $labels.host }} has {{ $value | humanize }}"},
    },
    {"alert": "Waiting", "expr": "m > 5", "for": "1h", "keep_firing_for": "5m"},
    {"alert": "Quiet", "expr": "absent(m)"},
    {
        "alert": "High",
        "expr": "m > 5",
        "labels": {
            "severity": "warn",
            "alertname": "Other",
            "host": "",
            "gone": "{{ $labels.no }}",
        },
        "annotations": {"labels": "{{ .Labels }} {{ $externalLabels }}", "a note": "x", "none": ""},
    },
    {
        "alert": 'Odd {name} of "rules"\n',
        "expr": "vector(1)",
        "labels": {"mün.chen": "{{ $value }}", "with space": "v", "__dunder": "w"},
        "annotations": {f"n{number}": "{{ printf `%c` 55296 }}" for number in range(120)},
    },
    {"alert": "Twice", "expr": "m", "labels": {"id": "x"}},
]
VARYING = ("evaluationTime", "lastEvaluation", "activeAt", "file")
WAIT_SECONDS = 120.0


def settled(document: Any) -> Any:
    """An answer without times and with alerts in an order."""
    if isinstance(document, dict):
        kept = {name: settled(part) for name, part in document.items() if name not in VARYING}
        alerts = kept.get("alerts")
        if isinstance(alerts, list):
            kept["alerts"] = sorted(alerts, key=str)
        return kept
    return [settled(part) for part in document] if isinstance(document, list) else document


async def until_settled(url: str) -> tuple[Any, Any]:
    """Rules and alerts once every rule was evaluated with the samples."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        rules = (await asyncio.to_thread(call, f"{url}/api/v1/rules"))["data"]
        alerts = (await asyncio.to_thread(call, f"{url}/api/v1/alerts"))["data"]
        members = [rule for group in rules["groups"] for rule in group["rules"]]
        is_done = members and members[-1].get("lastError") and len(alerts["alerts"]) == 7
        if is_done and len(members[1]["alerts"]) == 2:
            return settled(rules), settled(alerts)
        assert time.monotonic() < deadline, (rules, alerts)
        await asyncio.sleep(0.2)


async def test_rules_and_alerts_are_shown_as_prometheus_shows_them(
    timescaledb_server: DatabaseServer, prometheus_binary: Path, tmp_path: Path
) -> None:
    group = {"name": "g", "interval": "1s", "rules": RULES}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}), encoding="utf-8")
    config = f"rule_files: ['{tmp_path / 'rules.yml'}']\n"
    database_url = timescaledb_server.create_database()
    with (
        running_prometheus(
            prometheus_binary, tmp_path / "prometheus", config=config, port=find_free_port()
        ) as prometheus,
        running_promcompat(database_url, tmp_path / "log") as service,
    ):
        now_ms = time.time_ns() // 1_000_000
        series = {
            make_labels("m", host="a", id=str(n)): [(now_ms, value)]
            for n, value in enumerate((6.0, 123456.0, 1.0))
        }
        async with open_session() as session:
            for url in (service.url, prometheus.url):
                await PrometheusApi(session, url).write(series)
        for rule in RULES:
            body = {"group": "g", "name": rule["alert"], "interval": "1s"}
            body |= {name: rule[name] for name in rule if name != "alert"}
            await asyncio.to_thread(call, f"{service.url}/api/v1/metrics/rules", body)
        ours, theirs = await asyncio.gather(
            until_settled(service.url), until_settled(prometheus.url)
        )
    assert ours == theirs
