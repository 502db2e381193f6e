"""The head: the undrained arrivals of the database in the memory of a process.

Each query first asks the database what was appended since, so it sees every write that was
acknowledged before. What was drained meanwhile is in the blocks of the same snapshot.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from promcompat.core.errors import StaleKnowledgeError, StorageUnavailableError
from promcompat.core.model import IntArray
from promcompat.core.offloading import in_thread_if
from promcompat.core.value_classes import value_class
from sql.caching.change_log import ChangeLog
from sql.database.connection_pool import Connection, Pool, acquired
from sql.database.installation_guard import InstallationGuard
from sql.query_loader import load_queries
from sql.samples.arrivals.arrival_log import Arrival, ArrivalLog, SampleChange, SyncAnswer
from sql.samples.columns.fold import Piece
from sql.samples.head.decoded_arrivals import DecodedArrivals, decoded_arrivals, decoded_pieces
from sql.samples.head.memory import HeadMemory, HeadStats
from sql.samples.head.view import HeadView

_LOGGER = logging.getLogger(__name__)
_QUERIES: Final = load_queries("head")
_SYNC_BYTES: Final = 8 << 20
"""Most bytes of payloads in one answer: about 2 million samples, 40 MB in memory."""
_IN_PLACE_BYTES: Final = 64 << 10
"""Smaller payloads are decoded in less time than a thread takes to start."""
_IN_PLACE_SAMPLES: Final = 50_000
"""Payloads of new series may have three samples in a byte, which take long to sort."""
_ATTEMPTS: Final = 5
_BYTES_PER_SAMPLE: Final = 20
"""A sample takes 16 bytes, and its share of its series takes the rest."""
_NOTHING: Final = DecodedArrivals()
_READ_AT_ONCE: Final = 256
"""Arrivals that are read because there was no room for them; up to 16 MB."""


class StaleViewError(StorageUnavailableError):
    """A drain or a restart of the database overtook a snapshot; read in a new one."""


@value_class(frozen=True, slots=True)
class _LatestView:
    """The view of the last sync that ended, and the time of the monotonic clock when it began."""

    view: HeadView
    began: float

    def answers(self, asked_at: float | None, tenant_ids: Sequence[int]) -> bool:
        """Whether the view may answer a question about these tenants that was asked at a time."""
        if asked_at is None or self.began < asked_at:
            return False
        return all(tenant_id in self.view.generations for tenant_id in tenant_ids)


@value_class(frozen=True, slots=True)
class _RunningSync:
    """A sync that began at a time of the monotonic clock, with the tenants it asks for."""

    task: "asyncio.Task[HeadView]"
    began: float
    tenant_ids: Sequence[int]

    def answers(self, asked_at: float | None, tenant_ids: Sequence[int]) -> bool:
        """As of `_LatestView`."""
        if asked_at is None or self.began < asked_at:
            return False
        return all(tenant_id in self.tenant_ids for tenant_id in tenant_ids)


@value_class(frozen=True, slots=True)
class _Position:
    """What has been read: all arrivals and changes up to these ids.

    Arrivals up to `drained` are drained. Those up to `held_after` were never read into memory.
    """

    arrival: int = 0
    change: int = 0
    drained: int = 0
    held_after: int = 0
    is_known: bool = False


class Head:
    """Holds undrained arrivals, at most about `max_bytes`, and answers from them.

    All methods belong to one event loop. `changes` tells which samples changed, for caches.
    """

    def __init__(
        self, log: ArrivalLog, pool: Pool, guard: InstallationGuard, *, max_bytes: int
    ) -> None:
        """`pool` is for reading."""
        self.stats = HeadStats()
        self.changes = ChangeLog()
        self._log = log
        self._pool = pool
        self._guard = guard
        self._max_bytes = max_bytes
        self._generation = 0
        self._position = _Position()
        self._memory = HeadMemory(self.stats)
        self._synced_at: float | None = None
        self._aside: tuple[list[int], DecodedArrivals] = ([], DecodedArrivals())
        self._syncing = asyncio.Lock()
        self._next: asyncio.Task[HeadView] | None = None
        self._next_tenants: set[int] = set()
        self._running: _RunningSync | None = None
        self._latest: _LatestView | None = None
        self._merging: asyncio.Task[None] | None = None
        guard.on_step_back(self.forget)

    @property
    def lag_seconds(self) -> float:
        """How long ago the last sync ended; 0 before the first."""
        return 0.0 if self._synced_at is None else time.monotonic() - self._synced_at

    def forget(self) -> None:
        """Drop everything: the database was restarted, restored or replaced."""
        self._generation += 1
        self._latest = self._running = None
        self._position = _Position()
        self._memory.clear()
        self.changes.forget()
        self.stats.resets += 1

    async def close(self) -> None:
        """Stop merging, and give up the sync that is under way and the next one."""
        running = None if self._running is None else self._running.task
        tasks = [task for task in (running, self._next, self._merging) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def catch_up(self) -> None:
        """Sync, so that the next query has little to read. Raises StorageUnavailableError."""
        await self.view()

    async def view(self, tenant_ids: Sequence[int] = (), asked_at: float | None = None) -> HeadView:
        """The undrained arrivals, with everything that was acknowledged before `asked_at`.

        That is a time of `time.monotonic`, and None means this call: a sync that began since then
        is enough. Calls that come while a sync is under way share the next one. The view has the
        `generations` of these tenants. Raises StorageUnavailableError.
        """
        latest = self._latest
        if latest is not None and latest.answers(asked_at, tenant_ids):
            return latest.view
        running = self._running
        if running is not None and running.answers(asked_at, tenant_ids):
            return await asyncio.shield(running.task)
        return await asyncio.shield(self._next_sync(tenant_ids))

    async def ask_ahead(self, tenant_id: int) -> None:
        """Begin the sync for a view that is asked for soon, with the time before this call."""
        self._next_sync([tenant_id])
        # The question is sent now, and answered while the caller goes on.
        await asyncio.sleep(0)

    def _next_sync(self, tenant_ids: Sequence[int]) -> "asyncio.Task[HeadView]":
        """The sync that begins next; it asks for these tenants, too."""
        self._next_tenants.update(tenant_ids)
        if self._next is None:
            self._next = asyncio.create_task(self._next_view(), name="sync of the head")
            self._next.add_done_callback(_note_failure)
        return self._next

    async def _next_view(self) -> HeadView:
        try:
            await self._syncing.acquire()
        finally:
            # Whoever comes from now on may ask for a write that this sync does not see.
            task, self._next = self._next, None
            tenant_ids, self._next_tenants = list(self._next_tenants), set()
        assert task is not None
        self._running = _RunningSync(task, time.monotonic(), tenant_ids)
        try:
            return await self._view_in_any_snapshot(tenant_ids)
        finally:
            self._running = None
            self._syncing.release()

    async def _view_in_any_snapshot(self, tenant_ids: Sequence[int]) -> HeadView:
        for _ in range(_ATTEMPTS):
            began, generation = time.monotonic(), self._generation
            try:
                async with acquired(self._pool) as connection:
                    view = await self.view_in(connection, tenant_ids)
                if generation == self._generation:
                    self._latest = _LatestView(view, began)
                return view
            except (StaleViewError, StaleKnowledgeError):
                continue
        raise StaleViewError("drains or restarts of the database keep overtaking a query")

    async def view_in(self, connection: Connection, tenant_ids: Sequence[int] = ()) -> HeadView:
        """The same in a transaction that reads one snapshot, of which it is the first statement.

        Raises StaleViewError when the snapshot was overtaken, and StaleKnowledgeError when the
        database is not what it was: begin the transaction again.
        """
        started, generation = time.monotonic(), self._generation
        if not self._position.is_known:
            await self._start(connection, generation)
        begun, version, n_arrivals = self._position, self.changes.version, 0
        while True:
            asked = self._position
            positions = asked.arrival, asked.change
            answer = await self._log.sync(
                connection, *positions, _SYNC_BYTES, tenant_ids, asked.drained
            )
            self._check(answer, begun, generation)
            arrivals = [arrival for arrival in answer.arrivals if not arrival.is_aside]
            decoded = _NOTHING
            if arrivals:
                decoded = await _decoded(arrivals)
                self._check(answer, begun, generation)
            if self._position.change <= answer.last_change:
                # No other sync has learned of changes that this snapshot does not have.
                version = self._learn(answer, decoded)
            else:
                self._learn(answer, decoded)
            n_arrivals += len(arrivals)
            if answer.is_complete:
                break
        self._note_sync(time.monotonic() - started, n_arrivals)
        view = HeadView(
            epoch=answer.epoch,
            drained_through=answer.drained_through,
            last_id=self._position.arrival,
            version=version,
            held_after=self._position.held_after,
            tenants=self._memory.tenants,
            generations=answer.generations,
            last_change=answer.last_change,
            drained_bounds=answer.bounds,
        )
        return await self._with_aside(view, answer)

    async def _start(self, connection: Connection, generation: int) -> None:
        """Choose which undrained arrivals to hold: the newest ones, as many as there is room for.

        The older ones are read when a query needs them; only their deletions are read now.
        """
        bounds = self._max_bytes, _BYTES_PER_SAMPLE
        start = await connection.fetchrow(_QUERIES["start"], *bounds)
        held_after = start["held_after"]
        rows = await connection.fetch(_QUERIES["undrained_deletions"], held_after)
        if generation != self._generation or self._position.is_known:
            return
        deleted = decoded_arrivals([Arrival(**row) for row in rows])
        for tenant_id, arrived in deleted.tenants.items():
            self._memory.append(tenant_id, (), arrived.deletions)
        # What was read before this process knew a position is stale: `changes` has forgotten it.
        self._position = _Position(held_after, start["last_change"], 0, held_after, is_known=True)

    def _check(self, answer: SyncAnswer, begun: _Position, generation: int) -> None:
        """Raises StaleKnowledgeError or StaleViewError unless the answer continues what is known.

        An id that went back means that the database was rewound, even if it does not say so.
        """
        self._guard.check_read(answer.epoch)
        if answer.last_id < begun.arrival or answer.last_change < begun.change:
            self._guard.step_back()
            raise StaleKnowledgeError("the database went back to an earlier state; try again")
        if generation != self._generation or answer.drained_through < self._position.drained:
            raise StaleViewError("samples were moved while a query began; try again")

    def _learn(self, answer: SyncAnswer, decoded: DecodedArrivals) -> int:
        """Take in what came after the position; returns the version of the changes since."""
        position, memory = self._position, self._memory
        if _is_known(answer, position):
            self._begin_merging()
            return self.changes.version
        self._note_changes(answer, decoded)
        for tenant_id, arrived in decoded.tenants.items():
            # Another sync may have brought some of them: seeing an arrival twice changes nothing.
            segments = [
                one for one in arrived.segments if one.piece.last_arrival > position.arrival
            ]
            deletions = [one for one in arrived.deletions if one.arrival_id > position.arrival]
            if segments or deletions:
                memory.append(tenant_id, segments, deletions)
        newest = max((one.id for one in answer.arrivals), default=0)
        read_through = max(position.arrival, answer.drained_through, newest)
        self._position = replace(
            position,
            arrival=max(read_through, answer.last_id) if answer.is_complete else read_through,
            change=max(position.change, answer.last_change),
            drained=answer.drained_through,
        )
        if answer.drained_through > position.drained:
            memory.drain(answer.drained_through)
        memory.evict(self._max_bytes)
        self.stats.unreadable += len(decoded.unreadable)
        self._begin_merging()
        return self.changes.version

    def _note_changes(self, answer: SyncAnswer, decoded: DecodedArrivals) -> None:
        """Record which samples changed since the position."""
        position = self._position
        if answer.has_change_gap:
            self.changes.forget()
            return
        changes = [one for one in answer.changes if _is_news(one, position)]
        arrivals = [one for one in decoded.arrivals if one.id > position.arrival]
        if changes or arrivals:
            self.changes.advance()
        touched: list[SampleChange | Arrival] = [*changes, *arrivals]
        for one in touched:
            self.changes.add(one.tenant_id, one.first_ms, one.last_ms)

    def _note_sync(self, seconds: float, n_arrivals: int) -> None:
        self._synced_at = time.monotonic()
        self.stats.syncs += 1
        self.stats.sync_seconds += seconds
        self.stats.arrivals += n_arrivals
        self.stats.lag_arrivals = n_arrivals

    async def _with_aside(self, view: HeadView, answer: SyncAnswer) -> HeadView:
        """Adds the arrivals that drains set aside, which are not in the blocks of the snapshot."""
        if not answer.arrivals and not self._aside[0]:
            return view
        aside = [arrival for arrival in answer.arrivals if arrival.is_aside]
        ids = [arrival.id for arrival in aside]
        if self._aside[0] != ids:
            self._aside = ids, await _decoded(aside)
        for tenant_id, arrived in self._aside[1].tenants.items():
            view = view.with_arrivals(tenant_id, arrived.segments, arrived.deletions)
        return view

    def _begin_merging(self) -> None:
        is_merging = self._merging is not None and not self._merging.done()
        if self._memory.may_merge and not is_merging:
            self._merging = asyncio.create_task(self._merge(), name="merge of the head")
            self._merging.add_done_callback(_note_failure)

    async def _merge(self) -> None:
        """Merge segments in a thread until nothing is left to merge."""
        while (merge := self._memory.next_merge()) is not None:
            generation = self._generation
            result = await asyncio.to_thread(merge.result)
            if generation == self._generation:
                self._memory.replace(merge, result)

    async def complete(
        self,
        view: HeadView,
        connection: Connection,
        tenant_id: int,
        wanted: IntArray | None,
        start_ms: int,
        end_ms: int,
    ) -> HeadView:
        """The view with the arrivals in `(start_ms, end_ms]` for which there was no room in memory.

        They are read in the transaction of the view; `wanted` ascends, None means all series.
        """
        missing = view.not_held(tenant_id)
        if missing is None:
            return view
        pieces: list[Piece] = []
        after = missing.after
        while True:
            bounds = tenant_id, after, missing.through, start_ms, end_ms, _READ_AT_ONCE
            rows = await connection.fetch(_QUERIES["undrained_samples"], *bounds)
            arrivals = [Arrival(**row) for row in rows]
            pieces += await asyncio.to_thread(decoded_pieces, arrivals, wanted, start_ms, end_ms)
            if len(rows) < _READ_AT_ONCE:
                return view.with_pieces(tenant_id, pieces)
            after = rows[-1]["id"]


def _is_known(answer: SyncAnswer, position: _Position) -> bool:
    """Whether nothing came or was drained since the position."""
    return (
        answer.last_id <= position.arrival
        and answer.last_change <= position.change
        and answer.drained_through == position.drained
        and not answer.has_change_gap
    )


def _is_news(change: SampleChange, position: _Position) -> bool:
    """Whether a change is more than the drain of arrivals that were read before."""
    if change.id <= position.change:
        return False
    return change.drained_through is None or change.drained_through > position.arrival


def _note_failure(task: asyncio.Task[HeadView] | asyncio.Task[None]) -> None:
    """Mark the error of a task as seen: whoever still waits for it gets it."""
    if not task.cancelled() and (exc := task.exception()) is not None:
        _LOGGER.debug("a task of the head failed", extra={"task": task.get_name()}, exc_info=exc)


async def _decoded(arrivals: Sequence[Arrival]) -> DecodedArrivals:
    n_bytes = sum(len(arrival.payload) for arrival in arrivals)
    n_samples = sum(arrival.n_samples for arrival in arrivals)
    is_long = n_bytes > _IN_PLACE_BYTES or n_samples > _IN_PLACE_SAMPLES
    return await in_thread_if(is_long, decoded_arrivals, arrivals)
