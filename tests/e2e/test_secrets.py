"""Secrets planted in every setting that may hold one: no answer, log line or message shows them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from conformance.processes import RunningProgram, find_free_port, running_promcompat
from promcompat.__main__ import main
from promcompat.configuration.settings import Settings
from tests.support.programs.servers import DatabaseServer
from tests.support.waiting import wait_for_text

pytestmark = pytest.mark.e2e

PASSWORD, TOKEN = "pw-5f1c9e7a", "tok-83b2d6f0"
PATHS = (
    *(f"/api/v1/status/{name}" for name in ("config", "flags", "runtimeinfo", "buildinfo", "tsdb")),
    "/api/v1/alertmanagers",
    "/api/v1/alerts",
    "/api/v1/rules",
    "/api/v1/explain?query=up",
    "/api/v1/metrics/alerts",
    "/api/v1/metrics/openapi.json",
    "/metrics",
    "/-/ready",
)


def call(url: str, body: bytes | None = None) -> str:
    """The body of an answer of any status."""
    request = Request(url, data=body, headers={"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=10) as response:
            return str(response.read().decode())
    except HTTPError as exc:
        with exc:
            return exc.read().decode()


@asynccontextmanager
async def echoing_receiver() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """Receivers that refuse, and repeat in their answers what they were asked with.

    The event tells that the Alertmanager and the webhook were asked.
    """
    asked: set[str] = set()
    both_asked = asyncio.Event()

    async def refuse(request: web.Request) -> web.Response:
        asked.add(request.path.split("/")[1])
        if asked >= {"am", "services"}:
            both_asked.set()
        shown = [request.headers.get(name) for name in ("X-Api-Key", "Authorization")]
        text = f"Cannot POST {request.rel_url} {shown}"
        return web.Response(status=500, text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), both_asked


def settings_with_secrets(server: DatabaseServer, receiver: str, folder: Path) -> dict[str, str]:
    """Every setting that may hold a secret, with one in each place of it."""
    database_url = server.create_database()
    owner = database_url.partition("://")[2].partition(":")[0]
    server.run_sql(f"CREATE ROLE planted LOGIN PASSWORD '{PASSWORD}' IN ROLE {owner}")
    host = database_url.rpartition("@")[2]
    address = receiver.removeprefix("http://")
    planted = f"postgresql://planted:{PASSWORD}@{host}?options=-c%20a.b%3D{TOKEN}"
    (folder / "secret").write_text(TOKEN)
    secret = {"file": str(folder / "secret"), "hosts": ["127.0.0.1", "hooks.invalid"]}
    return {
        "database_url": planted,
        "migration_database_url": planted,
        "secrets": json.dumps({"planted": secret}),
        "webhook_headers": "X-Api-Key=planted",
        "alertmanager_headers": "X-Api-Key=planted",
        "alertmanager_urls": f"http://ann:{PASSWORD}@{address}/am?key={TOKEN}",
        "webhook_urls": f"http://{TOKEN}@{address}/services/{TOKEN}?sig={PASSWORD},"
        f"http://hooks.invalid/{TOKEN}",
        "temporal_api_key": TOKEN,
        "remediation_commands": f'{{"restart": ["curl", "-H", "token: {TOKEN}"]}}',
    }


async def test_nothing_shows_a_secret(
    plain_postgres_server: DatabaseServer, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    async with echoing_receiver() as (receiver, both_asked):
        settings = settings_with_secrets(plain_postgres_server, receiver, tmp_path)
        database_url = settings.pop("database_url")
        chosen: dict[str, Any] = {"log_level": "debug", **settings}
        with running_promcompat(database_url, log, **chosen) as service:
            answers = await asyncio.to_thread(answers_of, service)
            async with asyncio.timeout(60):
                await both_asked.wait()
            await asyncio.to_thread(wait_for_text, log, "alerts could not be sent")
            answers.append(await asyncio.to_thread(call, f"{service.url}/api/v1/metrics/alerts"))
            service.kill()
        answers.append(log.read_text())
    for text in answers:
        assert PASSWORD not in text
        assert TOKEN not in text


def answers_of(service: RunningProgram) -> list[str]:
    """What the service says of itself, while an alert fires."""
    rule = b'{"name": "Always", "expr": "vector(1)", "interval": "1s"}'
    call(f"{service.url}/api/v1/metrics/rules", rule)
    return [call(service.url + path) for path in PATHS]


_CLOSED = f"127.0.0.1:{find_free_port()}"


@pytest.mark.parametrize(
    "arguments",
    [
        ("migrate", "--database-url", f"postgresql://u:{PASSWORD}/{TOKEN}@{_CLOSED}/x"),
        ("migrate", "--database-url", f"mysql://u:{PASSWORD}@h/{TOKEN}"),
        ("migrate", "--remediation-commands", f'{{"restart": ["{TOKEN}"]}}}}'),
        ("serve", "--external-url", f"http://u:{PASSWORD}@h/?k={TOKEN}"),
        ("serve", "--webhook-urls", f"hooks.example/{TOKEN}"),
        ("explain", "up", "--url", f"http://u:{PASSWORD}@{_CLOSED}?k={TOKEN}"),
        ("explain", "up", "--url", f"ftp://u:{PASSWORD}@h/{TOKEN}"),
        ("explain", "up", "--database-url", f"postgresql://u:{PASSWORD}@{_CLOSED}/x?k={TOKEN}"),
    ],
)
def test_messages_of_commands_show_no_secret(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) != 0
    printed = "".join(capsys.readouterr())
    assert printed
    assert PASSWORD not in printed
    assert TOKEN not in printed


def test_every_setting_that_may_hold_a_secret_is_planted() -> None:
    secret = {name for name, field in Settings.model_fields.items() if "Secret" in str(field)}
    planted = {"database_url", "migration_database_url", "webhook_urls", "temporal_api_key"}
    assert secret == {*planted, "secrets"}
