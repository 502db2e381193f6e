"""Waits for a condition, and fails after a time that only a fault can need."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, TypeVar

FoundT = TypeVar("FoundT")

_WAIT_SECONDS: Final = 120.0
_PAUSE_SECONDS: Final = 0.02


def wait_for(ask: Callable[[], FoundT | None], reason: object = "it does not come") -> FoundT:
    """What `ask` returns as soon as that is true."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (found := ask()):
        assert time.monotonic() < deadline, reason
        time.sleep(_PAUSE_SECONDS)
    return found


def wait_for_text(log: Path, text: str) -> str:
    """The contents of a log as soon as it has a text."""
    wait_for(lambda: text in log.read_text(), f"{log} does not get the text: {text}")
    return log.read_text()


async def eventually(ask: Callable[[], Awaitable[FoundT | None]]) -> FoundT:
    """What `ask` returns as soon as that is true."""
    async with asyncio.timeout(_WAIT_SECONDS):
        while not (found := await ask()):  # noqa: ASYNC110 - nothing tells when there is one.
            await asyncio.sleep(_PAUSE_SECONDS)
    return found


async def until(is_met: Callable[[], object]) -> None:
    """Return when a condition of this process is met."""
    async with asyncio.timeout(_WAIT_SECONDS):
        while not is_met():  # noqa: ASYNC110 - nothing tells when it is.
            await asyncio.sleep(_PAUSE_SECONDS)
