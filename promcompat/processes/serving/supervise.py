"""Several serving processes on one port, kept alive by a parent that owns the database.

The parent never serves: it starts the database, migrates it, and starts one process per worker.
Each worker listens on the shared port by itself (SO_REUSEPORT). Two pipes connect it with its
parent: one that ends when the parent does, and one on which its event loop reports again and again.
A worker that reports no longer is killed and started again: the kernel would go on giving it
connections, which nobody would answer. It writes the stacks of its threads to the log first.
"""

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from promcompat.configuration.settings import Settings
from promcompat.database import migrate_when_answering
from promcompat.processes.serving.metrics_folder import metrics_folder
from promcompat.processes.serving.stacks import STACKS_SIGNAL
from promcompat.processes.serving.watched_database import watched_database
from promcompat.processes.termination import Termination
from promcompat.telemetry.telemetry import MULTIPROCESS_VARIABLE

_LOGGER = logging.getLogger(__name__)
_WORKER_VARIABLE = "_PROMCOMPAT_WORKER"
_RESTART_SECONDS = 1.0
_SHORT_LIFE_SECONDS = 10.0
_MAX_SHORT_LIVES = 5
"""After so many in a row, the service ends: its workers will not live longer by themselves."""
_KILL_AFTER_SECONDS = 10.0
"""How much longer than the time to shut down a worker may take."""
_MOST_MISSED = 10
"""Reports that a worker may miss in a row before it is killed."""
_STACKS_SECONDS = 0.5
"""How long a worker has to write its stacks, which takes milliseconds unless it is stopped."""


@dataclass(slots=True)
class WorkerLink:
    """What a worker gets from its parent: the address to listen on, the pipes, and the secret.

    `own_secret` is shown by the service to itself, where any of the workers may answer. A worker
    that is started again has the `number` of the one before it. `database` is the description of
    the database once the worker serves.
    """

    listen: str
    parent_pipe: int
    report_pipe: int
    report_seconds: float
    own_secret: str = field(repr=False)
    number: int = 0
    database: str = ""

    def follow(self, termination: Termination) -> None:
        """End this process when the parent ends."""
        loop = asyncio.get_running_loop()

        def parent_ended() -> None:
            loop.remove_reader(self.parent_pipe)
            termination.ask("the parent process ended")

        loop.add_reader(self.parent_pipe, parent_ended)

    def report_ready(self, database: str) -> None:
        """Tell the parent that this worker serves, and on which database."""
        self.database = database
        self._report()

    async def keep_reporting(self) -> None:
        """Tell the parent that the event loop runs, and whether it serves, until cancelled."""
        while True:
            self._report()
            await asyncio.sleep(self.report_seconds)

    def _report(self) -> None:
        # The pipe is full if the parent was stopped for long; the next report says the same. It is
        # broken if the parent has ended, which `follow` notices.
        with suppress(BlockingIOError, BrokenPipeError):
            os.write(self.report_pipe, f"{os.getpid()} {self.database}\n".encode())


def new_own_secret() -> str:
    """A secret that nobody else knows; it lasts as long as the service runs."""
    return secrets.token_urlsafe(32)


def worker_link() -> WorkerLink | None:
    """The link to the parent; None unless this process is a worker."""
    text = os.environ.get(_WORKER_VARIABLE)
    return None if text is None else WorkerLink(**json.loads(text))


@dataclass(slots=True)
class _Pipes:
    """Nobody writes to `parent`; workers write lines to `reports`, and never wait for room."""

    parent: tuple[int, int] = field(default_factory=os.pipe)
    reports: tuple[int, int] = field(default_factory=os.pipe)

    def __post_init__(self) -> None:
        os.set_blocking(self.reports[1], False)

    def close(self) -> None:
        for descriptor in (*self.parent, *self.reports):
            os.close(descriptor)


async def supervise(
    settings: Settings,
    reserved: socket.socket,
    announce: Callable[[str], None],
    arguments: Sequence[str],
) -> int:
    """Run `settings.workers` workers until asked to end; the exit code of the process.

    `reserved` keeps the shared port for the workers and never listens. `announce` is called with
    the description of the database once all of them serve. `arguments` are those of this process;
    workers get them too. Raises PromcompatError if the database can never be used.
    """
    termination = Termination()
    async with AsyncExitStack() as opened:
        opening = opened.enter_async_context(_migrated_database(settings, termination))
        if await termination.unless_asked(opening) is not None:
            await _keep_workers(settings, reserved, announce, arguments, termination)
    return termination.exit_code


@asynccontextmanager
async def _migrated_database(settings: Settings, termination: Termination) -> AsyncIterator[int]:
    """The version of its schema, while the block runs the service's own database, if it has one."""
    async with watched_database(settings, termination):
        yield await migrate_when_answering(settings)


async def _keep_workers(
    settings: Settings,
    reserved: socket.socket,
    announce: Callable[[str], None],
    arguments: Sequence[str],
    termination: Termination,
) -> None:
    pipes, stop_seconds = _Pipes(), settings.shutdown_timeout / 1000 + _KILL_AFTER_SECONDS
    report_seconds = settings.worker_timeout / 1000 / _MOST_MISSED
    with metrics_folder() as folder:
        link = WorkerLink(
            _address_of(reserved),
            pipes.parent[0],
            pipes.reports[1],
            report_seconds,
            new_own_secret(),
        )
        keepers = [
            _Keeper(number, arguments, _environment(link, number, folder), pipes, folder)
            for number in range(settings.workers)
        ]
        pass_on_hangup(settings, keepers)
        try:
            async with asyncio.TaskGroup() as group:
                for keeper in keepers:
                    group.create_task(keeper.run(termination, stop_seconds))
                group.create_task(_follow_reports(keepers, pipes, announce, termination))
                group.create_task(_kill_silent_workers(keepers, report_seconds, termination))
        finally:
            pipes.close()


def _environment(link: WorkerLink, number: int, folder: Path) -> Mapping[str, str]:
    """That of a worker, which has a number and keeps its metrics in a folder."""
    return {
        **os.environ,
        MULTIPROCESS_VARIABLE: str(folder),
        _WORKER_VARIABLE: json.dumps(asdict(replace(link, number=number))),
    }


def pass_on_hangup(settings: Settings, keepers: Sequence["_Keeper"]) -> None:
    """Pass SIGHUP on to every worker, which then reads the scrape configuration again.

    Without such a file SIGHUP ends the parent, and the workers end with it.
    """
    if settings.scrape_config is None:
        return

    def pass_on() -> None:
        for keeper in keepers:
            keeper.hang_up()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, pass_on)


def _address_of(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _follow_reports(
    keepers: Sequence["_Keeper"],
    pipes: _Pipes,
    announce: Callable[[str], None],
    termination: Termination,
) -> None:
    """Tell each keeper what its worker reports, and call `announce` once all of them serve."""
    loop, is_announced = asyncio.get_running_loop(), False
    reports = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reports), os.fdopen(os.dup(pipes.reports[0]), "rb")
    )
    ending = asyncio.create_task(termination.wait())
    try:
        while True:
            line = asyncio.create_task(reports.readline())
            await asyncio.wait({line, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                line.cancel()
                return
            pid, _, database = line.result().decode().strip().partition(" ")
            for keeper in keepers:
                if keeper.process is not None and keeper.process.pid == int(pid):
                    keeper.reported(is_serving=bool(database))
            if not is_announced and all(keeper.is_serving for keeper in keepers):
                is_announced = True
                announce(database)
    finally:
        ending.cancel()
        transport.close()


async def _kill_silent_workers(
    keepers: Sequence["_Keeper"], report_seconds: float, termination: Termination
) -> None:
    """Kill workers that miss report after report, until asked to end.

    Time is counted in turns of this loop. So a suspended machine, or a parent that was stopped,
    counts as one missed report, and steps of the clock do not count at all.
    """
    ending = asyncio.create_task(termination.wait())
    while not ending.done():
        await asyncio.wait({ending}, timeout=report_seconds)
        silent = [keeper for keeper in keepers if keeper.misses_too_many()]
        for keeper in silent:
            keeper.ask_for_stacks()
        if silent:
            await asyncio.sleep(_STACKS_SECONDS)
        for keeper in silent:
            keeper.kill()


@dataclass(slots=True)
class _Keeper:
    """Keeps one worker running."""

    number: int
    arguments: Sequence[str]
    environment: Mapping[str, str]
    pipes: _Pipes
    metrics_folder: Path
    process: asyncio.subprocess.Process | None = None
    is_serving: bool = False
    _owes_hangup: bool = False
    _n_missed: int | None = None
    """Reports since the last one; None before the first, as modules take long to import."""

    def hang_up(self) -> None:
        """Send SIGHUP to the worker once it serves: one that is starting would end by it."""
        if self.process is None or not self.is_serving:
            self._owes_hangup = True
        elif self.process.returncode is None:
            self.process.send_signal(signal.SIGHUP)

    def reported(self, *, is_serving: bool) -> None:
        """The event loop of the worker runs, and serves or does not serve yet."""
        self._n_missed = 0
        self.is_serving = is_serving
        if is_serving and self._owes_hangup:
            self._owes_hangup = False
            self.hang_up()

    def misses_too_many(self) -> bool:
        """A report was due; whether the worker has missed so many that it is to be killed."""
        if self.process is None or self.process.returncode is not None or self._n_missed is None:
            return False
        self._n_missed += 1
        return self._n_missed > _MOST_MISSED

    def ask_for_stacks(self) -> None:
        """Let the worker write where its threads are, in lines of its own, before it is killed."""
        assert self.process is not None
        _LOGGER.error(
            "worker does not respond and is killed",
            extra={"worker": self.number, "pid": self.process.pid},
        )
        self.process.send_signal(STACKS_SIGNAL)
        self._n_missed = None

    def kill(self) -> None:
        """Kill the worker, unless it has ended meanwhile."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def run(self, termination: Termination, stop_seconds: float) -> None:
        """Start the worker again when it ends, until asked to end."""
        short_lives = 0
        ending = asyncio.create_task(termination.wait())
        while not ending.done():
            started = time.monotonic()
            try:
                await self._run_once(ending, stop_seconds)
            except OSError as exc:
                # Where memory or processes have run out, others may free some in a moment.
                _LOGGER.error(
                    "worker cannot be started",
                    extra={"worker": self.number, "reason": exc.strerror or str(exc)},
                )
            if ending.done():
                return
            short_lives = short_lives + 1 if time.monotonic() - started < _SHORT_LIFE_SECONDS else 0
            if short_lives >= _MAX_SHORT_LIVES:
                termination.fail("a worker keeps exiting")
                return
            await asyncio.wait({ending}, timeout=_RESTART_SECONDS)

    async def _run_once(self, ending: asyncio.Task[None], stop_seconds: float) -> None:
        """Run the worker until it ends, or stop it when `ending` is done. Raises OSError."""
        process = self.process = await self._spawn()
        exited = asyncio.create_task(process.wait())
        await asyncio.wait({exited, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not exited.done():
            await _stop(process, exited, stop_seconds)
            return
        self.process, self.is_serving, self._n_missed = None, False, None
        # What counts goes on with the next one; what only says how a process is does not.
        mark_process_dead(self.number, str(self.metrics_folder))  # type: ignore[no-untyped-call]
        _LOGGER.error("worker ended", extra={"worker": self.number, "exit_code": exited.result()})

    async def _spawn(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "promcompat",
            *self.arguments,
            env=dict(self.environment),
            pass_fds=(self.pipes.parent[0], self.pipes.reports[1]),
            # The terminal's Ctrl-C must reach the parent alone, which then ends the workers.
            start_new_session=True,
        )


async def _stop(
    process: asyncio.subprocess.Process, exited: asyncio.Task[int], stop_seconds: float
) -> None:
    process.terminate()
    done, _ = await asyncio.wait({exited}, timeout=stop_seconds)
    if not done:
        _LOGGER.error("worker did not stop in time and was killed", extra={"pid": process.pid})
        process.kill()
        await exited
