"""The segments of all tenants in memory: their size, and what is merged or evicted next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sql.samples.fold import Deletion
from sql.samples.head_segments import Segment, TenantHead, merge_segments, next_merge

_NOTHING = TenantHead()


@dataclass(slots=True)
class HeadStats:
    """What a head holds now, and totals since the process began.

    `lag_arrivals` is how many arrivals the last sync brought: how far the head was behind.
    `unreadable` counts arrivals whose pages cannot be decoded.
    """

    segments: int = 0
    samples: int = 0
    bytes_held: int = 0
    lag_arrivals: int = 0
    syncs: int = 0
    sync_seconds: float = 0.0
    arrivals: int = 0
    merges: int = 0
    evictions: int = 0
    resets: int = 0
    unreadable: int = 0


class Merge(NamedTuple):
    """Segments of a tenant that are to become one, and the deletions between them."""

    tenant_id: int
    sources: Sequence[Segment]
    deletions: Sequence[Deletion]

    def result(self) -> Segment:
        """The one segment; takes long for many samples, mostly without the GIL."""
        return merge_segments(self.sources, self.deletions)


class HeadMemory:
    """The heads of all tenants. `tenants` is replaced, never changed, so views may keep it."""

    def __init__(self, stats: HeadStats) -> None:
        self.tenants: Mapping[int, TenantHead] = {}
        self._stats = stats
        self._unmerged: set[int] = set()

    def clear(self) -> None:
        """Drop everything."""
        self.tenants = {}
        self._unmerged.clear()
        self._stats.segments = self._stats.samples = self._stats.bytes_held = 0

    def append(
        self, tenant_id: int, segments: Iterable[Segment], deletions: Iterable[Deletion]
    ) -> None:
        """Add what arrived for a tenant."""
        head = self.tenants.get(tenant_id, _NOTHING).appended(segments, deletions)
        self._put({tenant_id: head})

    def drain(self, through: int) -> None:
        """Drop the arrivals up to this id."""
        self._put({tenant_id: head.drained(through) for tenant_id, head in self.tenants.items()})

    def evict(self, max_bytes: int) -> None:
        """Drop the oldest segments of the largest tenants until the bound holds."""
        while self._stats.bytes_held > max_bytes:
            largest = max(self.tenants, key=lambda tenant_id: self.tenants[tenant_id].n_bytes)
            if not self.tenants[largest].segments:
                return
            self._put({largest: self.tenants[largest].evicted()})
            self._stats.evictions += 1

    @property
    def may_merge(self) -> bool:
        """Whether something has come since everything was merged."""
        return bool(self._unmerged)

    def next_merge(self) -> Merge | None:
        """What is to be merged next."""
        while self._unmerged:
            tenant_id = next(iter(self._unmerged))
            head = self.tenants.get(tenant_id, _NOTHING)
            if sources := next_merge(head.segments):
                return Merge(tenant_id, sources, head.deletions)
            self._unmerged.discard(tenant_id)
        return None

    def replace(self, merge: Merge, result: Segment) -> None:
        """Put the result in place of its sources, if all of them are still there."""
        head = self.tenants.get(merge.tenant_id, _NOTHING).merged(merge.sources, result)
        if head is not None:
            self._put({merge.tenant_id: head})
            self._stats.merges += 1

    def _put(self, changed: Mapping[int, TenantHead]) -> None:
        for tenant_id, head in changed.items():
            self._count(self.tenants.get(tenant_id, _NOTHING), -1)
            self._count(head, 1)
        self.tenants = {**self.tenants, **changed}
        self._unmerged.update(changed)

    def _count(self, head: TenantHead, sign: int) -> None:
        self._stats.segments += sign * len(head.segments)
        self._stats.samples += sign * sum(len(one.piece.samples) for one in head.segments)
        self._stats.bytes_held += sign * head.n_bytes
