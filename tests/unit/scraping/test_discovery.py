"""Targets are found in files and over HTTP, and a broken list keeps the previous one."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from promcompat.core.errors import BadDataError
from promcompat.core.relabelling import parse_relabel_rules
from promcompat.scraping.configuration import (
    FileDiscovery,
    HttpConfig,
    HttpDiscovery,
    JobConfig,
    Secret,
    TargetGroup,
)
from promcompat.scraping.discovery import (
    Discovery,
    FileWatch,
    UrlWatch,
    read_group_file,
    read_group_list,
)
from promcompat.scraping.targets import targets_of
from tests.support.waiting import until


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
    await until(lambda: failures)
    assert addresses(watch) == ["a:1", "b:1"]
    file.unlink()
    await until(lambda: addresses(watch) == ["b:1"])
    running.cancel()


async def test_what_was_found_stays_until_all_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promcompat.scraping.discovery._WATCH_SECONDS", 0.01)
    names = [tmp_path / "a.json", tmp_path / "b.json"]
    for name in names:
        name.write_text(f'[{{"targets": ["{name.stem}:1"]}}]')
    watch = FileWatch(FileDiscovery((str(tmp_path / "*.json"),)), lambda: None)
    meanwhile = []

    def read(path: Path) -> Sequence[TargetGroup]:
        meanwhile.append(addresses(watch))
        return read_group_file(path)

    monkeypatch.setattr("promcompat.scraping.discovery.read_group_file", read)
    running = asyncio.create_task(watch.run(lambda: None))
    await until(lambda: addresses(watch) == ["a:1", "b:1"])
    running.cancel()
    assert meanwhile == [[], []]


async def test_an_unexpected_error_does_not_end_a_discovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promcompat.scraping.discovery._WATCH_SECONDS", 0.01)
    (tmp_path / "a.json").write_text('[{"targets": ["a:1"]}]')
    failures: list[int] = []

    def read(path: Path) -> Sequence[TargetGroup]:
        if not failures:
            raise RuntimeError("a fault of ours")
        return read_group_file(path)

    def read_list(_body: bytes, _url: str) -> Sequence[TargetGroup]:
        if len(failures) < 2:
            raise RuntimeError("a fault of ours")
        return [TargetGroup([{"__address__": "a:1"}])]

    monkeypatch.setattr("promcompat.scraping.discovery.read_group_file", read)
    monkeypatch.setattr("promcompat.scraping.discovery.read_group_list", read_list)
    files = FileWatch(FileDiscovery((str(tmp_path / "a.json"),)), lambda: failures.append(1))
    await follow_until_found(files)
    app = web.Application()
    app.router.add_get("/", list_answer)
    async with TestServer(app) as server:
        config = HttpDiscovery(str(server.make_url("/")), refresh_ms=200)
        await follow_until_found(UrlWatch(config, lambda: failures.append(1)))
    assert len(failures) == 2


async def list_answer(_request: web.Request) -> web.Response:
    return web.json_response([])


async def follow_until_found(discovery: Discovery) -> None:
    running = asyncio.create_task(discovery.run(lambda: None))
    await until(lambda: addresses(discovery) == ["a:1"])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_password_of_a_url_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    url = "http://user:hidden-word@127.0.0.1:1/list?token=hidden-too"
    watch = UrlWatch(HttpDiscovery(url, refresh_ms=50), lambda: None)
    running = asyncio.create_task(watch.run(lambda: None))
    await until(lambda: caplog.records)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    fields = vars(caplog.records[0])
    assert fields["url"] == "http://127.0.0.1:1/list"
    assert "connection refused" in fields["reason"]
    assert "hidden-" not in str(fields)
    assert "hidden-" not in repr(HttpDiscovery(url, HttpConfig(password=Secret(text="hidden-"))))


def test_relabelling_has_the_url_that_users_see_without_its_password() -> None:
    url = "http://user:hidden-word@sd/list?env=prod"
    (group,) = read_group_list(b'[{"targets": ["a:1", "b/"]}]', url)
    rules = parse_relabel_rules(
        "[{source_labels: [__meta_url], regex: '.*env=(.*)', target_label: env}]"
    )
    found = targets_of(JobConfig(name="j", relabel_rules=rules), [group])
    assert found.active[0].labels.get("env") == "prod"
    assert found.active[0].discovered.get("__meta_url") == "http://sd/list"
    assert "hidden-word" not in found.faults[0]


async def test_a_url_is_asked_again_and_keeps_its_last_list() -> None:
    answers = [
        web.json_response([{"targets": ["a:1"], "labels": {"__meta_x": "1"}}]),
        web.Response(status=500),
        web.Response(text="[]", content_type="text/plain"),
        web.Response(
            body='[{"targets": ["b:1"]}]',
            headers={"Content-Type": 'Application/JSON; charset="utf-8"'},
        ),
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
    [
        '[{"labels": {"": "x"}}]',
        "{",
        "{}",
        "[null]",
        "[1]",
        '[{"targets": "a"}]',
        '[{"targets": [], "labels": {"a": 1}}]',
    ],
)
def test_lists_of_another_form_are_refused(body: str) -> None:
    with pytest.raises(BadDataError):
        read_group_list(body.encode(), "http://sd/")
    assert read_group_list(json.dumps([]).encode(), "http://sd/") == []


def test_json_in_files_is_json_and_bad_addresses_leave_the_others(tmp_path: Path) -> None:
    file = tmp_path / "a.JSON"
    file.write_text('[{"targets": ["a:1", "b/"], "labels": {"x": "\\ud83d\\ude00\\/"}}]')
    (group,) = read_group_file(file)
    assert group.labels == {"x": "\U0001f600/", "__meta_filepath": str(file)}
    found = targets_of(JobConfig(name="j"), [group])
    assert [target.url for target in found.active] == ["http://a:1/metrics"]
    assert "'b/' is not a valid hostname" in found.faults[0]
    yaml = file.rename(tmp_path / "a.yml")
    yaml.write_text("- targets: ['a:1', 'b/']")
    assert len(targets_of(JobConfig(name="j"), read_group_file(yaml)).active) == 1


async def test_a_file_of_json_that_is_just_being_written_keeps_its_targets(tmp_path: Path) -> None:
    """It is empty for a moment, which is no list without targets."""
    file = tmp_path / "a.json"
    file.write_text('[{"targets": ["a:1"]}]')
    failures: list[int] = []
    watch = FileWatch(FileDiscovery((str(file),)), lambda: failures.append(1))
    running = asyncio.create_task(watch.run(lambda: None))
    await until(lambda: addresses(watch) == ["a:1"])
    file.write_text("")
    await until(lambda: failures)
    assert addresses(watch) == ["a:1"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
