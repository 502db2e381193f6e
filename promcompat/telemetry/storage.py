"""The metrics of the store: writes, reads, the head, drains and merges."""

from collections.abc import Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Gauge

from promcompat.telemetry.instruments import Totals

_STORAGE_COUNTERS = {
    "rows_committed": "Sample rows in committed transactions, including repeated rows.",
    "commits": "Committed transactions with sample rows.",
    "commit_seconds": "Time spent in transactions with sample rows.",
    "failed_commits": "Failed transactions with sample rows; their senders got an error.",
    "rows_rejected": "Samples not stored because their series has a different value at the same "
    "time.",
    "samples_past_retention": "Samples that were accepted, and are older than anything that their "
    "tenant keeps, so that nobody sees them.",
    "series_cache_hits": "Rows whose series id was cached.",
    "series_cache_misses": "Rows whose series id was not cached.",
    "series_resolved": "Series ids looked up in the database.",
    "series_resolve_seconds": "Time spent looking up series ids.",
    "selections": "Selectors read for queries.",
    "samples_selected": "Samples read for selectors.",
    "select_seconds": "Time spent reading selectors.",
    "selector_cache_hits": "Selectors whose series were cached.",
    "selector_cache_misses": "Selectors whose series were not cached.",
    "rollups_unreadable": "Selectors that needed a damaged rollup; their samples are read instead, "
    "or the query fails if these are no longer kept.",
    "rollup_cache_hits": "Selectors whose rollups were still in memory.",
    "rollup_cache_misses": "Selectors whose rollups had to be read.",
}
_HEAD_COUNTERS = {
    "syncs": "Times the head asked the database what had arrived.",
    "sync_seconds": "Time spent on that, decoding included.",
    "arrivals": "Arrivals read by the head.",
    "merges": "Merges of segments of the head.",
    "evictions": "Segments given up because the head was full; queries read their samples from the "
    "database.",
    "resets": "Times the head was dropped because the database was restarted or restored.",
    "unreadable": "Arrivals whose samples the head could not decode.",
    "cache_hits": "Reads of drained samples that were still in memory.",
    "cache_misses": "Reads of drained samples that had to ask the database.",
}
_HEAD_GAUGES: Final[Mapping[str, tuple[str, Literal["livesum", "livemax"]]]] = {
    "segments": ("Segments of samples in the head.", "livesum"),
    "samples": ("Samples in the head.", "livesum"),
    "bytes_held": ("Bytes of memory that the samples in the head take.", "livesum"),
    "cache_bytes": ("Bytes of memory that drained samples take that were read lately.", "livesum"),
    "lag_arrivals": ("Arrivals that the last sync brought.", "livemax"),
    "lag_seconds": ("Time since the last sync; the maximum over all workers.", "livemax"),
}
_DRAIN_COUNTERS = {
    "drains": "Transactions that moved arrivals into runs or rows.",
    "arrivals_drained": "Arrivals moved into runs or rows.",
    "samples_drained": "Samples of these arrivals.",
    "conflicts_resolved": "Samples dropped because another value arrived for the same time.",
    "arrivals_set_aside": "Arrivals that could not be moved; queries still read them.",
    "arrivals_moved_later": "Arrivals that were set aside and have been moved since.",
    "drain_seconds": "Time spent in drains.",
    "merges": "Merges of runs and blocks.",
    "merges_given_up": "Tenants and days that cannot be merged; queries still read them.",
    "rollup_steps": "Transactions that computed rollups.",
    "rollups_given_up": "Days that cannot be rolled up; queries read their samples.",
    "samples_rolled_up": "Samples that rollups were computed from.",
    "rollup_seconds": "Seconds spent on computing rollups.",
    "samples_merged": "Samples written by merges.",
    "merge_seconds": "Time spent in merges.",
    "pages_unreadable": "Queries that failed because a stored page is damaged.",
}


class StorageMetrics:
    """What the storage adapter did."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._totals = Totals("promcompat_storage", _STORAGE_COUNTERS, registry)
        self._undrained_bytes = Gauge(
            "promcompat_storage_undrained_bytes",
            "Memory that samples need which are not in blocks or rows yet, as last measured for a "
            "write; the maximum over all workers.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._rows_waiting = Gauge(
            "promcompat_storage_rows_waiting",
            "Rows accepted but not yet committed.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._rollup_cache_bytes = Gauge(
            "promcompat_storage_rollup_cache_bytes",
            "Bytes of memory that rollups take that were read lately.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def update(self, totals: Mapping[str, float]) -> None:
        """Publish totals that only grow, and what the others are now."""
        self._totals.follow(totals)
        self._rollup_cache_bytes.set(totals.get("rollup_cache_bytes", 0.0))
        self._rows_waiting.set(totals.get("rows_waiting", 0.0))
        self._undrained_bytes.set(totals.get("undrained_bytes", 0.0))


class SampleStoreMetrics:
    """What the store holds in memory, and what it moves from arrivals into blocks or rows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._head = Totals("promcompat_head", _HEAD_COUNTERS, registry)
        self._drains = Totals("promcompat_blocks", _DRAIN_COUNTERS, registry)
        self._gauges = {
            name: Gauge(f"promcompat_head_{name}", text, registry=registry, multiprocess_mode=mode)
            for name, (text, mode) in _HEAD_GAUGES.items()
        }

    def update_head(self, stats: Mapping[str, float]) -> None:
        """Publish the totals of the head, and what it holds at this moment."""
        self._head.follow(stats)
        for name, gauge in self._gauges.items():
            gauge.set(stats[name])

    def update_drains(self, totals: Mapping[str, float]) -> None:
        """Publish totals of drains and merges."""
        self._drains.follow(totals)
