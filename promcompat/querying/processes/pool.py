"""The processes that evaluate long queries, as the service sees them."""

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar, cast

from promcompat.core.errors import ExecutionError, QueryCanceledError, QueryTimeoutError
from promcompat.core.model import SampleBlock, SeriesSelection
from promcompat.querying.processes.child import Answer, Request, WantsMemory, Work
from promcompat.querying.processes.label_lists import SentLists
from promcompat.querying.processes.messages import Message, SentFile, receive, send
from promql.budget import MemoryTakenError, QueryBudget
from promql.evaluation.stages import Evaluated, NoProcessError, QueryProcesses, QueryText
from promql.values.matrix import Matrix

ResultT = TypeVar("ResultT")

_LOGGER: Final = logging.getLogger(__name__)
_MOST_NICE: Final = 19
NICENESS: Final = 5
"""More than the service's own: a quarter of a core beside a process that wants all of it, and what
is left otherwise. With 10, a tenth, long queries starved on a busy machine."""
_OUT_OF_MEMORY_SCORE: Final = 500
_PROC: Final = Path("/proc")
_LOOK_MILLISECONDS: Final = 100
"""How often a thread that waits for an answer looks whether the query was cancelled."""
_GRACE_SECONDS: Final = 10.0
"""A process is killed if it has not stopped this long after it was told to."""
_START_SECONDS: Final = 60.0
_PATIENCE_SECONDS: Final = 5.0
"""How long a query waits for a process that starts, which takes a second of a core."""
_MUCH_PATIENCE_SECONDS: Final = 20.0
"""The same for other work, which is less urgent: a start takes long on a busy machine."""
_PAUSE_SECONDS: Final = 30.0
"""How long no process is started after one that failed to start."""


@dataclass(slots=True, eq=False)
class _Child:
    """One process and our end of its socket; one query at a time."""

    process: "subprocess.Popen[bytes]"
    channel: socket.socket
    lists: SentLists = field(default_factory=SentLists)

    def receive(self, milliseconds: int) -> Message | None:
        """The next message, None if there is none for so long. Raises EOFError and OSError."""
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        return receive(self.channel) if poll.poll(milliseconds) else None

    def end(self) -> int:
        """Kill it, and take its exit code."""
        self.channel.close()
        self.process.kill()
        return self.process.wait()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None


class _AnswerError(Exception):
    """The process answered with an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@dataclass(slots=True)
class EvaluationProcesses(QueryProcesses):
    """At most so many processes, started when they are first wanted; safe to use from threads.

    Callers wait a little for a process that starts. Raises NoProcessError where none is available.
    `command` is given the number of a socket's descriptor.
    """

    max_processes: int
    command: Sequence[str]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _idle: list[_Child] = field(default_factory=list)
    _working: list[_Child] = field(default_factory=list)
    _n_children: int = 0
    _n_starting: int = 0
    _not_before: float = 0.0
    _is_closed: bool = False

    def selections(self, query: QueryText, budget: QueryBudget) -> tuple[SeriesSelection, ...]:
        """See the port."""
        with self._child() as child:
            answer = _ask(child, _request(query, budget), budget)
        return cast("tuple[SeriesSelection, ...]", answer.result)

    def evaluate(
        self, query: QueryText, blocks: Sequence[SampleBlock], budget: QueryBudget
    ) -> Evaluated:
        """See the port."""
        with self._child() as child:
            labels = tuple(child.lists.of(block.labels) for block in blocks)
            request = replace(
                _request(query, budget),
                blocks=[replace(block, labels=()) for block in blocks],
                labels=labels,
                forgotten=child.lists.take_forgotten(),
            )
            answer = _ask(child, request, budget)
        evaluated = cast("Evaluated", answer.result)
        value = evaluated.value
        if answer.labels is not None and isinstance(value, Matrix | SampleBlock):
            known = answer.labels.resolved(block.labels for block in blocks)
            return replace(evaluated, value=replace(value, labels=known))
        return evaluated

    def call(self, work: Callable[[], ResultT], budget: QueryBudget) -> ResultT:
        """See the port."""
        with self._child(_MUCH_PATIENCE_SECONDS) as child:
            return cast("ResultT", _ask(child, Work(work), budget).result)

    def prepare(self) -> None:
        """See the port."""
        with self._changed:
            if not self._n_children:
                self._begin_start()

    def are_ready(self) -> bool:
        """See the port."""
        with self._changed:
            if not self._idle:
                self._begin_start()
            return bool(self._idle)

    def close(self) -> None:
        """End the processes; the queries of those that work fail, and nobody waits for others."""
        with self._changed:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for child in self._working:
                child.process.kill()
            self._changed.notify_all()
        for child in idle:
            child.end()

    @contextmanager
    def _child(self, patience_seconds: float = _PATIENCE_SECONDS) -> Iterator[_Child]:
        """A process for the time of a block. It is used again unless the block fails."""
        child = self._take(patience_seconds)
        is_usable = False
        try:
            yield child
            is_usable = True
        except _AnswerError as exc:
            is_usable = True
            raise exc.error from None
        except EOFError as exc:
            raise ExecutionError(_end_of(child.end())) from exc
        except OSError as exc:
            # It has been idle for long, and ends without reading what it was sent; or this process
            # has no file or memory for a message.
            child.end()
            raise NoProcessError from exc
        finally:
            self._give_back(child, is_usable=is_usable)

    def _take(self, patience_seconds: float) -> _Child:
        """A process, once one is ready. Raises NoProcessError."""
        until = time.monotonic() + patience_seconds
        with self._changed:
            while True:
                while self._idle:
                    child = self._idle.pop()
                    if child.is_alive:
                        self._working.append(child)
                        return child
                    child.end()
                    self._n_children -= 1
                self._begin_start()
                left = until - time.monotonic()
                if self._is_closed or not self._n_starting or left <= 0:
                    raise NoProcessError
                self._changed.wait(left)

    def _give_back(self, child: _Child, *, is_usable: bool) -> None:
        with self._changed:
            if child in self._working:
                self._working.remove(child)
            is_kept = is_usable and not self._is_closed
            if is_kept:
                self._idle.append(child)
            else:
                self._n_children -= 1
            # All of them: those for whom there is none have to know that no process starts.
            self._changed.notify_all()
        if not is_kept:
            child.end()

    def _begin_start(self) -> None:
        """Start one more in the background, if there may be one more and none is starting."""
        can_start = self._n_children < self.max_processes and not self._is_closed
        if self._n_starting or not can_start or time.monotonic() < self._not_before:
            return
        self._n_children += 1
        self._n_starting += 1
        threading.Thread(target=self._start, name="query-process", daemon=True).start()

    def _start(self) -> None:
        """Start a process, and wait until it can work."""
        child, reason = None, ""
        try:
            child = _spawn(self.command)
            with self._changed:
                self._working.append(child)
                if self._is_closed:
                    child.process.kill()
            is_ready = child.receive(int(_START_SECONDS * 1000)) is not None
        except (EOFError, OSError) as exc:
            is_ready, reason = False, str(exc)
        if child is not None and not is_ready:
            reason = f"exit code {child.end()}"
        with self._changed:
            self._n_starting -= 1
            if child is None or not is_ready:
                if child is not None:
                    self._working.remove(child)
                if not self._is_closed:
                    _LOGGER.warning("no process for long queries", extra={"reason": reason})
                self._n_children -= 1
                self._not_before = time.monotonic() + _PAUSE_SECONDS
                self._changed.notify_all()
                return
        self._give_back(child, is_usable=True)


def process_command(module: str) -> tuple[str, ...]:
    """How a module is run as a process of this program."""
    return sys.executable, "-m", module


def _spawn(command: Sequence[str]) -> _Child:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        try:
            process = subprocess.Popen(
                [*command, str(its.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                # A session of its own: Ctrl-C is for the service, which closes the socket.
                start_new_session=True,
                env=_environment(),
            )
        except OSError:
            ours.close()
            raise
    _lower_priority(process.pid)
    return _Child(process, ours)


def _environment() -> dict[str, str]:
    """Ours without the settings, some of which are secret: it needs none of them."""
    return {name: text for name, text in os.environ.items() if not _is_setting(name)}


def _is_setting(name: str) -> bool:
    return name.startswith("PROMCOMPAT_") or name == "_PROMCOMPAT_WORKER"


def _lower_priority(process_id: int) -> None:
    """Make it the last to get a core, and the first to be killed when memory runs out.

    This holds already while it imports modules, which takes a second of a core.
    """
    niceness = min(_MOST_NICE, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, process_id, niceness)
    # Where the kernel shares cores among sessions, the niceness of the session counts.
    for name, text in (("autogroup", niceness), ("oom_score_adj", _OUT_OF_MEMORY_SCORE)):
        with suppress(OSError):
            (_PROC / str(process_id) / name).write_text(str(text))


def _request(query: QueryText, budget: QueryBudget) -> Request:
    limits = budget.deadline, budget.max_samples, budget.max_bytes
    return Request(query, *limits, budget.kept_bytes)


def _ask(child: _Child, request: Request | Work, budget: QueryBudget) -> Answer:
    """The answer. Raises _AnswerError, and as `_wait`."""
    sent = send(child.channel, request)
    try:
        answer = _wait(child, sent, budget)
    finally:
        sent.close()
    if answer.error is not None:
        raise _AnswerError(answer.error)
    budget.peak_samples = max(budget.peak_samples, answer.peak_samples)
    budget.peak_bytes = max(budget.peak_bytes, answer.peak_bytes)
    return answer


def _wait(child: _Child, sent: SentFile, budget: QueryBudget) -> Answer:
    """The answer. Raises EOFError, OSError, and what the budget raises once it is cancelled."""
    kill_at = 0.0
    while True:
        message = child.receive(_LOOK_MILLISECONDS)
        if message is None:
            try:
                budget.check_time()
            except (QueryTimeoutError, QueryCanceledError):
                sent.cancel()
                kill_at = kill_at or time.monotonic() + _GRACE_SECONDS
                if time.monotonic() >= kill_at:
                    raise
            continue
        if isinstance(message.content, WantsMemory):
            is_there = True
            try:
                budget.take_shared(message.content.n_bytes)
            except MemoryTakenError:
                is_there = False
            send(child.channel, is_there).close()
            continue
        answer: Answer = message.content
        return answer


def _end_of(exit_code: int) -> str:
    name = f"exit code {exit_code}"
    with suppress(ValueError):
        name = signal.Signals(-exit_code).name if exit_code < 0 else name
    return f"the process that evaluated the query ended ({name}), most likely for want of memory"
