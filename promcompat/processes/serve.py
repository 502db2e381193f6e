"""One serving process from start to clean end."""

import asyncio
import gc
import logging
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from native_api.routes import install_native_api
from promcompat.alert_composition import Alerting, alerting_loops, open_alerting
from promcompat.api.routes import build_application
from promcompat.composition import (
    Patience,
    Remediations,
    build_metric_service,
    build_remediations,
    build_services,
    migrate_when_answering,
    open_repository,
    publish_remediation_stats,
    publish_storage_stats,
    start_database,
    storage_publisher,
)
from promcompat.core.errors import PromcompatError
from promcompat.http.context import Phase, ServiceState
from promcompat.http.server import HttpServer, default_external_url
from promcompat.loops import PeriodicLoop, start_loops
from promcompat.processes.maintain import Maintenance
from promcompat.processes.memory_allocator import FreedMemory, keep_freed_memory
from promcompat.processes.termination import Termination
from promcompat.querying.metric_service import MetricService
from promcompat.settings import Settings
from promcompat.telemetry import Telemetry
from promql.parsing.parser import parse_expr
from sql.embedded.database import EmbeddedDatabase
from sql.samples.metric_repository import PostgresMetricRepository

_LOGGER = logging.getLogger(__name__)
_SWITCH_SECONDS = 0.0005
"""How long a thread that evaluates may keep the interpreter while a write waits for it."""
_WATCH_SECONDS = 0.5
_GIVE_BACK_SECONDS = 5.0
_HEARTBEAT_SECONDS = 5.0


class Backend:
    """Everything behind the HTTP application: the database, the repository, their upkeep."""

    def __init__(
        self, settings: Settings, telemetry: Telemetry, *, migrates: bool, external_url: str
    ) -> None:
        """`migrates`: whether this process brings the schema up to date (only one may)."""
        self._settings = settings
        self._external_url = external_url
        self._telemetry = telemetry
        self._migrates = migrates
        self._database: asyncio.Future[EmbeddedDatabase | None] | None = None
        self._repository: PostgresMetricRepository | None = None
        self._alerting: Alerting | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, state: ServiceState, termination: Termination) -> None:
        """Open the service in `state`.

        Raises PromcompatError when that can never succeed.
        """
        loop = asyncio.get_running_loop()
        self._database = loop.run_in_executor(None, start_database, self._settings)
        # Shielded: a start that has begun is ended by `close`, never left half done.
        database = await asyncio.shield(self._database)
        url = self._url(database)
        patience = Patience(tell=state.wait_for)
        if self._migrates:
            await migrate_when_answering(self._settings, url, patience)
        # Of several workers none looks by itself: their parent did.
        repository = await open_repository(self._settings, url, patience, is_checked=True)
        self._repository = repository
        self._tasks.append(asyncio.create_task(publish_storage_stats(self._telemetry, repository)))
        remediations = build_remediations(self._settings, repository)
        publishing = publish_remediation_stats(self._telemetry, remediations)
        self._tasks.append(asyncio.create_task(publishing))
        if database is not None:
            self._tasks.append(asyncio.create_task(_watch(database, termination)))
        freed = FreedMemory()
        service = build_metric_service(self._settings, repository, freed.large_query_ended)
        giving_back = PeriodicLoop("free memory", _GIVE_BACK_SECONDS, freed.give_back)
        maintenance = Maintenance(self._settings, repository, self._telemetry)
        heartbeat = PeriodicLoop(
            "heartbeat", _HEARTBEAT_SECONDS, repository.database.heartbeat.beat
        )
        loops = [maintenance.loop(), giving_back, heartbeat]
        self._tasks += start_loops(loops, self._telemetry.loops)
        alerting = await self._open_alerting(url, service, repository, remediations)
        # The first text makes the tables of the grammar, 0.1 s that no write has to wait for.
        await asyncio.to_thread(parse_expr, "0")
        state.open(build_services(self._settings, repository, service, remediations, alerting))

    async def _open_alerting(
        self,
        url: str,
        service: MetricService,
        repository: PostgresMetricRepository,
        remediations: Remediations,
    ) -> Alerting:
        alerting = await open_alerting(
            self._settings,
            url,
            repository,
            service,
            remediations.launcher,
            remediations.check,
            self._external_url,
        )
        self._alerting = alerting
        loops = alerting_loops(self._settings, alerting, self._telemetry)
        self._tasks += start_loops(loops, self._telemetry.loops)
        return alerting

    async def close(self) -> None:
        """Answer waiting writes, disconnect, and stop our own database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._alerting is not None:
            await self._alerting.close()
        if self._repository is not None:
            await self._repository.close()
            storage_publisher(self._telemetry, self._repository)()
        if self._database is not None:
            with suppress(PromcompatError):
                database = await self._database
                if database is not None:
                    await asyncio.to_thread(database.stop)

    def _url(self, database: EmbeddedDatabase | None) -> str:
        if database is not None:
            return database.url
        given = self._settings.database_url
        assert given is not None, "start_database returns None only when there is a URL"
        return given.get_secret_value()


async def _watch(database: EmbeddedDatabase, termination: Termination) -> None:
    """End the process when its database ends; whoever runs us starts both again."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if not database.is_running:
            return termination.fail("the database ended unexpectedly")


async def serve(
    settings: Settings,
    bound: socket.socket,
    announce: Callable[[str], None],
    *,
    migrates: bool = True,
    listens_early: bool = True,
    follow: Callable[[Termination], None] = lambda _: None,
) -> int:
    """Serve until asked to end, and return the exit code of the process.

    Raises PromcompatError when the service cannot start, after undoing what had been started.

    `announce` is called with a description of the database once requests are served. `follow` may
    tie the process to another one.
    With `listens_early` requests are answered 503 until the database is there. A process that
    shares its port must not: the kernel spreads connections over whoever listens, and a client
    that saw one worker ready would meet one that is not.
    """
    keep_freed_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    termination = Termination()
    follow(termination)
    state = ServiceState()
    telemetry = Telemetry()
    app = build_application(settings, state, telemetry)
    install_native_api(app)
    server = HttpServer(
        app,
        bound,
        settings.shutdown_timeout / 1000,
        max_connections=settings.max_connections,
        read_seconds=settings.read_timeout / 1000,
    )
    external_url = settings.external_url or default_external_url(bound)
    backend = Backend(settings, telemetry, migrates=migrates, external_url=external_url)
    if listens_early:
        await server.start()
    try:
        started = await _start_unless_ended(backend, state, termination)
        if started and not listens_early:
            await server.start()
        if started:
            _relax_garbage_collection()
            announce(state.services.database if state.services else "")
            await termination.wait()
    finally:
        state.phase = Phase.STOPPING
        await server.stop()
        await backend.close()
    _LOGGER.info("stopped")
    return termination.exit_code


def _relax_garbage_collection() -> None:
    """Look for cycles less often: requests make hundreds of thousands of objects and no cycle.

    With Python's own thresholds a native batch of 10,000 samples took 75 ms to read, of which 30 ms
    was looking in vain through what modules, caches and the batch itself had allocated.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _start_unless_ended(
    backend: Backend, state: ServiceState, termination: Termination
) -> bool:
    """Whether the backend started before the process was asked to end."""
    starting = asyncio.create_task(backend.start(state, termination))
    ending = asyncio.create_task(termination.wait())
    await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    with suppress(asyncio.CancelledError):
        await starting
    return False
