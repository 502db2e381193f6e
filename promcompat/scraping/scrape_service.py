"""Scraping by one of several processes, and its targets as every one of them tells them."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

from promcompat.core.errors import StorageUnavailableError
from promcompat.scraping.pool import ScrapePool
from promcompat.scraping.scraper import Scraper
from promcompat.scraping.target_documents import (
    MetadataDocument,
    TargetsDocument,
    metadata_document,
    metadata_state,
    targets_document,
)
from promcompat.scraping.target_loop import TargetLoop

_LOGGER = logging.getLogger(__name__)
_TARGETS: Final = "targets"
_METADATA: Final = "metadata"
_PUBLISHED_EVERY: Final = 5
"""Runs of `run_once` between two publications."""


class ScrapeElection(Protocol):
    """Chooses the process that scrapes, and keeps what it publishes."""

    async def is_chosen(self) -> bool:
        """Whether this process may scrape until it asks again. Raises StorageUnavailableError."""

    async def resign(self) -> None:
        """Let another process scrape."""

    async def publish(self, name: str, document: bytes) -> None:
        """Keep a document in place of the one with this name. Raises StorageUnavailableError."""

    async def published(self, name: str) -> bytes | None:
        """The document with a name, None without one. Raises StorageUnavailableError."""


class ScrapeService:
    """Scrapes while the election chooses this process."""

    def __init__(self, scraper: Scraper, election: ScrapeElection, external_url: str) -> None:
        self._scraper = scraper
        self._election = election
        self._external_url = external_url
        self._n_runs = 0
        self._published: dict[str, bytes] = {}
        self._metadata_state: list[tuple[TargetLoop, int]] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to scrape."""
        return self._scraper.is_wanted

    @property
    def fault(self) -> str:
        """Why the configuration is not the one in its file; `""` if it is."""
        return self._scraper.fault

    def reload(self) -> None:
        """Read the configuration again at the next run."""
        self._scraper.reload()

    async def run_once(self) -> None:
        """Follow the election and the configuration; called again and again.

        The process that scrapes goes on while the database does not answer, so that nothing is
        missing after an outage. If only this process cannot reach the database, another one is
        chosen, and both scrape until this one reaches it again.
        """
        await self._scraper.refresh()
        try:
            is_chosen = await self._election.is_chosen()
        except StorageUnavailableError:
            return
        if is_chosen and not self._scraper.is_running:
            _LOGGER.info("scraping begins")
            self._scraper.start()
        elif not is_chosen and self._scraper.is_running:
            _LOGGER.warning("another process scrapes")
            await self._scraper.stop()
            self._published.clear()
            self._metadata_state = None
        if is_chosen:
            self._scraper.count_targets()
            await self._publish()

    async def _publish(self) -> None:
        if self._n_runs % _PUBLISHED_EVERY == 0:
            # Documents take a while to make: a thread does it, and metadata seldom changes.
            pools = dict(self._scraper.pools)
            packed = await asyncio.to_thread(_packed_targets, pools, self._external_url)
            await self._publish_changed(_TARGETS, packed)
            state = metadata_state(pools)
            if state != self._metadata_state:
                packed = await asyncio.to_thread(_packed_metadata, pools)
                await self._publish_changed(_METADATA, packed)
                self._metadata_state = state
        self._n_runs += 1

    async def _publish_changed(self, name: str, document: bytes) -> None:
        if self._published.get(name) != document:
            await self._election.publish(name, document)
            self._published[name] = document

    async def close(self) -> None:
        """Stop, and store what was scraped."""
        await self._scraper.close()
        await self._election.resign()

    async def targets(self) -> TargetsDocument:
        """The targets, of whichever process scrapes. Raises StorageUnavailableError."""
        if self._scraper.is_running:
            pools = dict(self._scraper.pools)
            return await asyncio.to_thread(targets_document, pools, self._external_url)
        packed = await self._election.published(_TARGETS) if self.is_wanted else None
        if packed is None:
            return TargetsDocument()
        return await asyncio.to_thread(TargetsDocument.decode, packed)

    async def metadata(self) -> MetadataDocument:
        """What the targets say about their metrics. Raises StorageUnavailableError."""
        if self._scraper.is_running:
            return await asyncio.to_thread(metadata_document, dict(self._scraper.pools))
        packed = await self._election.published(_METADATA) if self.is_wanted else None
        if packed is None:
            return MetadataDocument()
        return await asyncio.to_thread(MetadataDocument.decode, packed)


def _packed_targets(pools: Mapping[str, ScrapePool], external_url: str) -> bytes:
    return targets_document(pools, external_url).encode()


def _packed_metadata(pools: Mapping[str, ScrapePool]) -> bytes:
    return metadata_document(pools).encode()
