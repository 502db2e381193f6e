"""SIGTERM and Ctrl-C as an event to wait for."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

_LOGGER = logging.getLogger(__name__)
_IMPATIENCE_SECONDS = 1.0
"""One Ctrl-C may come as two signals: from the terminal, and from `make` when it ends."""


class Termination:
    """Set once by a signal; a later Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        """Take over the signals of the running event loop."""
        self._event = asyncio.Event()
        self._asked_at = 0.0
        self.exit_code = 0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._receive, number)

    def ask(self, reason: str) -> None:
        """End the process as a signal would."""
        if not self._event.is_set():
            _LOGGER.info("stopping", extra={"reason": reason})
            self._asked_at = time.monotonic()
            self._event.set()

    def fail(self, reason: str) -> None:
        """End the process as failed; only the first failure is logged."""
        if not self.exit_code:
            _LOGGER.error("failed", extra={"reason": reason})
        self.exit_code = 1
        self.ask("failure")

    async def wait(self) -> None:
        """Return when the process is to end."""
        await self._event.wait()

    async def unless_asked(self, work: Coroutine[Any, Any, ResultT]) -> ResultT | None:
        """The result of `work`; None when the process is to end first, and `work` is cancelled."""
        working = asyncio.create_task(work)
        ending = asyncio.create_task(self.wait())
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if working.done():
            return await working
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        return None

    def _receive(self, number: signal.Signals) -> None:
        waited = time.monotonic() - self._asked_at
        if self._event.is_set() and number == signal.SIGINT and waited > _IMPATIENCE_SECONDS:
            # Acknowledged samples are committed already; the database ends with this process.
            os._exit(128 + number)
        self.ask(number.name)
