"""Runs what has to be done again and again; the loops are listed in `promcompat.app`."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from promcompat.core.errors import PromcompatError

_LOGGER = logging.getLogger(__name__)
_MAX_PAUSE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class PeriodicLoop:
    """What is done, and how long the pause is between the end of one run and the next."""

    name: str
    pause_seconds: float
    run: Callable[[], Awaitable[object]]


async def run_periodically(loop: PeriodicLoop) -> None:
    """Run it until cancelled. A failure is logged, and makes the pauses longer until it works."""
    n_failures = 0
    while True:
        try:
            await loop.run()
        except PromcompatError as exc:
            n_failures += 1
            if n_failures == 1:
                _LOGGER.warning("loop failed", extra={"loop": loop.name, "reason": str(exc)})
        except Exception:
            # The boundary of a loop: one bad run must not end all that would follow.
            n_failures += 1
            _LOGGER.exception("loop failed", extra={"loop": loop.name})
        else:
            n_failures = 0
        longer = min(loop.pause_seconds * 2 ** min(n_failures, 8), _MAX_PAUSE_SECONDS)
        await asyncio.sleep(max(loop.pause_seconds, longer))


def start_loops(loops: Sequence[PeriodicLoop]) -> list[asyncio.Task[None]]:
    """A running task for each; the caller cancels them."""
    return [asyncio.create_task(run_periodically(loop), name=loop.name) for loop in loops]
