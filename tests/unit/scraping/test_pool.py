"""A job follows its discoveries, whatever happens meanwhile."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.scraping import discovery, pool, scraper
from promcompat.scraping.configuration import FileDiscovery, JobConfig, TargetGroup
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.pool import ScrapePool
from promcompat.scraping.scraper import LiveKeys, Scraper, ScraperOptions
from promcompat.scraping.target_loop import LoopSurroundings
from promcompat.scraping.targets import DiscoveredTargets, targets_of
from promcompat.telemetry.telemetry import Telemetry
from tests.support.waiting import until
from tests.unit.scraping.test_delivery import Sink


class Loop:
    """Has the keys of some series."""

    def __init__(self, *keys: bytes) -> None:
        self.series, self.tracked_keys = self, keys


async def no_keys() -> set[bytes]:
    return set()


async def test_a_job_goes_on_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_WATCH_SECONDS", 0.01)
    monkeypatch.setattr(pool, "_SYNC_SECONDS", 0.01)
    monkeypatch.setattr(pool, "_RETRY_SECONDS", 0.01)
    failures = [RuntimeError("dictionary changed size during iteration")]

    def failing(job: JobConfig, groups: list[TargetGroup]) -> DiscoveredTargets:
        if groups and failures:
            raise failures.pop()
        return targets_of(job, groups)

    monkeypatch.setattr(pool, "targets_of", failing)
    file = tmp_path / "a.json"
    job = JobConfig(name="j", files=[FileDiscovery((str(file),))])
    around = LoopSurroundings(lambda _batch: None, Telemetry().scrapes, no_keys)
    running = ScrapePool(job, around)
    file.write_text('[{"targets": ["127.0.0.1:1"]}]')
    await until(lambda: len(running.loops) == 1)
    await running.stop()
    assert not failures


async def test_a_changed_job_keeps_what_was_discovered_while_the_server_of_targets_is_away(
    tmp_path: Path,
) -> None:
    is_away = False

    async def answer(_: web.BaseRequest) -> web.Response:
        if is_away:
            return web.Response(status=503)
        return web.json_response([{"targets": ["127.0.0.1:1"]}])

    def write_config(timeout: str, url: str) -> None:
        (tmp_path / "p.yml").write_text(
            "scrape_configs:\n  - job_name: j\n    scrape_interval: 1h\n"
            f"    scrape_timeout: {timeout}\n    http_sd_configs: [{{url: '{url}'}}]\n"
        )

    def timeouts() -> list[int]:
        return [loop.target.timeout_ms for one in running.pools.values() for loop in one.loops]

    metrics = Telemetry().scrapes
    async with RawTestServer(answer) as server:
        url = str(server.make_url("/targets"))
        write_config("5s", url)
        options = ScraperOptions(config_file=tmp_path / "p.yml")
        running = Scraper(options, Delivery(Sink(), metrics), metrics)
        running.load()
        running.start()
        await until(lambda: timeouts() == [5_000])
        is_away = True
        write_config("10s", url)
        await running.refresh()
        await until(lambda: timeouts() == [10_000])
        write_config("10s", f"{url}/others")
        await running.refresh()
        assert timeouts() == []
        await running.close()


async def test_many_discovered_targets_are_relabelled_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "_WATCH_SECONDS", 0.01)
    threads: set[int] = set()

    def noted(job: JobConfig, groups: list[TargetGroup]) -> DiscoveredTargets:
        if groups:
            threads.add(threading.get_ident())
        return targets_of(job, groups)

    monkeypatch.setattr(pool, "targets_of", noted)
    file = tmp_path / "a.json"
    file.write_text(json.dumps([{"targets": [f"127.0.0.1:{port}" for port in range(1, 31)]}]))
    job = JobConfig(name="j", files=[FileDiscovery((str(file),))])
    around = LoopSurroundings(lambda _batch: None, Telemetry().scrapes, no_keys)
    running = ScrapePool(job, around)
    await until(lambda: len(running.loops) == 30)
    await running.stop()
    assert threads
    assert threading.get_ident() not in threads


async def test_the_keys_are_collected_once_for_targets_that_end_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scraper, "_KEYS_KEPT_SECONDS", 0.0)
    collected: list[Any] = []

    def loops() -> Any:
        collected.append([Loop(b"a", b"b"), Loop(b"c")] if not collected else [Loop(b"d")])
        return collected[-1]

    keys = LiveKeys(loops)
    assert await keys.get() == {b"a", b"b", b"c"}
    await until(lambda: keys._collecting is None)
    monkeypatch.setattr(scraper, "_KEYS_KEPT_SECONDS", 30.0)
    assert [await keys.get() for _ in range(3)] == [{b"d"}] * 3
    assert len(collected) == 2
