"""One serving process from start to clean end, alone or as one of several."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from native_api.routes import install_native_api
from promcompat.api.routes import build_application
from promcompat.composition.listeners import open_listeners
from promcompat.composition.network import ServiceAddress, tls_files
from promcompat.composition.services import open_backend
from promcompat.configuration.settings import Settings
from promcompat.database import Patience, migrate_when_answering, try_until_answered
from promcompat.http.context import Phase, ServiceState
from promcompat.http.listening import base_url, default_external_url
from promcompat.http.server import HttpServer
from promcompat.http.tls import ServerTls
from promcompat.loops import certificate_loops, every_loop, listener_loops, running
from promcompat.processes.memory_allocator import FreedMemory, keep_freed_memory, use_huge_pages
from promcompat.processes.open_files import allowed_connections
from promcompat.processes.serving.supervise import WorkerLink, new_own_secret
from promcompat.processes.serving.watched_database import watched_database
from promcompat.processes.termination import Termination
from promcompat.services import Services
from promcompat.telemetry.telemetry import Telemetry
from promql.parsing.parser import parse_expr

_LOGGER = logging.getLogger(__name__)
_SWITCH_SECONDS = 0.0001
"""How long a thread that evaluates may keep the interpreter while a write waits for it.

A write takes it about ten times, in several threads. Evaluations are not slower by it.
"""

_SETTLED_SECONDS = 10.0
"""The first requests have allocated what they need by then. `use_huge_pages` takes 0.3 s."""

_SHARE_OF_QUERIES = 1 / 6
"""Queries have this part of the time that requests have when the service stops."""


async def serve(
    settings: Settings,
    bound: socket.socket,
    announce: Callable[[str], None],
    link: WorkerLink | None = None,
) -> int:
    """Serve until asked to end, and return the exit code of the process.

    Raises PromcompatError when the service cannot start, after undoing what had been started.

    `announce` is called with a description of the database once requests are served. Requests are
    answered 503 until the database is there, unless the process is a worker, which has a `link` to
    its parent. A worker shares its port and must not listen early: the kernel spreads connections
    over all listeners, and a client that saw one worker ready would meet one that is not.
    """
    keep_freed_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    termination, state = Termination(), ServiceState()
    telemetry = Telemetry(None if link is None else link.number)
    files = tls_files(settings)
    tls = None if files is None else ServerTls(files, telemetry.tls)
    server = _build_server(settings, bound, state, telemetry, tls)
    reload_on_hangup(settings, state)
    opened = AsyncExitStack()
    if link is None:
        await server.start()
    else:
        link.follow(termination)
        opened.callback(asyncio.create_task(link.keep_reporting(), name="reports").cancel)
    opening = _open_services(
        settings,
        bound,
        state,
        telemetry,
        termination,
        own_secret=new_own_secret() if link is None else link.own_secret,
        is_worker=bool(link),
    )
    try:
        # Begins before the database answers: it may be away for longer than a certificate is good.
        watching = running([*certificate_loops(tls)], telemetry.loops)
        await opened.enter_async_context(watching)
        services = await termination.unless_asked(opened.enter_async_context(opening))
        if services is not None:
            state.open(services)
            if link is not None:
                await server.start()
            _relax_garbage_collection()
            announce(services.database)
            await termination.unless_asked(_settle_memory())
            await termination.wait()
    finally:
        state.phase = Phase.STOPPING
        ending = asyncio.create_task(_end_queries(state, settings), name="end of queries")
        await server.stop()
        ending.cancel()
        await opened.aclose()
    _LOGGER.info("stopped")
    return termination.exit_code


async def _end_queries(state: ServiceState, settings: Settings) -> None:
    """Give queries a part of the time that other requests have: they can be asked again."""
    await asyncio.sleep(settings.shutdown_timeout / 1000 * _SHARE_OF_QUERIES)
    if state.services is not None:
        state.services.queries.log.stop()


def reload_on_hangup(settings: Settings, state: ServiceState) -> None:
    """SIGHUP reads the scrape configuration again, as in Prometheus.

    Without such a file it keeps its default action, and ends the process.
    """
    if settings.scrape_config is None:
        return

    def reload() -> None:
        if state.services is not None:
            state.services.scraping.reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


def _build_server(
    settings: Settings,
    bound: socket.socket,
    state: ServiceState,
    telemetry: Telemetry,
    tls: ServerTls | None,
) -> HttpServer:
    app = build_application(settings, state, telemetry)
    install_native_api(app)
    return HttpServer(
        app,
        bound,
        settings.shutdown_timeout / 1000,
        max_connections=allowed_connections(settings.max_connections),
        read_seconds=settings.read_timeout / 1000,
        tls=tls,
    )


@asynccontextmanager
async def _open_services(
    settings: Settings,
    bound: socket.socket,
    state: ServiceState,
    telemetry: Telemetry,
    termination: Termination,
    *,
    own_secret: str,
    is_worker: bool,
) -> AsyncIterator[Services]:
    """The services, with the loops and the database they need, for the time of a block.

    The parent of a worker has started and migrated the database. Raises PromcompatError when the
    services can never be opened.
    """
    patience, freed = Patience(tell=state.wait_for), FreedMemory()
    is_tls = settings.uses_tls
    address = ServiceAddress(
        external_url=settings.external_url or default_external_url(bound, is_tls=is_tls),
        own_url=base_url(bound, is_tls=is_tls),
        own_secret=own_secret,
    )
    async with AsyncExitStack() as opened:
        if not is_worker:
            await opened.enter_async_context(watched_database(settings, termination))
            await migrate_when_answering(settings, patience)
        opening = partial(open_backend, settings, telemetry, address, freed.large_query_ended)
        backend = await try_until_answered(lambda: opened.enter_async_context(opening()), patience)
        loops = every_loop(settings, telemetry, backend, freed.give_back)
        listeners = await opened.enter_async_context(
            open_listeners(settings, backend.services, telemetry, is_worker=is_worker)
        )
        loops += listener_loops(settings, listeners)
        await opened.enter_async_context(running(loops, telemetry.loops))
        # The first parse builds the tables of the grammar, 0.1 s that no write has to wait for.
        await asyncio.to_thread(parse_expr, "0")
        yield backend.services


async def _settle_memory() -> None:
    """Put what the service has in memory into huge pages, once it has been used."""
    await asyncio.sleep(_SETTLED_SECONDS)
    await asyncio.to_thread(use_huge_pages)


def _relax_garbage_collection() -> None:
    """Look for cycles less often: requests make hundreds of thousands of objects and no cycle.

    With Python's own thresholds a native batch of 10,000 samples took 75 ms to read, of which 30 ms
    was looking in vain through what modules, caches and the batch itself had allocated. A look
    through 50,000 new objects stops the process for 5 to 10 ms, one through 10,000 for 1 to 2.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 100, 100)
