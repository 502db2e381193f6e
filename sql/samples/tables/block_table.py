"""The tables of what is stored for good: runs, and blocks by slot."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import BoolArray, IntArray
from sql.database.connection_pool import Connection
from sql.query_loader import load_queries
from sql.samples.codec.page_encoding import (
    MAX_PAGE_BYTES,
    MAX_PAGE_SAMPLES,
    Page,
    encode_pages,
)
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.tables.block_groups import group_of, group_pages
from sql.samples.tables.slots import FAR_SLOT, slot_of
from sql.times import MS_PER_DAY

QUERIES: Final = load_queries("blocks")
NEAR_DAYS_BACK: Final = 32
NEAR_DAYS_AHEAD: Final = 2
MIN_BLOCK_SAMPLES: Final = 240
"""Fewer samples of a series and day stay in runs: a row of their own would cost more."""
FINAL_LEVEL: Final = 100
"""The first level of what was merged after the end of its day."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the samples of a run or block come from, and what was done to them; see the table."""

    tenant_id: int
    slot: int
    level: int
    replaces: bool
    first_arrival: int
    last_arrival: int
    deleted_through: int


@dataclass(frozen=True, slots=True)
class RunRow:
    """A row of `sample_run`."""

    origin: Origin
    n_series: int
    page: Page


@dataclass(frozen=True, slots=True)
class BlockRow:
    """A row of `sample_block`."""

    origin: Origin
    page: Page

    @property
    def key(self) -> int:
        """The `series_id`: that of its only series, or the least id of their group."""
        first = self.page.first_series
        return first if first == self.page.last_series else group_of(first)


def run_rows(origin: Origin, samples: SeriesSamples) -> list[RunRow]:
    """The samples as pages of many series."""
    if not len(samples):
        return []
    pages = encode_pages(samples, MAX_PAGE_SAMPLES, MAX_PAGE_BYTES)
    firsts = np.searchsorted(samples.ids, [page.first_series for page in pages])
    lasts = np.searchsorted(samples.ids, [page.last_series for page in pages])
    counts = (lasts - firsts + 1).tolist()
    return [RunRow(origin, n, page) for n, page in zip(counts, pages, strict=True)]


def block_rows(origin: Origin, samples: SeriesSamples, *, is_apart: bool = False) -> list[BlockRow]:
    """The samples as blocks, each of one UTC day, and of one group of series (`block_groups`).

    Blocks far from now have one series each, as those that are `is_apart`: retention deletes them
    by the metric.
    """
    rows = []
    for _, of_day in by_day(samples):
        if is_apart or origin.slot == FAR_SLOT:
            pages = encode_pages(of_day, MAX_PAGE_SAMPLES, MAX_PAGE_BYTES, per_series=True)
        else:
            pages = group_pages(of_day, MAX_PAGE_SAMPLES, MAX_PAGE_BYTES)
        rows += [BlockRow(origin, page) for page in pages]
    return rows


def by_day(samples: SeriesSamples) -> Iterator[tuple[int, SeriesSamples]]:
    """The samples of each UTC day, as days since 1970-01-01."""
    if not len(samples):
        return
    days = samples.timestamps // MS_PER_DAY
    found = distinct_days(days)
    if len(found) == 1:
        yield found[0], samples
        return
    for day in found:
        yield day, samples.where(days == day)


def distinct_days(days: IntArray) -> list[int]:
    """The distinct elements, ascending; of days that are close to each other without sorting."""
    first, last = int(days.min()), int(days.max())
    if last - first > len(days):
        return [int(day) for day in distinct(days)]
    return [first + int(index) for index in np.flatnonzero(np.bincount(days - first))]


def by_slot(
    samples: SeriesSamples, near_days: Collection[int], retention_class: int = 0
) -> Iterator[tuple[int, SeriesSamples]]:
    """Samples of one class: those of each near day, and those of all other days as FAR_SLOT."""
    if not len(samples):
        return
    days = samples.timestamps // MS_PER_DAY
    found = distinct_days(days)
    near = [day for day in found if day in near_days]
    if len(found) == 1:
        yield (slot_of(near[0], retention_class) if near else FAR_SLOT), samples
        return
    for day in near:
        yield slot_of(day, retention_class), samples.where(days == day)
    if len(near) < len(found):
        yield FAR_SLOT, samples.where(~np.isin(days, near))


def worth_a_block(samples: SeriesSamples) -> BoolArray:
    """Whether the series and UTC day of each sample have enough samples for a block."""
    days = samples.timestamps // MS_PER_DAY
    is_first = np.diff(days, prepend=days[:1] - 1) != 0
    is_first[samples.offsets[:-1]] = True
    starts = np.flatnonzero(is_first)
    sizes = np.diff(np.append(starts, len(days)))
    return np.repeat(sizes >= MIN_BLOCK_SAMPLES, sizes)


async def insert_runs(connection: Connection, rows: Sequence[RunRow]) -> None:
    """Insert runs of any tenants and slots, in one statement."""
    columns = _columns((row.origin, row.page, row.n_series) for row in rows)
    if columns:
        await connection.execute(QUERIES["insert_runs"], *columns)


async def insert_blocks(connection: Connection, rows: Sequence[BlockRow]) -> None:
    """Insert blocks; their slots need partitions, see `create_block_partition`.

    The first blocks of a slot make another state of what is drained: a statement that was planned
    before the partition was made sees either the state before, or this one and not the blocks.
    """
    columns = _columns((row.origin, row.page, row.key) for row in rows)
    if not columns:
        return
    for slot in sorted({row.origin.slot for row in rows}):
        await connection.execute(QUERIES["note_first_blocks"], slot)
    await connection.execute(QUERIES["insert_blocks"], *columns)


def _columns(rows: Iterable[tuple[Origin, Page, *tuple[object, ...]]]) -> list[tuple[object, ...]]:
    """The columns that runs and blocks share, and those that follow; none without rows."""
    return list(
        zip(
            *(
                (
                    origin.slot,
                    origin.tenant_id,
                    origin.level,
                    origin.replaces,
                    origin.first_arrival,
                    origin.last_arrival,
                    origin.deleted_through,
                    page.n_samples,
                    page.first_series,
                    page.last_series,
                    page.first_ms,
                    page.last_ms,
                    page.payload,
                    *more,
                )
                for origin, page, *more in rows
            ),
            strict=True,
        )
    )
