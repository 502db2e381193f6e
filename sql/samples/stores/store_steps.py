"""The steps of maintenance that every store has; see `MaintenanceStep`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.maintenance import StepNotes
from promcompat.core.model import IntArray
from promcompat.core.ports import MaintenanceStep
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.driver_errors import translated_errors
from sql.query_loader import load_queries
from sql.samples.draining.drains import Drains
from sql.samples.reading.newest import ALL_TIMES
from sql.samples.stores.arrival_store import SampleSources
from sql.samples.tables.block_table import QUERIES as BLOCK_QUERIES
from sql.samples.tables.retention_classes import QUERIES as RETENTION_QUERIES
from sql.samples.tables.step_limits import CLIENT_SECONDS, limited_transaction

_QUERIES: Final = {
    **load_queries("maintenance"),
    **load_queries("series"),
    **load_queries("samples"),
}
_ROLLUP_QUERIES: Final = load_queries("rollups")
_LOOKED_AT: Final = 5_000
"""Series whose samples are looked for at once."""
_REMOVED_AT_ONCE: Final = 1_000
_PAGES_OF_SERIES: Final = 100
"""A run looks at so many times _LOOKED_AT series for orphans; the next one goes on."""


@dataclass(frozen=True, slots=True)
class AsideStep(MaintenanceStep):
    """Tries again to move the arrivals that were set aside."""

    pool: Pool
    drains: Drains
    name: str = "set aside"
    unit: str = "arrivals"

    async def plan(self) -> int:
        """How many arrivals are set aside."""
        async with acquired(self.pool) as connection:
            n_arrivals: int = await connection.fetchval(BLOCK_QUERIES["count_aside"])
        return n_arrivals

    async def run(self, notes: StepNotes) -> int:
        """Move what can be moved now; returns how many arrivals."""
        return (await self.drains.aside.retry()).n_moved


class UnusedSeries:
    """Finds series without samples, in one snapshot of the head and of what is drained."""

    def __init__(self, sources: SampleSources) -> None:
        self._sources = sources

    async def among(self, tenant_ids: IntArray, series_ids: IntArray) -> IntArray:
        """Those of some series (ascending ids, each with its tenant) that have no sample.

        Neither a recent nor a drained one, nor rollups that outlive them.
        """
        sources, used = self._sources, [np.empty(0, np.int64)]
        tenants = distinct(tenant_ids).tolist()
        async with sources.snapshots.open_transaction(tenants) as snapshot:
            for tenant_id in tenants:
                some = series_ids[tenant_ids == tenant_id]
                view = await sources.head.complete(
                    snapshot.view, snapshot.connection, tenant_id, some, *ALL_TIMES
                )
                used.append(view.newest(tenant_id, some).ids)
                used.append(
                    await sources.drained.stored_series(snapshot.connection, tenant_id, some)
                )
                if snapshot.kept[tenant_id].rollup_days is not None:
                    found = await snapshot.connection.fetchval(
                        _ROLLUP_QUERIES["series_with_rollups"], some.tolist()
                    )
                    used.append(np.array(found, np.int64))
        return series_ids[~np.isin(series_ids, np.concatenate(used))]


@dataclass(frozen=True, slots=True)
class OrphanSeries:
    """Series without samples; `last_id` is the last series that was checked."""

    last_id: int
    ids: Sequence[int]


class SeriesRemoval:
    """Finds and removes series without samples, on one connection and within time limits."""

    def __init__(self, connection: Connection, unused: UnusedSeries) -> None:
        self.connection = connection
        self._unused = unused

    async def find(self, after_id: int, at_most: int = _LOOKED_AT) -> OrphanSeries | None:
        """Check some series in ascending order of id; None when there are none after that id."""
        async with limited_transaction(self.connection):
            rows = await self.connection.fetch(_QUERIES["series_after"], after_id, at_most)
        if not rows:
            return None
        tenant_ids, ids = _columns(rows)
        orphans = await self._unused.among(tenant_ids, ids)
        return OrphanSeries(int(ids[-1]), orphans.tolist())

    async def remove(self, series_ids: Sequence[int]) -> int:
        """Remove the series that still have no sample and no open alert; returns how many.

        Writers wait meanwhile, so it removes few at a time. What they appended before they had to
        wait is in the snapshot that decides. A sample that is written at the same time with a
        removed id is not lost: its writer gets an error and creates the series again.
        """
        n_removed = 0
        for start in range(0, len(series_ids), _REMOVED_AT_ONCE):
            some = series_ids[start : start + _REMOVED_AT_ONCE]
            async with limited_transaction(self.connection):
                await self.connection.execute(_QUERIES["lock_series"])
                rows = await self.connection.fetch(_QUERIES["tenants_of_series"], some)
                orphans = await self._unused.among(*_columns(rows))
                n_removed += await self.connection.fetchval(
                    _QUERIES["remove_series"], orphans.tolist(), timeout=CLIENT_SECONDS
                )
        return n_removed


@dataclass(frozen=True, slots=True)
class OrphanStep(MaintenanceStep):
    """Removes the series that have no sample left.

    It looks for them when samples were dropped or deleted since it last did, in any process, or if
    `is_forced`. How far it is survives this process.
    """

    removal: SeriesRemoval
    is_forced: bool
    series_at_once: int = _LOOKED_AT
    max_pages: int = _PAGES_OF_SERIES
    name: str = "orphans"
    unit: str = "series"

    async def plan(self) -> int:
        """How many of the series that a run would look at have no sample now."""
        after = await self._fetchval("is_orphan_search_due")
        if after is None and not self.is_forced:
            return 0
        n_series, last_id = 0, after or 0
        for _ in range(self.max_pages):
            page = await self.removal.find(last_id, self.series_at_once)
            if page is None:
                break
            n_series, last_id = n_series + len(page.ids), page.last_id
        return n_series

    async def run(self, notes: StepNotes) -> int:
        """Remove them; returns how many."""
        if self.is_forced:
            await self._fetchval("ask_for_orphans")
        last_id = await self._fetchval("begin_orphan_search")
        if last_id is None:
            return 0
        n_series = 0
        for _ in range(self.max_pages):
            page = await self.removal.find(last_id, self.series_at_once)
            if page is None:
                await self._fetchval("end_orphan_search")
                return n_series
            last_id = page.last_id
            removing = self.removal.remove(page.ids)
            n_removed = await notes.attempt(f"orphans up to {last_id}", removing)
            if n_removed is None:
                # The search goes on, and is repeated after its end, which may be in a later run.
                await self._fetchval("ask_for_orphans")
            n_series += n_removed or 0
            await self._fetchval("continue_orphan_search", last_id)
        return n_series

    async def _fetchval(self, name: str, *args: object) -> Any:
        with translated_errors():
            return await self.removal.connection.fetchval(RETENTION_QUERIES[name], *args)


def _columns(rows: Sequence[Any]) -> tuple[IntArray, IntArray]:
    """The tenants and the ids of rows, ascending by id."""
    tenant_ids = np.array([row["tenant_id"] for row in rows], np.int64)
    return tenant_ids, np.array([row["id"] for row in rows], np.int64)
