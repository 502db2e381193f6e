"""Works off deletions: removes their samples from runs and blocks, some pages in a transaction."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sql.database.connection_pool import Connection
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.draining.page_moves import (
    StoredPage,
    Written,
    deletions_of,
    samples_of,
    take_pages,
    write_pages,
)
from sql.samples.tables.block_table import QUERIES, block_rows, run_rows
from sql.samples.tables.slots import FAR_SLOT, slots_between

_MAX_PAGES: Final = 2_000


async def work_off_deletion(
    connection: Connection, deletion: Sequence[Any], max_samples: int
) -> int:
    """Apply a row of `oldest_deletion` to some pages; returns how many samples they had.

    Pages are rewritten where they are: the order of arrivals stays the same. Once no page is left,
    the deletion is forgotten.
    """
    arrival_id, tenant_id, *_ = deletion
    pages = await _affected_pages(connection, deletion, max_samples)
    if not pages:
        await connection.execute(QUERIES["finish_deletion"], arrival_id)
        return 0
    taken = await take_pages(connection, pages)
    deletions = await deletions_of(connection, tenant_id)
    through = await connection.fetchval(QUERIES["deletions_applied_through"], tenant_id)
    written = await asyncio.to_thread(_without_deleted, taken, deletions, through)
    await write_pages(connection, pages, written)
    return sum(page.n_samples for page in pages)


async def _affected_pages(
    connection: Connection, row: Sequence[Any], max_samples: int
) -> list[StoredPage]:
    """Pages that the deletion still has to be applied to, with about so many samples."""
    arrival_id, tenant_id, series_ids, first_ms, last_ms = row
    scope = (tenant_id, arrival_id, series_ids, first_ms, last_ms, _MAX_PAGES)
    pages: list[StoredPage] = []
    for is_block, name, more in (
        (False, "deletion_runs", ()),
        (True, "deletion_blocks", slots_between(first_ms, last_ms)),
        (True, "deletion_blocks", (FAR_SLOT, FAR_SLOT)),
    ):
        found = await connection.fetch(QUERIES[name], *scope, *more)
        pages += [StoredPage.of(page, is_block=is_block) for page in found]
    n_samples = 0
    for index, page in enumerate(pages):
        n_samples += page.weight
        if n_samples >= max_samples:
            return pages[: index + 1]
    return pages


def _without_deleted(
    taken: Sequence[tuple[StoredPage, bytes]], deletions: Sequence[Deletion], through: int
) -> Written:
    written = Written()
    for (page, _), samples in zip(taken, samples_of(taken), strict=True):
        origin = page.origin
        piece = Piece(samples, origin.first_arrival, origin.last_arrival, origin.replaces)
        kept = fold([piece], deletions)
        origin = replace(origin, deleted_through=max(origin.deleted_through, through))
        if page.is_block:
            written.blocks += block_rows(origin, kept)
        else:
            written.runs += run_rows(origin, kept)
    return written
