"""Targets are found in files and over HTTP, and a broken list keeps the previous one."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from promcompat.core.errors import BadDataError
from promcompat.scraping.configuration import FileDiscovery, HttpDiscovery
from promcompat.scraping.discovery import Discovery, FileWatch, UrlWatch, read_group_list


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def addresses(discovery: Discovery) -> list[str]:
    return [target["__address__"] for group in discovery.groups for target in group.targets]


async def test_files_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promcompat.scraping.discovery._WATCH_SECONDS", 0.02)
    failures, file = [], tmp_path / "a.json"
    file.write_text('[{"targets": ["a:1"], "labels": {"x": "y"}}]')
    (tmp_path / "b.yml").write_text("- targets: [b:1]")
    patterns = (str(tmp_path / "*.json"), str(tmp_path / "b.yml"))
    watch = FileWatch(FileDiscovery(patterns), lambda: failures.append(1))
    running = asyncio.create_task(watch.run(lambda: None))
    await until(lambda: addresses(watch) == ["a:1", "b:1"])
    assert watch.groups[0].labels == {"x": "y", "__meta_filepath": str(file)}
    file.write_text('[{"target": []}]')
    await until(lambda: bool(failures))
    assert addresses(watch) == ["a:1", "b:1"]
    file.unlink()
    await until(lambda: addresses(watch) == ["b:1"])
    running.cancel()


async def test_a_url_is_asked_again_and_keeps_its_last_list() -> None:
    answers = [
        web.json_response([{"targets": ["a:1"], "labels": {"__meta_x": "1"}}]),
        web.Response(status=500),
        web.Response(text="[]", content_type="text/plain"),
        web.json_response([{"targets": ["b:1"]}]),
    ]
    asked, failures = [], []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        return answers.pop(0) if len(answers) > 1 else web.json_response([{"targets": ["b:1"]}])

    app = web.Application()
    app.router.add_get("/", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("/"))
        watch = UrlWatch(HttpDiscovery(url, refresh_ms=50), lambda: failures.append(1))
        seen: list[list[str]] = []
        running = asyncio.create_task(watch.run(lambda: seen.append(addresses(watch))))
        await until(lambda: len(seen) == 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (seen, len(failures)) == ([["a:1"], ["b:1"]], 2)
    assert asked[0]["X-Prometheus-Refresh-Interval-Seconds"] == "0.05"


@pytest.mark.parametrize(
    "body",
    ["{", "{}", "[null]", "[1]", '[{"targets": "a"}]', '[{"targets": [], "labels": {"a": 1}}]'],
)
def test_lists_of_another_form_are_refused(body: str) -> None:
    with pytest.raises(BadDataError):
        read_group_list(body.encode(), "http://sd/")
    assert read_group_list(json.dumps([]).encode(), "http://sd/") == []
