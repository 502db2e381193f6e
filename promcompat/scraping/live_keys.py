"""The series that the targets of a scraper have, for those whose targets end."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from promcompat.scraping.target_loop import TargetLoop

_KEPT_SECONDS: Final = 1.0


class LiveKeys:
    """Collects the keys once for all targets that end within a second, in a thread.

    Many targets end together, and there may be millions of series.
    """

    def __init__(self, loops: Callable[[], Sequence[TargetLoop]]) -> None:
        """`loops` returns a list that does not change."""
        self._loops = loops
        self._collecting: asyncio.Task[set[bytes]] | None = None

    async def get(self) -> set[bytes]:
        """The keys as they were at most a second ago."""
        if self._collecting is None:
            self._collecting = asyncio.create_task(self._collect())
        return await asyncio.shield(self._collecting)

    async def _collect(self) -> set[bytes]:
        asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._forget)
        return await asyncio.to_thread(_keys_of, self._loops())

    def _forget(self) -> None:
        self._collecting = None


def _keys_of(loops: Sequence[TargetLoop]) -> set[bytes]:
    return {key for loop in loops for key in loop.series.tracked_keys}
