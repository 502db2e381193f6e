"""What is published about targets is made in a thread, and metadata only after a change."""

import asyncio
import threading
from collections.abc import Mapping

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from promcompat.scraping import scrape_service
from promcompat.scraping.configuration import JobConfig, TargetGroup
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.pool import ScrapePool
from promcompat.scraping.scrape_service import ScrapeService
from promcompat.scraping.scraper import Scraper, ScraperOptions
from promcompat.scraping.target_documents import (
    MetadataDocument,
    TargetsDocument,
    metadata_document,
)
from promcompat.telemetry.telemetry import Telemetry
from tests.unit.scraping.test_delivery import Sink


class Election:
    """Chooses this process, and keeps what it publishes."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    async def is_chosen(self) -> bool:
        return True

    async def resign(self) -> None:
        pass

    async def publish(self, name: str, document: bytes) -> None:
        self.documents[name] = document

    async def published(self, name: str) -> bytes | None:
        return self.documents.get(name)

    def families(self) -> list[str]:
        return [
            family[0] for family in MetadataDocument.decode(self.documents["metadata"]).families
        ]

    def last_scrape(self) -> str:
        (target,) = TargetsDocument.decode(self.documents["targets"]).active
        return str(target["lastScrape"])


async def test_metadata_is_published_again_after_a_change_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    families, threads = ["a"], []

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="".join(f"# TYPE {name} gauge\n{name} 1\n" for name in families))

    def counted(pools: Mapping[str, ScrapePool]) -> MetadataDocument:
        threads.append(threading.current_thread())
        return metadata_document(pools)

    monkeypatch.setattr(scrape_service, "metadata_document", counted)
    monkeypatch.setattr(scrape_service, "_PUBLISHED_EVERY", 1)
    metrics, election = Telemetry().scrapes, Election()
    async with RawTestServer(answer, host="127.0.0.1") as server:
        group = TargetGroup([{"__address__": f"127.0.0.1:{server.port}"}])
        job = JobConfig(name="j", interval_ms=50, timeout_ms=50, static=[group])
        scraper = Scraper(ScraperOptions(own_jobs=(job,)), Delivery(Sink(), metrics), metrics)
        service = ScrapeService(scraper, election, "http://here:1")
        await publish_until(service, election, "a")
        n_made, seen = len(threads), {election.last_scrape()}
        while len(seen) < 4:
            await service.run_once()
            seen.add(election.last_scrape())
            await asyncio.sleep(0.01)
        assert len(threads) == n_made
        families.append("b")
        await publish_until(service, election, "a", "b")
        await service.close()
    assert threading.main_thread() not in threads


async def publish_until(service: ScrapeService, election: Election, *families: str) -> None:
    async with asyncio.timeout(30):
        await service.run_once()
        while election.families() != list(families):
            await asyncio.sleep(0.01)
            await service.run_once()


@pytest.mark.parametrize("address", ["localhost:99999", "127.0.0.1:x", "[::1"])
async def test_a_target_whose_address_is_impossible_is_told_as_down(address: str) -> None:
    job = JobConfig(
        name="j", interval_ms=50, timeout_ms=50, static=[TargetGroup([{"__address__": address}])]
    )
    metrics = Telemetry().scrapes
    scraper = Scraper(ScraperOptions(own_jobs=(job,)), Delivery(Sink(), metrics), metrics)
    service = ScrapeService(scraper, Election(), "http://here:1")
    try:
        async with asyncio.timeout(30):
            while True:
                await service.run_once()
                (told,) = (await service.targets()).active
                if told["health"] == "down":
                    break
                await asyncio.sleep(0.01)
        assert told["globalUrl"] == told["scrapeUrl"] == f"http://{address}/metrics"
        assert told["lastError"]
    finally:
        await service.close()
