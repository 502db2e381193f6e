"""Takes runs and blocks out of their tables, and writes others in their place."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import numpy as np

from promcompat.core.model import IntArray
from sql.database.connection_pool import Connection
from sql.samples.codec.page_decoding import CorruptPageError, decode_pages
from sql.samples.codec.page_kernels import MIN_MS
from sql.samples.columns.fold import Deletion
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.drain_transaction import ChangedMeanwhileError
from sql.samples.tables.block_table import (
    FINAL_LEVEL,
    QUERIES,
    BlockRow,
    Origin,
    RunRow,
    insert_blocks,
    insert_runs,
)
from sql.samples.tables.damaged_pages import damaged_page

_BYTES_OF_A_SAMPLE: Final = 4
"""Most floats take less in a page, and a histogram more than ten times as much."""


@dataclass(frozen=True, slots=True)
class StoredPage:
    """A run or a block without its payload.

    `id` is that of a run, or where the block is in its partition (its ctid), which is right until
    the transaction ends: only holders of the lock of drains change blocks. `n_bytes` is the size of
    the payload, 0 where nobody asked.
    """

    is_block: bool
    id: int | str
    origin: Origin
    n_samples: int
    first_series: int
    last_series: int
    first_ms: int
    last_ms: int
    n_bytes: int = 0

    @classmethod
    def of(cls, row: Sequence[Any], *, is_block: bool) -> "StoredPage":
        """The page of a row: id, the columns of the origin, the number of samples, the bounds.

        The number of bytes may follow.
        """
        return cls(is_block, row[0], Origin(*row[1:8]), *row[8:14])

    @property
    def weight(self) -> int:
        """How many samples it counts as: histograms, which take many bytes, as several."""
        return max(self.n_samples, self.n_bytes // _BYTES_OF_A_SAMPLE)

    @property
    def key(self) -> tuple[int, int]:
        """No sample of the page comes before this series and time."""
        return self.first_series, self.first_ms


@dataclass(slots=True)
class Written:
    """What is written in place of the pages taken."""

    runs: list[RunRow] = field(default_factory=list)
    blocks: list[BlockRow] = field(default_factory=list)
    n_conflicts: int = 0


async def take_pages(
    connection: Connection, pages: Sequence[StoredPage]
) -> list[tuple[StoredPage, bytes]]:
    """Delete exactly these rows; returns them with their payloads, in arrival order.

    Raises ChangedMeanwhileError when one of them is gone.
    """
    runs = {page.id: page for page in pages if not page.is_block}
    taken = await connection.fetch(QUERIES["take_runs"], list(runs))
    found = [(runs[run_id], payload) for run_id, payload in taken]
    for slot, blocks in _by_slot(page for page in pages if page.is_block):
        found += await _take_blocks(connection, slot, blocks)
    if len(found) != len(pages):
        raise ChangedMeanwhileError(
            f"{len(found)} pages are left of {len(pages)} that were read; nothing was changed"
        )
    return sorted(found, key=lambda taken: taken[0].origin.last_arrival)


def samples_of(
    taken: Sequence[tuple[StoredPage, bytes]], after_ms: int = MIN_MS - 1
) -> list[SeriesSamples]:
    """The samples of each page after a time. Raises StoredPageError, which names a damaged one."""
    try:
        return decode_pages([payload for _, payload in taken], None, after_ms)
    except CorruptPageError as exc:
        page = taken[exc.index][0]
        raise damaged_page(
            is_block=page.is_block,
            first_series=page.first_series,
            first_ms=page.first_ms,
            last_arrival=page.origin.last_arrival,
            reason=exc.reason,
        ) from exc


async def _take_blocks(
    connection: Connection, slot: int, blocks: Sequence[StoredPage]
) -> list[tuple[StoredPage, bytes]]:
    by_place = {page.id: page for page in blocks}
    taken = await connection.fetch(QUERIES["take_blocks"], list(by_place), slot)
    return [(by_place[place], payload) for place, payload in taken]


async def write_pages(
    connection: Connection, taken: Sequence[StoredPage], written: Written
) -> None:
    """Write pages in place of others, and count the blocks of each slot.

    A slot needs its partition, see `create_block_partition`.
    """
    await insert_runs(connection, written.runs)
    before = _block_counts((page.origin, page.n_samples) for page in taken if page.is_block)
    after = _block_counts((row.origin, row.page.n_samples) for row in written.blocks)
    await insert_blocks(connection, written.blocks)
    for group in sorted(before.keys() | after.keys()):
        change = after.get(group, _NO_BLOCKS) - before.get(group, _NO_BLOCKS)
        await connection.execute(QUERIES["count_blocks"], *group, *change.tolist())


_NO_BLOCKS: Final = np.zeros(3, np.int64)


def _block_counts(blocks: Iterable[tuple[Origin, int]]) -> Mapping[tuple[int, int], IntArray]:
    """By tenant and slot: samples and number of unmerged blocks, and samples of merged ones."""
    counts: dict[tuple[int, int], IntArray] = {}
    for origin, n_samples in blocks:
        is_merged = origin.level >= FINAL_LEVEL
        change = np.array([0, 0, n_samples] if is_merged else [n_samples, 1, 0], np.int64)
        group = (origin.tenant_id, origin.slot)
        counts[group] = counts.get(group, _NO_BLOCKS) + change
    return counts


def _by_slot(pages: Iterable[StoredPage]) -> Iterable[tuple[int, list[StoredPage]]]:
    slot_of_page = attrgetter("origin.slot")
    for slot, group in groupby(sorted(pages, key=slot_of_page), slot_of_page):
        yield slot, list(group)


async def deletions_of(connection: Connection, tenant_id: int) -> list[Deletion]:
    """The deletions of a tenant that are in force, in their order."""
    rows = await connection.fetch(QUERIES["deletions"], tenant_id)
    return [
        Deletion(
            row["arrival_id"],
            None if row["series_ids"] is None else np.array(row["series_ids"], np.int64),
            row["first_ms"],
            row["last_ms"],
        )
        for row in rows
    ]
