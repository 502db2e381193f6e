"""The queries that run in this process, and the last ones that ended."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.errors import OverloadedError, PromcompatError, QueryCanceledError
from promql.query import Query

MAX_ENDED: Final = 20_000
_SHORTEST_SECONDS: Final = 0.001
"""Shorter queries are not kept, because hundreds of them end in a second."""
_MAX_TEXT_CHARS: Final = 2_000
"""Of a longer query the beginning is kept, so that the log takes 160 MB at most."""


@dataclass(slots=True, eq=False)
class RunningQuery:
    """A query in progress; `id` is unique in the process."""

    id: str
    query: Query
    started: float
    """`time.monotonic`."""
    task: "asyncio.Task[object] | None"
    reason: PromcompatError | None = None
    """What it raises because somebody ended it."""

    def end(self, reason: PromcompatError) -> None:
        """Cancel it, so that it raises the reason; the first one counts."""
        if self.reason is None and self.task is not None:
            self.reason = reason
            self.task.cancel()


@dataclass(frozen=True, slots=True)
class EndedQuery:
    """A query that ended, whether with an answer or with an error."""

    tenant: str
    text: str
    range_seconds: int
    ended: float
    """`time.monotonic`."""
    seconds: float


@dataclass(slots=True)
class QueryLog:
    """The running queries, and the `MAX_ENDED` that ended last."""

    _running: dict[str, RunningQuery] = field(default_factory=dict)
    _ended: deque[EndedQuery] = field(default_factory=lambda: deque(maxlen=MAX_ENDED))
    _is_stopping: bool = False
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextmanager
    def running(self, query: Query) -> Iterator[None]:
        """Note that a query runs until the block ends.

        Raises QueryCanceledError instead of CancelledError if somebody cancelled the query, and
        OverloadedError if the log has stopped.
        """
        if self._is_stopping:
            raise _stopping()
        task = asyncio.current_task()
        entry = RunningQuery(f"{next(self._numbers):016X}", query, time.monotonic(), task)
        self._running[entry.id] = entry
        try:
            yield
        except asyncio.CancelledError:
            if entry.reason is None:
                raise
            if task is not None:
                task.uncancel()
            raise entry.reason from None
        finally:
            del self._running[entry.id]
            self._note_end(entry)

    def _note_end(self, entry: RunningQuery) -> None:
        now, grid = time.monotonic(), entry.query.eval_range
        seconds = now - entry.started
        if seconds >= _SHORTEST_SECONDS:
            span = (grid.end_ms - grid.start_ms) // 1000
            query = entry.query
            self._ended.append(
                EndedQuery(query.tenant, query.text[:_MAX_TEXT_CHARS], span, now, seconds)
            )

    def now_running(self, tenant: str) -> list[RunningQuery]:
        """The queries of a tenant that run now, the oldest first."""
        return [entry for entry in self._running.values() if entry.query.tenant == tenant]

    def cancel(self, tenant: str, query_id: str) -> bool:
        """End a running query of a tenant; returns whether there was one of this id."""
        entry = self._running.get(query_id)
        if entry is None or entry.query.tenant != tenant or entry.task is None:
            return False
        entry.end(QueryCanceledError("query was canceled by an operator"))
        return True

    def stop(self) -> None:
        """End the queries of all tenants, and let no other one begin: the service stops."""
        self._is_stopping = True
        for entry in list(self._running.values()):
            entry.end(_stopping())

    def ended(self, tenant: str, max_age_seconds: float) -> Sequence[EndedQuery]:
        """The queries of a tenant that ended in the last seconds, the oldest first."""
        since = time.monotonic() - max_age_seconds
        return [one for one in self._ended if one.tenant == tenant and one.ended >= since]


def _stopping() -> OverloadedError:
    return OverloadedError("the service is stopping; ask again")
