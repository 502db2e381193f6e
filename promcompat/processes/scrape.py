"""`promcompat scrape`: scrapes by a Prometheus configuration, and sends to a running service."""

import argparse
import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

import uvloop

from promcompat.processes.termination import Termination
from promcompat.scraping.delivery import Delivery
from promcompat.scraping.scraper import Scraper, ScraperOptions
from promcompat.scraping.sinks import RemoteWriteSink
from promcompat.telemetry.telemetry import Telemetry

_LOGGER = logging.getLogger(__name__)
_PAUSE_SECONDS: Final = 1.0


def run_scrape(options: argparse.Namespace) -> int:
    """Scrape until Ctrl-C or SIGTERM; the exit code.

    Raises BadDataError for a configuration that cannot be used.
    """
    return uvloop.run(_scrape(options))


async def _scrape(options: argparse.Namespace) -> int:
    termination, counters = Termination(), Telemetry().scrapes
    async with RemoteWriteSink(options.remote_write, options.tenant, counters) as sink:
        scraper = Scraper(
            ScraperOptions(config_file=Path(options.config), adds_external_labels=True),
            Delivery(sink, counters),
            counters,
        )
        await asyncio.to_thread(scraper.load)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, scraper.reload)
        scraper.start()
        _LOGGER.info("scraping begins", extra={"jobs": len(scraper.pools)})
        try:
            await _follow(scraper, termination)
        finally:
            await scraper.close()
    return termination.exit_code


async def _follow(scraper: Scraper, termination: Termination) -> None:
    """Follow changes of the configuration until the process is to end."""
    ending = asyncio.create_task(termination.wait())
    while not ending.done():
        await scraper.refresh()
        await asyncio.wait({ending}, timeout=_PAUSE_SECONDS)
