"""Runs what has to be done again and again; the loops are listed in `promcompat.composition`."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from promcompat.core.errors import PromcompatError
from promcompat.telemetry import LoopMetrics

_LOGGER = logging.getLogger(__name__)
_MAX_PAUSE_SECONDS = 5.0
"""Between failures: alerts must not be late because the database was away for long."""
_WATCH_SECONDS = 1.0
_REPORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class PeriodicLoop:
    """What is done, and how long the pause is between the end of one run and the next.

    A run should have succeeded `late_after_seconds` after it was due; otherwise the loop is
    reported as late, whether its runs fail or do not end.
    """

    name: str
    pause_seconds: float
    run: Callable[[], Awaitable[object]]
    late_after_seconds: float = 60.0


class _Progress:
    """When a loop last succeeded."""

    def __init__(self, loop: PeriodicLoop, metrics: LoopMetrics) -> None:
        self.loop = loop
        self._metrics = metrics
        self._due_at = time.monotonic() + loop.pause_seconds
        self._reported_at: float | None = None

    def succeeded(self) -> None:
        """Note the end of a run without fault."""
        self._due_at = time.monotonic() + self.loop.pause_seconds
        self._metrics.last_success.labels(self.loop.name).set_to_current_time()

    def failed(self) -> None:
        """Count a run that ended in a fault."""
        self._metrics.failures.labels(self.loop.name).inc()

    def check(self) -> None:
        """Publish how late the loop is, and log it once a minute while it is too late."""
        now = time.monotonic()
        late_seconds = max(0.0, now - self._due_at)
        self._metrics.late_seconds.labels(self.loop.name).set(late_seconds)
        if late_seconds <= self.loop.late_after_seconds:
            if self._reported_at is not None:
                _LOGGER.info("loop is on time again", extra={"loop": self.loop.name})
            self._reported_at = None
        elif self._reported_at is None or now - self._reported_at >= _REPORT_SECONDS:
            self._reported_at = now
            fields = {"loop": self.loop.name, "late_seconds": round(late_seconds)}
            _LOGGER.warning("loop is late", extra=fields)


async def _run_periodically(progress: _Progress) -> None:
    """Run it until cancelled. A failure is logged, and makes the pauses longer until it works."""
    loop, n_failures = progress.loop, 0
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
            progress.succeeded()
        if n_failures:
            progress.failed()
        longer = min(loop.pause_seconds * 2 ** min(n_failures, 8), _MAX_PAUSE_SECONDS)
        await asyncio.sleep(max(loop.pause_seconds, longer))


async def _watch(watched: Sequence[_Progress]) -> None:
    """Look at all loops again and again, until cancelled."""
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        for progress in watched:
            progress.check()


def start_loops(loops: Sequence[PeriodicLoop], metrics: LoopMetrics) -> list[asyncio.Task[None]]:
    """A running task for each, and one that watches them; the caller cancels them."""
    watched = [_Progress(loop, metrics) for loop in loops]
    tasks = [
        asyncio.create_task(_run_periodically(progress), name=progress.loop.name)
        for progress in watched
    ]
    return [*tasks, asyncio.create_task(_watch(watched), name="watch loops")]
