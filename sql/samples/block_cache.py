"""Selections that were read since anything in the database changed.

The panels of a dashboard, and the rules of a group, are evaluated one right after the other and
look at the same series up to now. No horizon makes the newest samples safe to keep
(`sql.samples.sample_cache`), but the database itself says when nothing happened: two snapshots
with equal text, `xmin:xmax:xip_list`, show the same rows, because whoever changes one takes a
transaction id and ends. See https://www.postgresql.org/docs/current/functions-info.html
(`pg_snapshot`).
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

from promcompat.core.model import SampleBlock, SeriesSelection
from sql.database.storage_stats import StorageStats

_LARGEST_SHARE: Final = 4
_BYTES_PER_BLOCK: Final = 1_000


class BlockCache:
    """Blocks of one snapshot; those of the snapshot before are thrown out with its successor."""

    def __init__(self, max_bytes: int, stats: StorageStats) -> None:
        """0 keeps nothing."""
        self._max_bytes = max_bytes
        self._stats = stats
        self._n_bytes = 0
        self._snapshot = ""
        self._blocks: OrderedDict[Hashable, SampleBlock] = OrderedDict()

    def get(self, tenant_id: int, selection: SeriesSelection, snapshot: str) -> SampleBlock | None:
        """The block of a selection, if it was read under a snapshot like the one read just now."""
        if snapshot != self._snapshot:
            return None
        found = self._blocks.get(_span_of(tenant_id, selection))
        if found is None:
            found = self._blocks.get((tenant_id, selection))
        self._stats.block_cache_hits += found is not None
        return found

    def add(
        self,
        tenant_id: int,
        selection: SeriesSelection,
        snapshot: str,
        block: SampleBlock,
        *,
        is_all: bool,
    ) -> None:
        """Remember a block that was read after the snapshot was.

        `is_all`: it has every sample of the selection, whatever they are to be used for.
        """
        n_bytes = _n_bytes_of(block)
        if n_bytes > self._max_bytes // _LARGEST_SHARE:
            return
        if snapshot != self._snapshot:
            self._blocks.clear()
            self._snapshot, self._n_bytes = snapshot, 0
        key = _span_of(tenant_id, selection) if is_all else (tenant_id, selection)
        if key in self._blocks:
            return
        for column in (block.timestamps, block.values, block.offsets):
            column.setflags(write=False)
        self._blocks[key] = block
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes:
            _, removed = self._blocks.popitem(last=False)
            self._n_bytes -= _n_bytes_of(removed)


def _n_bytes_of(block: SampleBlock) -> int:
    """What a block takes; its labels are those of the cache of labels."""
    counts = 0 if block.counts is None else block.counts.nbytes
    columns = block.timestamps.nbytes + block.values.nbytes + counts
    return _BYTES_PER_BLOCK + columns + 2 * block.offsets.nbytes


def _span_of(tenant_id: int, selection: SeriesSelection) -> Hashable:
    return tenant_id, selection.matchers, selection.start_ms, selection.end_ms
