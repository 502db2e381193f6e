"""What compaction does next: which runs and blocks of which tenant and slot are merged.

Runs of a tenant and slot form layers, one for each drain or merge. Eight layers of a level are
merged into one of the next level, so a sample is rewritten once for each power of eight of what
there is, however late it came. A merge of all layers also moves series that have enough samples
into blocks. An hour after the end of a day, its runs and blocks are merged once more (the final
merge), and again when late samples have added an eighth to them. Far days share one slot, whose
blocks are merged when new ones have added half to them. Final merges wait while samples still come:
otherwise an import would rewrite a day at each eighth that it adds.
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final

from sql.samples.codec.page_encoding import MAX_PAGE_SAMPLES
from sql.samples.tables.block_groups import SAMPLES_TOGETHER, SERIES_TOGETHER
from sql.samples.tables.block_table import FINAL_LEVEL
from sql.samples.tables.slots import FAR_SLOT, day_of_slot
from sql.times import MS_PER_DAY, MS_PER_HOUR

_LAYERS_MERGED: Final = 8
_LATE_SHARE: Final = 8
"""A final merge is due again when late samples are at least 1/8 of the merged ones."""
_FAR_SHARE: Final = 2
"""1/2 for far days. They have no end after which little comes, so a merge has to be worth more: a
sample of a long backfill is rewritten about three times."""
_SETTLED_MS: Final = MS_PER_HOUR
"""How long after its end a day is merged: the last samples of the day have arrived by then."""
_QUIET_SECONDS: Final = 300.0
"""A slot without a new arrival for so long is no longer being filled."""
_PATIENCE_SECONDS: Final = 3600.0
"""A final merge waits no longer than this, even if samples still come."""
_FULL_SAMPLES: Final = SERIES_TOGETHER * SAMPLES_TOGETHER // 2
_FULL_FAR_SAMPLES: Final = MAX_PAGE_SAMPLES // 2
"""Blocks with so many samples need no merge; far ones have one series each."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Runs of one tenant and slot that were written by the same drain or merge."""

    tenant_id: int
    slot: int
    last_arrival: int
    level: int
    n_samples: int


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a tenant and slot is in blocks."""

    tenant_id: int
    slot: int
    unmerged_samples: int
    unmerged_blocks: int
    merged_samples: int


Key = tuple[int, int]
"""A tenant and a slot."""


@dataclass(frozen=True, slots=True)
class _Filling:
    """What was seen of a slot that has something unmerged; times are the clock's seconds."""

    last_arrival: int
    """The newest arrival of its unmerged runs."""
    at: float
    """When that arrival was first seen."""
    since: float
    """When something unmerged was first seen."""


class FillingSlots:
    """The slots that samples still come to, by what this process has seen.

    A slot is one of them if its runs had a new arrival within the last five minutes, and if it has
    had something unmerged for less than an hour.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._clock = clock
        self._seen: dict[Key, _Filling] = {}

    def see(self, layers: Sequence[Layer], extents: Sequence[Extent]) -> Collection[Key]:
        """The slots that are being filled, given all layers and extents that there are now."""
        now, newest = self._clock(), dict[Key, int]()
        for extent in extents:
            # Runs may have become blocks, which keep the slot known; they are no new arrival.
            if extent.unmerged_samples and (extent.tenant_id, extent.slot) in self._seen:
                newest[extent.tenant_id, extent.slot] = -1
        for layer in layers:
            if layer.level < FINAL_LEVEL:
                key = layer.tenant_id, layer.slot
                newest[key] = max(layer.last_arrival, newest.get(key, -1))
        self._seen = {key: self._next(key, last, now) for key, last in newest.items()}
        return {
            key
            for key, seen in self._seen.items()
            if now - seen.at < _QUIET_SECONDS and now - seen.since < _PATIENCE_SECONDS
        }

    def forget(self, tenant_id: int, slot: int) -> None:
        """The final merge of a slot has ended; what comes from now on may wait an hour again."""
        self._seen.pop((tenant_id, slot), None)

    def _next(self, key: Key, last_arrival: int, now: float) -> _Filling:
        seen = self._seen.get(key)
        if seen is None:
            return _Filling(last_arrival, now, now)
        if last_arrival <= seen.last_arrival:
            return seen
        return _Filling(last_arrival, now, seen.since)


@dataclass(frozen=True, slots=True)
class Job:
    """A merge of the runs of a tenant and slot up to a level.

    Of the runs, it takes those with arrivals after `after`, up to `through`. `makes_blocks`: no run
    is left out, so series with enough samples become blocks. `is_final`: the day has ended or is
    far, and its blocks are merged as well; the level and the last arrival are those at its begin.
    """

    tenant_id: int
    slot: int
    max_level: int
    through: int
    makes_blocks: bool
    is_final: bool = False
    after: int = -1

    @property
    def out_level(self) -> int:
        """The level of what the merge writes; that of a final merge only if it is one."""
        return self.max_level + 1 if self.is_final else min(self.max_level + 1, FINAL_LEVEL - 1)


def due_jobs(
    layers: Sequence[Layer],
    extents: Sequence[Extent],
    aside: Mapping[int, int],
    now_ms: int,
    filling: Collection[Key] = (),
) -> Iterator[Job]:
    """The jobs that are due, in their order; `layers` are sorted by tenant, slot and arrival.

    `aside` has the newest arrival set aside of tenants that have any: nothing is merged across it,
    as its samples would come into another order. Slots that are `filling` have no final merge.
    """
    groups = {key: list(group) for key, group in groupby(layers, attrgetter("tenant_id", "slot"))}
    yield from _layer_jobs(groups, aside)
    ended_day = (now_ms - _SETTLED_MS) // MS_PER_DAY
    for extent in extents:
        key = extent.tenant_id, extent.slot
        if day_of_slot(extent.slot) < ended_day and extent.tenant_id not in aside:
            of_day = groups.get(key, [])
            if key not in filling and _is_final_merge_due(extent, of_day):
                yield Job(extent.tenant_id, extent.slot, 0, 0, True, is_final=True)


def _layer_jobs(groups: Mapping[Key, Sequence[Layer]], aside: Mapping[int, int]) -> Iterator[Job]:
    for (tenant_id, slot), layers in groups.items():
        newest_aside = aside.get(tenant_id, -1)
        open_layers = [
            layer
            for layer in layers
            if layer.level < FINAL_LEVEL and layer.last_arrival > newest_aside
        ]
        level = _crowded_level(open_layers)
        if level is not None:
            through = max(layer.last_arrival for layer in open_layers)
            is_all = level == max(layer.level for layer in open_layers)
            makes_blocks = is_all and newest_aside < 0
            yield Job(tenant_id, slot, level, through, makes_blocks, after=newest_aside)


def _crowded_level(layers: Sequence[Layer]) -> int | None:
    """The level up to which layers are merged: the highest that has enough of them.

    Higher levels are merged with it as long as they are not larger than what is merged anyway.
    """
    found = None
    n_merged = 0
    for level in sorted({layer.level for layer in layers}):
        of_level = [layer for layer in layers if layer.level == level]
        n_samples = sum(layer.n_samples for layer in of_level)
        is_small = found is not None and n_samples <= n_merged
        if is_small or len({layer.last_arrival for layer in of_level}) >= _LAYERS_MERGED:
            found = level
        n_merged += n_samples
    return found


def _is_final_merge_due(extent: Extent, layers: Sequence[Layer]) -> bool:
    full = _FULL_FAR_SAMPLES if extent.slot == FAR_SLOT else _FULL_SAMPLES
    are_full = extent.unmerged_samples >= extent.unmerged_blocks * full
    if extent.slot == FAR_SLOT:
        return not are_full and extent.unmerged_samples * _FAR_SHARE >= extent.merged_samples
    late = sum(layer.n_samples for layer in layers if layer.level < FINAL_LEVEL)
    settled = extent.merged_samples + sum(
        layer.n_samples for layer in layers if layer.level >= FINAL_LEVEL
    )
    if are_full:
        settled += extent.unmerged_samples
    else:
        late += extent.unmerged_samples
    return late > 0 and late * _LATE_SHARE >= settled
