"""`promcompat explain` against an application in this process."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from promcompat.__main__ import main
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import NOW_MS, Service, running_service


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    monkeypatch.setenv("NO_PROXY", "*")
    store = InMemoryStore()
    await store.write_batch("team", make_batch({make_labels("up"): [(NOW_MS, 1.0)]}))
    async with running_service(store, tenancy="header") as running:
        yield running


async def run(service: Service, *arguments: str) -> int:
    url = str(service.client.make_url("/"))
    return await asyncio.to_thread(main, ["explain", *arguments, "--url", url])


async def test_an_explanation_is_printed_as_text(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(service, "sum(up)", "--tenant", "team", "--analyze") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("vector at 1 step\n  sum(up)\n\ntree\n  aggregation: sum(up)\n")
    assert 'leaf 0: {__name__="up"}' in shown
    assert "1 series, 1 read in" in shown
    assert "innerEvalTime" in shown


async def test_json_of_a_range(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    times = ("--start", "0", "--end", "2023-11-14T22:13:20Z", "--step", "30d")
    assert await run(service, "up", *times, "--json", "--tenant", "team") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["steps"], data["leaves"][0]["series"]) == (656, 1)


async def test_other_tenant_sees_no_series(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(service, "up", "--tenant", "other", "--json") == 0
    assert json.loads(capsys.readouterr().out)["leaves"][0]["series"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("up(", "--tenant", "team"), 'invalid parameter "query": 1:4: parse error'),
        (("up",), "the service answered 401: no org id"),
    ],
)
async def test_faults_of_the_service(
    service: Service,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    text: str,
) -> None:
    assert await run(service, *arguments) == 1
    assert capsys.readouterr().err.startswith(f"promcompat: {text}")


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("file:///etc/hosts", "--url must start with http:// or https://"),
        ("http://127.0.0.1:1", "cannot reach http://127.0.0.1:1/api/v1/explain"),
    ],
)
def test_no_service(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, url: str, text: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    assert main(["explain", "up", "--url", url]) == 1
    assert capsys.readouterr().err.startswith(f"promcompat: {text}")


def test_no_database(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "up", "--database-url", "mysql://db/metrics"]) == 1
    text = "promcompat: --database-url (PROMCOMPAT_DATABASE_URL): must start with postgresql://\n"
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("no_colours", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
async def test_colours_are_for_terminals_that_have_them(
    service: Service,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_colours: dict[str, str],
) -> None:
    for name, value in {"NO_COLOR": "", "TERM": "xterm", **no_colours}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert await run(service, "sum(up)", "--tenant", "team") == 0
    shown = capsys.readouterr().out
    assert ("\x1b[" in shown, "└── " in shown) == (not no_colours, not no_colours)
