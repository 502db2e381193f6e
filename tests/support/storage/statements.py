"""A process whose statements come one at a time in a chosen order, or which ends before one."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pytest

from sql.database.connecting import BoundedConnection

_STATEMENTS: Final = ("execute", "fetch", "fetchrow", "fetchval", "copy_from_query")
_STALLED_SECONDS: Final = 0.03
"""Work that has not come to its next statement by then waits for other work, and that goes on."""

_turns: ContextVar["tuple[StatementSchedule, int] | None"] = ContextVar("turns", default=None)
"""The schedule of a task, and the number of the work that the task belongs to."""


def pause_before_statements(patch: pytest.MonkeyPatch) -> None:
    """Let the connections of pools ask the schedule of their task before each statement."""
    for name in _STATEMENTS:
        patch.setattr(BoundedConnection, name, _pausing(getattr(BoundedConnection, name)))


def _pausing(real: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    async def statement(connection: BoundedConnection, *args: Any, **options: Any) -> Any:
        if (turns := _turns.get()) is not None:
            await turns[0].pause(turns[1])
        return await real(connection, *args, **options)

    return statement


class StatementSchedule:
    """Some coroutines that pause before each statement, until it is their turn."""

    def __init__(self, choices: Sequence[int]) -> None:
        """Each number is that of the work to go on with next, or of the one after it that waits.

        After the last of them it is always the first work.
        """
        self._choices = list(choices)
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._has_changed = asyncio.Event()

    async def pause(self, number: int) -> None:
        """Return when it is the turn of this work."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((number, turn))
        self._has_changed.set()
        await turn

    async def run(self, *work: Coroutine[Any, Any, None]) -> None:
        """Carry out all of it; raises what it raises."""
        tasks = []
        for number, each in enumerate(work):
            token = _turns.set((self, number))
            tasks.append(asyncio.ensure_future(each))
            _turns.reset(token)
        for task in tasks:
            task.add_done_callback(lambda _task: self._has_changed.set())
        while not all(task.done() for task in tasks):
            await self._settle(len(tasks))
            if self._waiting:
                choice = self._choices.pop(0) if self._choices else 0
                following = [(number - choice) % len(tasks) for number, _ in self._waiting]
                _, turn = self._waiting.pop(following.index(min(following)))
                if not turn.done():
                    turn.set_result(None)
        await asyncio.gather(*tasks)

    async def _settle(self, n_tasks: int) -> None:
        """Wait until something has come to its next statement or ended."""
        self._has_changed.clear()
        if len(self._waiting) < n_tasks:
            try:
                await asyncio.wait_for(self._has_changed.wait(), _STALLED_SECONDS)
            except TimeoutError:
                return


_METHODS: Final = ("execute", "executemany", "fetch", "fetchval", "fetchrow")


class KilledError(BaseException):
    """Ends a run as the end of its process does: nothing that handles errors catches it."""


@dataclass
class Killer:
    """Counts the statements of this process, and ends its sessions before a certain one."""

    n_left: int = -1
    is_dead: bool = False

    def check(self, connection: asyncpg.Connection) -> None:
        """Called before each statement."""
        if connection._proxy is None:
            # Only being opened: a pool would keep its place for good, unlike the end of a process.
            return
        if self.n_left == 0:
            self.is_dead, self.n_left = True, -1
        if self.is_dead:
            with suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise KilledError
        self.n_left -= self.n_left > 0

    @contextmanager
    def before_statement(self, number: int) -> Iterator[None]:
        """The statement of that number (from 0) and all later ones of the block are not sent."""
        self.n_left, self.is_dead = number, False
        try:
            yield
        finally:
            self.n_left, self.is_dead = -1, False


def killer_of_statements(patch: pytest.MonkeyPatch) -> Killer:
    """Has every connection of this process ask the killer first."""
    found = Killer()
    for name in _METHODS:
        method = getattr(asyncpg.Connection, name)

        def checked(
            self: asyncpg.Connection, *args: Any, method: Any = method, **options: Any
        ) -> Any:
            found.check(self)
            return method(self, *args, **options)

        patch.setattr(asyncpg.Connection, name, checked)
    return found
