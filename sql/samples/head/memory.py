"""The segments of all tenants in memory: their size, and what is merged or evicted next."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sql.samples.columns.fold import Deletion
from sql.samples.head.segments import Segment, TenantHead, merge_segments, next_merge

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
    """The heads of all tenants."""

    def __init__(self, stats: HeadStats) -> None:
        self._heads: dict[int, TenantHead] = {}
        self._copy: Mapping[int, TenantHead] | None = None
        self._stats = stats
        self._unmerged: set[int] = set()

    @property
    def tenants(self) -> Mapping[int, TenantHead]:
        """The heads as they are now; what is returned never changes, so views may keep it."""
        if self._copy is None:
            self._copy = dict(self._heads)
        return self._copy

    def clear(self) -> None:
        """Drop everything."""
        self._heads, self._copy = {}, None
        self._unmerged.clear()
        self._stats.segments = self._stats.samples = self._stats.bytes_held = 0

    def append(
        self, tenant_id: int, segments: Iterable[Segment], deletions: Iterable[Deletion]
    ) -> None:
        """Add what arrived for a tenant."""
        head = self._heads.get(tenant_id, _NOTHING).appended(segments, deletions)
        self._put(tenant_id, head)

    def drain(self, through: int) -> None:
        """Drop the arrivals up to this id."""
        for tenant_id, head in list(self._heads.items()):
            left = head.drained(through)
            self._put(tenant_id, left)
            if not left.segments and not left.deletions and left.held_after <= through:
                del self._heads[tenant_id]

    def evict(self, max_bytes: int) -> None:
        """Drop the oldest segments of the largest tenants until the bound holds."""
        while self._stats.bytes_held > max_bytes:
            largest = max(self._heads, key=lambda tenant_id: self._heads[tenant_id].n_bytes)
            self._put(largest, self._heads[largest].evicted())
            self._stats.evictions += 1

    @property
    def may_merge(self) -> bool:
        """Whether something has come since everything was merged."""
        return bool(self._unmerged)

    def next_merge(self) -> Merge | None:
        """What is to be merged next."""
        while self._unmerged:
            tenant_id = next(iter(self._unmerged))
            head = self._heads.get(tenant_id, _NOTHING)
            if sources := next_merge(head.segments):
                return Merge(tenant_id, sources, head.deletions)
            self._unmerged.discard(tenant_id)
        return None

    def replace(self, merge: Merge, result: Segment) -> None:
        """Put the result in place of its sources, if all of them are still there."""
        head = self._heads.get(merge.tenant_id, _NOTHING).merged(merge.sources, result)
        if head is not None:
            self._put(merge.tenant_id, head)
            self._stats.merges += 1

    def _put(self, tenant_id: int, head: TenantHead) -> None:
        self._count(self._heads.get(tenant_id, _NOTHING), -1)
        self._count(head, 1)
        self._heads[tenant_id] = head
        self._copy = None
        self._unmerged.add(tenant_id)

    def _count(self, head: TenantHead, sign: int) -> None:
        self._stats.segments += sign * len(head.segments)
        self._stats.samples += sign * sum(len(one.piece.samples) for one in head.segments)
        self._stats.bytes_held += sign * head.n_bytes
