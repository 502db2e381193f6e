"""The choices of one process about its storage of samples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from promcompat.core.clock import wall_clock_ms
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits
from promql.budget import DEFAULT_MAX_BYTES
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.draining.drainer import DrainOptions
from sql.samples.writing.backlog import BacklogLimits
from sql.samples.writing.group_commit import GroupCommitOptions


class StoreKind(StrEnum):
    """How a database keeps its samples."""

    BLOCKS = "blocks"
    ROWS = "rows"


DEFAULT_STORE: Final = StoreKind.BLOCKS
"""The store of a database that was never served, when no setting names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageOptions:
    """The store, the limits of queues, caches and queries, and how selections are read.

    `store` None takes the one that the database has. `max_waiting_rows` bounds the rows of all
    unanswered writes together. `series_cache_bytes` is for everything cached of series: keys,
    labels, selectors and lists. `limits` are those of tenants. `max_samples` and
    `max_memory_bytes` bound one query, `max_head_bytes` the head of a process, `backlog` what is
    not drained yet, and `drains` says when it is drained. `now_ms` is the clock that decides which
    days are near now. A sample older than `alert_max_sample_age_ms` when it is written raises no
    threshold alert (0: no limit). Samples are kept for `retention_days` (0: forever; None:
    forever, and SQL readers are not told), and rollups for `rollup_retention_days` where that is
    longer (0: forever; None: as samples). `coarse_rollups`: where samples are gone, rollups answer
    what they cannot answer exactly.
    """

    store: StoreKind | None = None
    group_commit: GroupCommitOptions = field(default_factory=GroupCommitOptions)
    max_waiting_rows: int = 500_000
    series_cache_bytes: int = 1 << 30
    limits: Limits = NO_LIMITS
    max_samples: int = 50_000_000
    max_memory_bytes: int = DEFAULT_MAX_BYTES
    pushdown: PushdownMode = PushdownMode.AUTO
    max_head_bytes: int = 512 << 20
    backlog: BacklogLimits = field(default_factory=BacklogLimits)
    drains: DrainOptions = field(default_factory=DrainOptions)
    now_ms: Callable[[], int] = wall_clock_ms
    alert_max_sample_age_ms: int = 0
    retention_days: int | None = None
    rollup_retention_days: int | None = None
    coarse_rollups: bool = False
