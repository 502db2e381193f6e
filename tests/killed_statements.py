"""Kills a process, as far as the database can tell, before any of its statements."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import pytest

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
