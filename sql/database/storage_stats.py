"""Counters of the storage adapter; the telemetry publishes them."""

from dataclasses import dataclass


@dataclass(slots=True)
class StorageStats:
    """Totals since the storage was opened, which only grow.

    But for `rows_waiting`, `undrained_bytes` and `rollup_cache_bytes`, which say what is now.

    `rows_committed` counts rows in acknowledged commits, duplicates of stored rows included.
    `commits` and `commit_seconds` give the mean commit. `rollups_unreadable` counts selections that
    needed a damaged rollup.
    """

    rows_committed: int = 0
    commits: int = 0
    commit_seconds: float = 0.0
    failed_commits: int = 0
    rows_rejected: int = 0
    samples_past_retention: int = 0
    rows_waiting: int = 0
    undrained_bytes: int = 0
    series_cache_hits: int = 0
    series_cache_misses: int = 0
    series_resolved: int = 0
    series_resolve_seconds: float = 0.0
    selections: int = 0
    samples_selected: int = 0
    select_seconds: float = 0.0
    selector_cache_hits: int = 0
    selector_cache_misses: int = 0
    rollups_unreadable: int = 0
    rollup_cache_hits: int = 0
    rollup_cache_misses: int = 0
    rollup_cache_bytes: int = 0
