"""The writes that wait for a group commit: in order within a tenant, fair between tenants."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from promcompat.core.alerting.thresholds import LevelChange
from sql.database.copy_format import SampleRows
from sql.samples.writing.sorted_rows import Conflict


@dataclass(frozen=True, slots=True)
class Write:
    """Rows of one tenant with the level changes they cause; `done` answers the caller.

    A tenant of weight 2 may write twice as many rows as one of weight 1 while both wait.
    """

    rows: SampleRows
    changes: Sequence[LevelChange]
    done: asyncio.Future[list[Conflict]]
    weight: int = 1

    @property
    def tenant_id(self) -> int:
        """The tenant, 0 if the rows do not say."""
        tenant_ids = self.rows.tenant_ids
        return 0 if tenant_ids is None or not len(tenant_ids) else int(tenant_ids[0])


@dataclass(slots=True)
class _TenantQueue:
    """The waiting writes of a tenant, and its rows that were taken, by its weight."""

    taken: float = 0
    writes: deque[tuple[int, Write]] = field(default_factory=deque)


class WriteQueue:
    """Waiting writes, taken in groups.

    Next comes the write of the tenant of which the fewest rows were taken, divided by its weight
    and counted from when it last began to wait: a tenant that sends more than others waits for
    itself only. With one tenant, or while a group takes all, the order is that of arrival.
    """

    def __init__(self, max_rows: int) -> None:
        """A group ends at `max_rows` rows."""
        self._max_rows = max_rows
        self._tenants: dict[int, _TenantQueue] = {}
        self._clock = 0.0
        self._n_put = 0
        self._n_taken = 0
        self.n_rows = 0

    def __bool__(self) -> bool:
        return self._n_put > self._n_taken

    def put(self, write: Write) -> None:
        """Add a write, behind those of its tenant."""
        queue = self._tenants.setdefault(write.tenant_id, _TenantQueue())
        if not queue.writes:
            queue.taken = max(queue.taken, self._clock)
        queue.writes.append((self._n_put, write))
        self._n_put += 1
        self.n_rows += len(write.rows)

    def take_group(self) -> list[Write]:
        """The next writes, up to `max_rows` rows; those whose callers have gone are dropped."""
        order = [
            (queue.taken, queue.writes[0][0], tenant)
            for tenant, queue in self._tenants.items()
            if queue.writes
        ]
        order.sort()
        group: list[Write] = []
        n_rows = 0
        while order and n_rows < self._max_rows:
            self._clock, _, tenant = heappop(order)
            queue = self._tenants[tenant]
            write = self._take(queue)
            if not write.done.cancelled():
                group.append(write)
                n_rows += len(write.rows)
            if queue.writes:
                heappush(order, (queue.taken, queue.writes[0][0], tenant))
        if not self:
            self._tenants.clear()
            self._clock = 0.0
        return group

    def _take(self, queue: _TenantQueue) -> Write:
        _, write = queue.writes.popleft()
        self._n_taken += 1
        queue.taken += len(write.rows) / write.weight
        self.n_rows -= len(write.rows)
        return write
