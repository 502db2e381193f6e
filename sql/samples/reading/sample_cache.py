"""Samples that earlier queries read, for as long as no write can have changed them.

Prometheus answers from memory what it scraped in the last hours; the same samples come out of
PostgreSQL at 2 to 3 million rows a second each time. Kept are samples old enough that a write of
others like them is counted (docs/adr/0010-range-result-cache.md has the argument, which is the
same for samples as for results). New series need no count: their first samples are either young,
or late and counted. Entries are immutable, so that queries may use them side by side.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from promcompat.core.model import SeriesSelection
from promql.budget import BYTES_PER_SAMPLE
from sql.caching.late_writes import ReadState
from sql.caching.selector_cache import SelectorKey
from sql.catalog import MS_PER_DAY
from sql.database.storage_stats import StorageStats
from sql.samples.columns.series_samples import SeriesSamples

_EXTENDED_AFTER_MS: Final = 120_000
"""Adding to an entry copies it; a read of two more minutes takes less than that each time."""
_BYTES_PER_ENTRY: Final = 1_000
_LARGEST_SHARE: Final = 2
"""A day of 1,000 series at 15 s takes 92 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedSamples:
    """All samples of a selector's series in `(after_ms, until_ms]`, and the late writes in them.

    `asked_after_ms` is the earliest start that was asked for since the entry was made.
    """

    epoch: int
    after_ms: int
    until_ms: int
    samples: SeriesSamples
    late_writes: Mapping[int, int]
    asked_after_ms: int

    @property
    def n_bytes(self) -> int:
        """What the entry takes in memory."""
        return self.samples.n_bytes + _BYTES_PER_ENTRY

    def has_half_of(self, start_ms: int, end_ms: int) -> bool:
        """Whether at least the first half of `(start_ms, end_ms]` is here.

        For less, reading may leave more samples out than there are here.
        """
        n_ms = min(self.until_ms, end_ms) - start_ms
        return self.after_ms <= start_ms and 0 < end_ms - start_ms <= 2 * n_ms

    def is_valid(self, start_ms: int, end_ms: int, state: ReadState) -> bool:
        """Whether nothing in `(start_ms, end_ms]` and this entry was changed since it was read."""
        if self.epoch != state.epoch:
            return False
        first = max(start_ms, self.after_ms) // MS_PER_DAY
        last = min(end_ms, self.until_ms) // MS_PER_DAY
        known = {day: n for day, n in self.late_writes.items() if first <= day <= last}
        found = {day: n for day, n in state.late_writes.items() if first <= day <= last}
        return known == found


class SampleCache:
    """Cached samples by selector, at most `max_bytes`, the least recently used thrown out first."""

    def __init__(self, max_bytes: int, stats: StorageStats) -> None:
        self._max_bytes = max_bytes
        self._largest_entry = max_bytes // _LARGEST_SHARE
        self._stats = stats
        self._n_bytes = 0
        self._entries: OrderedDict[SelectorKey, CachedSamples] = OrderedDict()

    @property
    def is_enabled(self) -> bool:
        """Whether anything is ever kept."""
        return self._max_bytes > 0

    @property
    def most_samples(self) -> int:
        """About how many samples one entry can have."""
        return self._max_bytes // _LARGEST_SHARE // BYTES_PER_SAMPLE

    def get(
        self, key: SelectorKey, selection: SeriesSelection, state: ReadState
    ) -> CachedSamples | None:
        """The entry that has the first half of a selection's samples or more; None otherwise."""
        start_ms, end_ms = selection.start_ms, selection.end_ms
        found = self._entries.get(key)
        if found is not None and not found.is_valid(start_ms, end_ms, state):
            self._remove(key)
            found = None
        if found is None or not found.has_half_of(start_ms, end_ms):
            self._stats.sample_cache_misses += 1
            return None
        self._entries.move_to_end(key)
        self._stats.sample_cache_hits += 1
        if start_ms < found.asked_after_ms:
            self._entries[key] = replace(found, asked_after_ms=start_ms)
        return found

    def add(
        self,
        key: SelectorKey,
        selection: SeriesSelection,
        samples: SeriesSamples,
        state: ReadState,
    ) -> None:
        """Keep what a selection read, as far as it is old enough, if that is half of it."""
        until_ms = min(selection.end_ms, state.horizon_ms)
        if selection.end_ms - until_ms > until_ms - selection.start_ms:
            # Less than half of the next one like it (`has_half_of`), as of most alert rules.
            return
        if samples.n_bytes > self._largest_entry:
            # Before some of it is copied.
            self._remove(key)
            return
        entry = CachedSamples(
            epoch=state.epoch,
            after_ms=selection.start_ms,
            until_ms=until_ms,
            samples=samples.between(selection.start_ms, until_ms),
            late_writes=state.late_writes,
            asked_after_ms=selection.start_ms,
        )
        known = self._entries.get(key)
        if known is None or not known.after_ms <= entry.after_ms < entry.until_ms <= known.until_ms:
            self.put(key, entry)

    def extended(
        self,
        entry: CachedSamples,
        selection: SeriesSelection,
        later: SeriesSamples,
        state: ReadState,
    ) -> CachedSamples | None:
        """An entry with what a selection read beyond it, once that is worth it; for `put`.

        Samples that nobody asked for since the entry was made are let go. Pure, for a thread.
        """
        until_ms = min(selection.end_ms, state.horizon_ms)
        if until_ms - entry.until_ms < _EXTENDED_AFTER_MS:
            return None
        after_ms = min(entry.asked_after_ms, selection.start_ms)
        kept = entry.samples.between(after_ms, entry.until_ms)
        return CachedSamples(
            epoch=entry.epoch,
            after_ms=after_ms,
            until_ms=until_ms,
            samples=kept.then(later.between(entry.until_ms, until_ms)),
            # Days the entry has and this query did not look at keep the counts they had.
            late_writes={**entry.late_writes, **state.late_writes},
            asked_after_ms=selection.start_ms,
        )

    def put(self, key: SelectorKey, entry: CachedSamples) -> None:
        """Keep an entry instead of the one there was, unless it alone would take too much."""
        self._remove(key)
        if entry.n_bytes > self._largest_entry:
            return
        self._entries[key] = replace(entry, samples=_read_only(entry.samples))
        self._n_bytes += entry.n_bytes
        while self._n_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: SelectorKey) -> None:
        removed = self._entries.pop(key, None)
        if removed is not None:
            self._n_bytes -= removed.n_bytes


def _read_only(samples: SeriesSamples) -> SeriesSamples:
    """The samples in read-only views, because an answer may be these very arrays.

    The arrays themselves stay writable: others hold them too (`NO_SAMPLES` is everybody's), and a
    kernel that is declared for writable arrays refuses read-only ones.
    """
    timestamps, values = samples.timestamps.view(), samples.values.view()
    timestamps.setflags(write=False)
    values.setflags(write=False)
    return replace(samples, timestamps=timestamps, values=values)
