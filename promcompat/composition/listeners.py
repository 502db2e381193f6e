"""The listeners of the settings, while a serving process runs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from promcompat.configuration.settings import Settings
from promcompat.configuration.types import split_listen_address
from promcompat.core.model import WriteBatch
from promcompat.http.context import DEFAULT_TENANT
from promcompat.imports.columns import Faults
from promcompat.imports.statsd_aggregation import StatsdAggregator
from promcompat.imports.storing import ImportStore, MakeBatch
from promcompat.listeners.line_sockets import ListenerError, TakeLines, listening_for_lines
from promcompat.listeners.receivers import Flusher, GraphiteReceiver, StatsdReceiver
from promcompat.services import Services
from promcompat.telemetry.telemetry import Telemetry

_LOGGER = logging.getLogger(__name__)
_STATSD_MAX_SERIES: Final = 200_000
_STATSD_EXPIRY_MS: Final = 3_600_000
"""A counter that begins anew after an hour is a reset, which `rate` understands."""
_LAST_FLUSH_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Listeners:
    """What receives lines; None where the settings have no address."""

    graphite: GraphiteReceiver | None
    statsd: StatsdReceiver | None


@asynccontextmanager
async def open_listeners(
    settings: Settings, services: Services, telemetry: Telemetry, *, is_worker: bool
) -> AsyncIterator[Listeners]:
    """Listen during the block; at its end what was received is stored.

    Of several workers the first one listens. Raises ListenerError when the address of a service
    with one process cannot be used.
    """
    store = ImportStore(
        services.metrics,
        telemetry.imports,
        _in_thread,
        services.limits.rates,
        outlasts_outages=True,
    )
    now_ms = services.metrics.now_ms
    graphite = statsd = None
    async with AsyncExitStack() as opened:
        if settings.graphite_listen:
            graphite = GraphiteReceiver(Flusher(store, DEFAULT_TENANT, "graphite"), now_ms)
            opened.push_async_callback(_flush_last, graphite)
            await _listen(opened, settings.graphite_listen, graphite.take, is_worker)
        if settings.statsd_listen:
            aggregator = StatsdAggregator(_STATSD_MAX_SERIES, _STATSD_EXPIRY_MS)
            statsd = StatsdReceiver(Flusher(store, DEFAULT_TENANT, "statsd"), aggregator, now_ms)
            opened.push_async_callback(_flush_last, statsd)
            await _listen(opened, settings.statsd_listen, statsd.take, is_worker)
        yield Listeners(graphite, statsd)


async def _flush_last(receiver: GraphiteReceiver | StatsdReceiver) -> None:
    try:
        async with asyncio.timeout(_LAST_FLUSH_SECONDS):
            await receiver.flush()
    except TimeoutError:
        _LOGGER.warning(
            "samples of a listener were lost",
            extra={"reason": "the database did not answer before the process ended"},
        )


async def _in_thread(_n_bytes: int, make: MakeBatch) -> tuple[WriteBatch, Faults]:
    return await asyncio.to_thread(make)


async def _listen(opened: AsyncExitStack, address: str, take: TakeLines, is_worker: bool) -> None:
    host, port = split_listen_address(address)
    try:
        await opened.enter_async_context(listening_for_lines(host, port, take))
    except ListenerError as exc:
        if not is_worker:
            raise
        _LOGGER.info("another worker listens for lines", extra={"reason": str(exc)})
