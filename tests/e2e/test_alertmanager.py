"""The whole service beside a real Alertmanager and a webhook: from a POST to both and back."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from conformance.processes import (
    RunningProgram,
    find_free_port,
    running_program,
    running_promcompat,
)
from promcompat.alerting.deliveries import Notification
from promcompat.alerting.senders import AlertmanagerNotifier, HttpSender
from promcompat.core.alerting.alerts import AlertState
from promcompat.core.clock import wall_clock_ms
from promcompat.core.model import Labels
from tests.support.programs.servers import DatabaseServer
from tests.support.services.alerting import make_alert
from tests.support.storage.repositories import connected
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e

CONFIG = """
route: {receiver: none, group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: none}]
"""
WAIT_SECONDS = 120.0
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def alertmanager(
    alertmanager_binary: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProgram]:
    folder = tmp_path_factory.mktemp("alertmanager")
    (folder / "config.yml").write_text(CONFIG)
    port = find_free_port()
    command: list[str | Path] = [
        "/usr/bin/env",
        "-C",
        alertmanager_binary.parents[2],
        alertmanager_binary,
        f"--config.file={folder / 'config.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.route-prefix=/am",
        "--cluster.listen-address=",
    ]
    with running_program(command, port, folder / "log", "/am/-/ready") as program:
        yield program


def call(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as response:
        return json.load(response)


async def test_alerts_reach_an_alertmanager_and_a_webhook(
    alertmanager: RunningProgram, timescaledb_server: DatabaseServer, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        told.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", receive)
    database_url = timescaledb_server.create_database()
    async with TestServer(app) as hook:
        with running_promcompat(
            database_url,
            tmp_path / "log",
            workers="2",
            external_url="http://metrics.example.com",
            alertmanager_urls=f"{alertmanager.url}/am",
            webhook_urls=str(hook.make_url("/hook")),
        ) as service:
            await _fire_and_resolve(service, alertmanager, told)
            await _fire_again(service, alertmanager, told, database_url)


async def _fire_and_resolve(
    service: RunningProgram, alertmanager: RunningProgram, told: list[dict[str, Any]]
) -> None:
    native = f"{service.url}/api/v1/metrics"
    rule = {
        "group": "disks",
        "name": "DiskFull",
        "expr": "disk_used > 90",
        "interval": "1s",
        "severity": "critical",
        "annotations": {"summary": "{{ $labels.host }} at {{ $value }}%"},
    }
    await asyncio.to_thread(call, f"{native}/rules", rule)
    ingest = {"name": "disk_used", "value": 95.5, "labels": {"host": "a"}}
    await asyncio.to_thread(call, f"{native}/ingest", ingest)

    def alerts_there() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = call(f"{alertmanager.url}/am/api/v2/alerts?active=true")
        return found

    (alert,) = await asyncio.to_thread(wait_for, alerts_there)
    assert alert["labels"] == {"alertname": "DiskFull", "host": "a", "severity": "critical"}
    assert alert["annotations"] == {"summary": "a at 95.5%"}
    assert alert["generatorURL"] == (
        "http://metrics.example.com/graph?g0.expr=disk_used+%3E+90&g0.tab=1"
    )
    (active,) = (await asyncio.to_thread(call, f"{service.url}/api/v1/alerts"))["data"]["alerts"]
    assert active["state"] == "firing"
    assert active["value"] == "9.55e+01"
    managers = await asyncio.to_thread(call, f"{service.url}/api/v1/alertmanagers")
    assert managers["data"]["activeAlertmanagers"] == [
        {"url": f"{alertmanager.url}/am/api/v2/alerts"}
    ]
    await asyncio.to_thread(call, f"{native}/ingest", {**ingest, "value": 1})
    await asyncio.to_thread(wait_for, lambda: not alerts_there())
    await asyncio.to_thread(wait_for, lambda: len(told) == 2)
    assert [news["status"] for news in told] == ["firing", "resolved"]
    assert told[0]["alert"]["labels"]["host"] == "a"


async def _fire_again(
    service: RunningProgram,
    alertmanager: RunningProgram,
    told: list[dict[str, Any]],
    database_url: str,
) -> None:
    """The gauge is high again: from then on the alert is active, and never resolved in between."""
    body = {"name": "disk_used", "value": 95.5, "labels": {"host": "a"}}
    await asyncio.to_thread(call, f"{service.url}/api/v1/metrics/ingest", body)

    def active() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = call(f"{alertmanager.url}/am/api/v2/alerts?active=true")
        return found

    (first,) = seen = await asyncio.to_thread(wait_for, active)
    for _ in range(3):
        # Each minute both alerts of the labels were told again; this saves waiting for it.
        async with connected(database_url) as connection:
            await connection.execute(
                "UPDATE promcompat.alertmanager_alert SET told_at = told_at - interval '61 seconds'"
            )
        known, deadline = seen[0]["updatedAt"], time.monotonic() + WAIT_SECONDS
        while seen[0]["updatedAt"] == known:
            assert time.monotonic() < deadline, "not told again"
            await asyncio.sleep(0.05)
            seen = await asyncio.to_thread(active)
            assert [alert["startsAt"] for alert in seen] == [first["startsAt"]]
    await asyncio.to_thread(wait_for, lambda: len(told) == 3)
    assert [news["status"] for news in told] == ["firing", "resolved", "firing"]


async def test_an_alert_of_a_clock_that_was_ahead_ends_when_the_clock_is_right_again(
    alertmanager: RunningProgram,
) -> None:
    """Alertmanager refuses an alert that begins after its end, and shows it until a later end."""
    now_ms = wall_clock_ms()
    sender = HttpSender()
    notifier = AlertmanagerNotifier(
        sender, f"{alertmanager.url}/am", "http://here", has_tenants=False
    )
    labels = Labels.of({"alertname": "Ahead"})
    firing = make_alert(labels, fired_at_ms=now_ms + DAY_MS)
    ended = replace(firing, state=AlertState.RESOLVED, resolved_at_ms=now_ms + DAY_MS)

    def is_active() -> bool:
        found = call(f"{alertmanager.url}/am/api/v2/alerts?active=true")
        return labels.as_dict() in [one["labels"] for one in found]

    try:
        for alert, sent_ms in ((firing, now_ms + DAY_MS), (ended, now_ms)):
            await notifier.send([Notification(key="1", tenant="t", alert=alert)], sent_ms)
            is_firing = alert is firing
            await asyncio.to_thread(wait_for, lambda: is_active() is is_firing)  # noqa: B023
    finally:
        await sender.close()
