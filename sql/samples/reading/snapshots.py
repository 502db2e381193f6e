"""Opens what questions see of the samples: the head alone, or the head and what is drained.

Recent samples are in the memory of the process. A question that reaches further back also reads
runs and blocks, or rows. Both are as of one moment, so no sample is seen twice or missed while a
drain moves it: each statement that reads pages or rollups says what was drained by then, and if
that is more than in the head's view, the question starts again. Rows, and arrivals that the head
has no room for, take several statements and have a REPEATABLE READ transaction instead.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Final, TypeVar

import numpy as np
from asyncpg.transaction import Transaction

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.model import IntArray
from promcompat.core.offloading import in_thread_if
from sql.database.connection_pool import Connection, acquired
from sql.database.statements import Statement, inline_parameters
from sql.query_loader import load_queries
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.head.head import Head, StaleViewError
from sql.samples.head.view import HeadView
from sql.samples.reading.drained_cache import Bounds, DrainedBounds, DrainedCache
from sql.samples.reading.drained_reader import DrainedReader
from sql.samples.reading.kept_times import KeptTimes, Retentions
from sql.samples.reading.sample_snapshot import (
    PiecemealSnapshot,
    ReadPools,
    SampleSnapshot,
    StoredSnapshot,
)
from sql.samples.tables.block_table import QUERIES
from sql.times import MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

_QUERIES: Final = load_queries("head")
_ATTEMPTS: Final = 5
_ATTEMPTS_OUTSIDE: Final = 2
_SERIES_WORTH_A_THREAD: Final = 64
_ASKED_JUST_NOW_SECONDS: Final = 1.0

T = TypeVar("T")


def _reading(connection: Connection) -> Transaction:
    """A transaction that reads one snapshot."""
    return connection.transaction(isolation="repeatable_read", readonly=True)


class SampleSnapshots:
    """Opens snapshots, with as few questions to the database as the time range allows."""

    def __init__(
        self,
        pools: ReadPools,
        head: Head,
        drained_reader: DrainedReader,
        retentions: Retentions,
        max_cache_bytes: int = 0,
    ) -> None:
        """Drained samples that were read take at most `max_cache_bytes` of memory."""
        self.cache = DrainedCache(max_cache_bytes)
        self._pools = pools
        self._head = head
        self._reader = drained_reader
        self._retentions = retentions
        self._drained: dict[int, DrainedBounds] = {}

    @property
    def has_rollups(self) -> bool:
        """Whether rollups of what is drained are computed."""
        return self._reader.has_rollups

    async def generation(self, tenant_id: int, asked_at: float | None = None) -> tuple[str, int]:
        """The epoch, and the generation of a tenant's series; `asked_at` as in `Head.view`."""
        view = await self._head.view([tenant_id], asked_at)
        return view.epoch, view.generations[tenant_id]

    async def bounds_of_drained(self, tenant_id: int) -> Bounds:
        """The times of what is drained of a tenant, as of some view of the head or later."""
        known = self._drained.get(tenant_id)
        if known is None:
            known = await self._ask_drained(tenant_id, await self._head.view(), None)
        return known.bounds

    async def newest_of_head(
        self,
        tenant_id: int,
        wanted: IntArray,
        start_ms: int,
        end_ms: int,
        asked_at: float | None = None,
    ) -> tuple[SeriesSamples, int]:
        """The newest sample in `(start_ms, end_ms]` of series that have one after all drained ones.

        Also the time up to which the other series (ids ascending) have to be looked up.
        """
        view = await self._head.view([tenant_id], asked_at)
        drained = await self._ask_drained(tenant_id, view, None)
        kept = await self.kept(view, tenant_id)
        start_ms = max(start_ms, kept.first_ms - 1)
        since_ms = start_ms if drained.bounds is None else max(start_ms, drained.bounds[1])
        if since_ms >= end_ms or view.not_held(tenant_id) is not None:
            return NO_SAMPLES, end_ms
        question = tenant_id, wanted, since_ms, end_ms
        newest = await in_thread_if(len(wanted) >= _SERIES_WORTH_A_THREAD, view.newest, *question)
        clip = await kept.clip(wanted, None)
        return (newest if clip is None else clip.of(newest)), since_ms

    async def bounds(self, tenant_id: int, asked_at: float | None = None) -> Bounds:
        """The times between which a tenant has samples; deletions do not shrink them."""
        view = await self._head.view([tenant_id], asked_at)
        kept = await self.kept(view, tenant_id)
        if view.not_held(tenant_id) is not None:
            return MIN_TIMESTAMP_MS, MAX_TIMESTAMP_MS
        drained = await self._ask_drained(tenant_id, view, None)
        found = [bounds for bounds in (view.bounds(tenant_id), drained.bounds) if bounds]
        if not found:
            return None
        first_ms = max(min(first for first, _ in found), kept.first_ms)
        last_ms = max(last for _, last in found)
        return (first_ms, last_ms) if first_ms <= last_ms else None

    @asynccontextmanager
    async def open(
        self,
        tenant_ids: Sequence[int],
        start_ms: int,
        end_ms: int,
        asked_at: float | None = None,
    ) -> AsyncIterator[SampleSnapshot]:
        """A snapshot for times in `(start_ms, end_ms]`, taken after `asked_at` as in `Head.view`.

        Its view has the generations of the tenants' series. Raises StorageUnavailableError.
        """
        async with AsyncExitStack() as opened:
            snapshot = await self._of_head(tenant_ids, start_ms, end_ms, asked_at)
            if snapshot is None:
                snapshot = await self._of_transaction(opened, tenant_ids, asked_at)
            yield snapshot

    async def answer(
        self,
        read: Callable[[SampleSnapshot], Awaitable[T]],
        tenant_id: int,
        times: tuple[int, int],
        asked_at: float | None = None,
    ) -> T:
        """The result of `read` for a snapshot as of `open`, if possible without a transaction.

        `read` is called again if a drain comes in between. Raises what it raises.
        """
        for _ in range(_ATTEMPTS if self._reader.tells_state else 0):
            snapshot = await self._without_transaction(tenant_id, *times, asked_at)
            if snapshot is None:
                break
            try:
                return await read(snapshot)
            except StaleViewError:
                asked_at = None
        async with self.open([tenant_id], *times, asked_at) as snapshot:
            return await read(snapshot)

    async def _without_transaction(
        self, tenant_id: int, start_ms: int, end_ms: int, asked_at: float | None
    ) -> SampleSnapshot | None:
        """A snapshot without a connection; None where arrivals must be read that are not held."""
        view = await self._head.view([tenant_id], asked_at)
        if view.not_held(tenant_id) is not None:
            return None
        # Asked after the view was taken, so everything that the view leaves out is within.
        known = await self._ask_drained(tenant_id, view, None)
        kept = await self._kept(view, [tenant_id])
        if not known.is_within(start_ms, end_ms):
            return SampleSnapshot(view, self._head, self._reader, kept, None)
        return PiecemealSnapshot(
            view, self._head, self._reader, kept, None, self._pools, self.cache, known
        )

    @asynccontextmanager
    async def open_transaction(self, tenant_ids: Sequence[int]) -> AsyncIterator[StoredSnapshot]:
        """A snapshot for all times, always with a connection."""
        async with AsyncExitStack() as opened:
            yield await self._of_transaction(opened, tenant_ids)

    @asynccontextmanager
    async def several(
        self, snapshot: SampleSnapshot, n_wanted: int
    ) -> AsyncIterator[Sequence[SampleSnapshot]]:
        """The snapshot, and up to `n_wanted` - 1 more of the same moment on other connections.

        Only on connections that nobody uses: queries that have one and wait for another would wait
        for each other. Half of these are left for other queries.
        """
        n_useful = min(n_wanted, snapshot.drained.reads_at_once) - 1
        n_more = min(n_useful, self._pools.reads.n_free // 2)
        if not isinstance(snapshot, StoredSnapshot) or n_more < 1:
            yield [snapshot]
            return
        name = await snapshot.connection.fetchval(_QUERIES["export_snapshot"])
        adopt = inline_parameters(Statement(_QUERIES["adopt_snapshot"], (name,)))
        async with AsyncExitStack() as opened:
            found = [snapshot]
            # Other services may have all connections that the server allows.
            with suppress(StorageUnavailableError):
                while len(found) <= n_more and self._pools.reads.n_free:
                    connection = await opened.enter_async_context(acquired(self._pools.reads))
                    await opened.enter_async_context(_reading(connection))
                    await connection.execute(adopt)
                    found.append(replace(snapshot, connection=connection))
            yield found

    async def _of_head(
        self, tenant_ids: Sequence[int], start_ms: int, end_ms: int, asked_at: float | None
    ) -> SampleSnapshot | None:
        """A snapshot of the head if it has everything of the time range; see `open`."""
        known = self._drained
        if any(known[one].is_within(start_ms, end_ms) for one in tenant_ids if one in known):
            return None
        view = await self._head.view(tenant_ids, asked_at)
        for tenant_id in tenant_ids:
            # Asked after the view was taken, so everything that the view leaves out is within.
            drained = await self._ask_drained(tenant_id, view, None)
            if drained.is_within(start_ms, end_ms) or view.not_held(tenant_id) is not None:
                return None
        kept = await self._kept(view, tenant_ids)
        return SampleSnapshot(view, self._head, self._reader, kept, None)

    async def _of_transaction(
        self, opened: AsyncExitStack, tenant_ids: Sequence[int], asked_at: float | None = None
    ) -> StoredSnapshot:
        """A snapshot of the head and of what is drained; `opened` ends its transaction."""
        for attempt in range(_ATTEMPTS):
            # A sync outside is shared with other queries, and its plan is kept. A drain may come
            # before the transaction begins, but not each time. Rows change in steps that the state
            # does not tell, so the sync has to be in their snapshot.
            is_outside = self._reader.tells_state and attempt < _ATTEMPTS_OUTSIDE
            known = await self._head.view(tenant_ids, asked_at) if is_outside else None
            asked_at = None
            async with AsyncExitStack() as begun:
                connection = await begun.enter_async_context(acquired(self._pools.reads))
                await begun.enter_async_context(_reading(connection))
                view = await self._view_in(connection, tenant_ids, known)
                if view is None:
                    continue
                for tenant_id in tenant_ids:
                    await self._ask_drained(tenant_id, view, connection)
                kept = await self._kept(view, tenant_ids, connection)
                opened.push_async_exit(begun.pop_all())
                return StoredSnapshot(view, self._head, self._reader, kept, connection)
        raise StorageUnavailableError("samples are drained faster than they can be read; try again")

    async def _view_in(
        self, connection: Connection, tenant_ids: Sequence[int], known: HeadView | None
    ) -> HeadView | None:
        """A view for the snapshot of a transaction, if possible the known one; None: overtaken."""
        if known is not None:
            state = DrainState.of(await connection.fetchrow(QUERIES["drain_state"]))
            return known if state == known.drain_state else None
        try:
            return await self._head.view_in(connection, tenant_ids)
        except StaleViewError:
            return None

    async def kept_now(self, tenant_id: int, asked_at: float | None = None) -> KeptTimes:
        """What a tenant keeps; `asked_at` as in `Head.view`."""
        return await self.kept(await self._head.view([tenant_id], asked_at), tenant_id)

    async def unseen(self, tenant_id: int, times: IntArray) -> int:
        """How many samples of some times are older than anything that a tenant keeps.

        The database is asked when some are so old that the shortest retention has passed them, and
        they were not asked about just now: another process may have changed the retention.
        """
        if not len(times) or times.min() >= self._retentions.kept_by_all_ms:
            return 0
        kept = await self.kept_now(tenant_id, time.monotonic() - _ASKED_JUST_NOW_SECONDS)
        return int(np.count_nonzero(times < kept.first_ms))

    async def kept(self, view: HeadView, tenant_id: int) -> KeptTimes:
        """What a tenant of a view keeps."""
        return await self._retentions.of(tenant_id, view.generations[tenant_id])

    async def _kept(
        self, view: HeadView, tenant_ids: Sequence[int], connection: Connection | None = None
    ) -> Mapping[int, KeptTimes]:
        return {
            tenant_id: await self._retentions.of(tenant_id, view.generations[tenant_id], connection)
            for tenant_id in tenant_ids
        }

    async def _ask_drained(
        self, tenant_id: int, view: HeadView, connection: Connection | None
    ) -> DrainedBounds:
        """The bounds of what is drained, which only drains and logged changes change."""
        known = self._drained.get(tenant_id)
        if known is not None and known.state == view.drain_state:
            return known
        if self._reader.tells_state and tenant_id in view.drained_bounds:
            bounds = view.drained_bounds[tenant_id]
        elif connection is not None:
            bounds = await self._reader.bounds(connection, tenant_id)
        else:
            async with acquired(self._pools.questions) as own:
                bounds = await self._reader.bounds(own, tenant_id)
        drained = self._drained[tenant_id] = DrainedBounds(view.drain_state, bounds)
        return drained
