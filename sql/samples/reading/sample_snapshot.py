"""What one question sees of the samples: the head alone, or the head and what is drained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import asyncpg

from promcompat.core.model import IntArray, SeriesSelection
from promcompat.core.offloading import in_thread_if
from promcompat.core.value_classes import value_class
from sql.database.connection_pool import Connection, Pool, acquired
from sql.samples.arrivals.arrival_log import DrainState
from sql.samples.columns.fold import Deletion, Piece, fold
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples
from sql.samples.head.head import Head, StaleViewError
from sql.samples.head.view import HeadView
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.drained_cache import DrainedBounds, DrainedCache
from sql.samples.reading.drained_reader import DrainedQuestion, DrainedReader, StoredSamples
from sql.samples.reading.kept_times import Clip, KeptTimes
from sql.times import MIN_TIMESTAMP_MS

_SERIES_WORTH_A_THREAD: Final = 64
_SAMPLES_WORTH_A_THREAD: Final = 20_000
_OVERTAKEN: Final = "samples were drained during a query; try again"


@dataclass(frozen=True, slots=True)
class ReadPools:
    """The pools of a database for reading: any statements, and few short ones."""

    reads: Pool
    questions: Pool


@value_class(frozen=True, slots=True)
class UnfoldedSamples:
    """Pieces of one tenant, the deletions to fold them with, and what is kept of them.

    `settled` as in StoredSamples.
    """

    pieces: Sequence[Piece]
    deletions: Sequence[Deletion]
    settled: SeriesSamples = NO_SAMPLES
    clip: Clip | None = None

    async def folded(self) -> SeriesSamples:
        """The samples that count, ascending by series id and time."""
        n_samples = len(self.settled) + sum(len(piece.samples) for piece in self.pieces)
        is_folded = len(self.pieces) == 1 and not (self.deletions or len(self.settled) or self.clip)
        is_long = not is_folded and n_samples >= _SAMPLES_WORTH_A_THREAD
        return await in_thread_if(is_long, self._folded)

    def _folded(self) -> SeriesSamples:
        samples = self.settled.then(fold(self.pieces, self.deletions))
        return samples if self.clip is None else self.clip.of(samples)


@value_class(frozen=True, slots=True)
class SampleSnapshot:
    """The samples of some tenants at one moment, for the time range it was opened for.

    `connection` is in the transaction of the snapshot; None when the head has every sample of the
    time range. `kept` says what each tenant keeps.
    """

    view: HeadView
    head: Head
    drained: DrainedReader
    kept: Mapping[int, KeptTimes]
    connection: Connection | None

    @property
    def reads_drained(self) -> bool:
        """Whether drained samples may lie in the time range."""
        return self.connection is not None

    async def row_of(
        self, statement: str, *values: object, is_short: bool = True
    ) -> asyncpg.Record:
        """The row of a statement that also tells the state of its snapshot (`DrainState`).

        `is_short`: it takes about as long as a question to the head, and no more. Only where
        `reads_drained`. Raises StorageUnavailableError.
        """
        assert self.connection is not None
        return await self.connection.fetchrow(statement, *values)

    async def collect(
        self,
        tenant_id: int,
        wanted: IntArray,
        start_ms: int,
        end_ms: int,
        allowance: SampleAllowance,
        selection: SeriesSelection | None = None,
    ) -> UnfoldedSamples:
        """The samples of series (ascending ids) in `(start_ms, end_ms]`, which are folded later.

        Of a `selection`, some samples may stand for others. Raises what the allowance raises, and
        StoredPageError.
        """
        question = self.kept_part(tenant_id, wanted, start_ms, end_ms)
        recent = await self.recent(*question)
        allowance.add_pieces(recent.pieces)
        clip = await self.kept[tenant_id].clip(wanted, self.connection)
        if self.connection is None:
            return recent if clip is None else replace(recent, clip=clip)
        asked = self.question_of(question, recent, selection)
        stored = await self.drained.read(self.connection, asked, allowance)
        return _joined(stored, recent, clip)

    def kept_part(
        self, tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int
    ) -> tuple[int, IntArray, int, int]:
        """The same question without the times of which no series keeps samples."""
        return tenant_id, wanted, max(start_ms, self.kept[tenant_id].first_ms - 1), end_ms

    async def recent(
        self, tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int
    ) -> UnfoldedSamples:
        """What is undrained of these samples, and the undrained deletions of the tenant."""
        view, question = self.view, (tenant_id, wanted, start_ms, end_ms)
        if self.connection is not None:
            view = await self.head.complete(view, self.connection, *question)
        return UnfoldedSamples(await _samples_of(view, *question), view.deletions(tenant_id))

    def question_of(
        self,
        question: tuple[int, IntArray, int, int],
        recent: UnfoldedSamples,
        selection: SeriesSelection | None,
    ) -> DrainedQuestion:
        """What to ask about drained samples, given what is undrained of the same ones.

        No sample stands for others when some of the selection's are no longer kept.
        """
        tenant_id, _, start_ms, end_ms = question
        firsts = [int(piece.samples.timestamps.min()) for piece in recent.pieces]
        firsts += [one.first_ms for one in recent.deletions if one.last_ms > start_ms]
        settled_until_ms = min([end_ms, *(first_ms - 1 for first_ms in firsts)])
        if selection is not None and max(self.kept[tenant_id].limits_ms) > selection.start_ms + 1:
            settled_until_ms = MIN_TIMESTAMP_MS - 1
        return DrainedQuestion(*question, self.view.drained_through, settled_until_ms, selection)

    async def read(
        self,
        tenant_id: int,
        wanted: IntArray,
        start_ms: int,
        end_ms: int,
        allowance: SampleAllowance,
    ) -> SeriesSamples:
        """The samples of series (ascending ids) in `(start_ms, end_ms]`; errors as `collect`."""
        unfolded = await self.collect(tenant_id, wanted, start_ms, end_ms, allowance)
        return await unfolded.folded()


@value_class(frozen=True, slots=True)
class StoredSnapshot(SampleSnapshot):
    """A snapshot of the head and of what is drained."""

    connection: Connection


def _joined(stored: StoredSamples, recent: UnfoldedSamples, clip: Clip | None) -> UnfoldedSamples:
    deletions = [*stored.deletions, *recent.deletions]
    deletions.sort(key=attrgetter("arrival_id"))
    pieces = [*stored.pieces, *recent.pieces]
    return UnfoldedSamples(pieces, deletions, stored.settled, clip)


@value_class(frozen=True, slots=True)
class PiecemealSnapshot(SampleSnapshot):
    """A snapshot without a transaction, which would take three more round trips.

    Each read is a statement with a snapshot of its own. Its samples are those of the view's if
    nothing was drained or changed in between; otherwise it raises StaleViewError. What was read
    under the same state before is in `cache`.
    """

    pools: ReadPools
    cache: DrainedCache
    bounds: DrainedBounds

    @property
    def reads_drained(self) -> bool:
        """There is no such snapshot otherwise."""
        return True

    async def row_of(
        self, statement: str, *values: object, is_short: bool = True
    ) -> asyncpg.Record:
        """See `SampleSnapshot`; raises StaleViewError too."""
        async with acquired(self.pools.questions if is_short else self.pools.reads) as connection:
            row = await connection.fetchrow(statement, *values)
        if DrainState.of(row) != self.view.drain_state:
            raise StaleViewError(_OVERTAKEN)
        return row

    async def collect(
        self,
        tenant_id: int,
        wanted: IntArray,
        start_ms: int,
        end_ms: int,
        allowance: SampleAllowance,
        selection: SeriesSelection | None = None,
    ) -> UnfoldedSamples:
        """See `SampleSnapshot`; raises StaleViewError too."""
        question = self.kept_part(tenant_id, wanted, start_ms, end_ms)
        recent = await self.recent(*question)
        allowance.add_pieces(recent.pieces)
        clip = await self.kept[tenant_id].clip(wanted, None)
        if not len(wanted):
            return replace(recent, clip=clip)
        # Such a reader gives samples as they are, so it need not know what is settled.
        drained_through = self.view.drained_through
        asked = DrainedQuestion(*question, drained_through, selection=selection)
        stored = await self.cache.find(self.view.drain_state, asked)
        if stored is None:
            stored = await self._read(asked, allowance)
        else:
            allowance.add_pieces(stored.pieces)
        return _joined(stored, recent, clip)

    async def _read(self, asked: DrainedQuestion, allowance: SampleAllowance) -> StoredSamples:
        stored = await self._read_pages(asked, allowance)
        if stored.state != self.view.drain_state:
            raise StaleViewError(_OVERTAKEN)
        await self.cache.add(asked, stored, self.bounds)
        return stored

    async def _read_pages(
        self, asked: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples:
        async with acquired(self.pools.questions) as connection:
            few = await self.drained.read_few(connection, asked, allowance)
        if few is not None:
            return few
        async with acquired(self.pools.reads) as connection:
            return await self.drained.read(connection, asked, allowance)


async def _samples_of(
    view: HeadView, tenant_id: int, wanted: IntArray, start_ms: int, end_ms: int
) -> Sequence[Piece]:
    question = tenant_id, wanted, start_ms, end_ms
    is_long = (
        len(wanted) >= _SERIES_WORTH_A_THREAD
        and view.expected_samples(*question) >= _SAMPLES_WORTH_A_THREAD
    )
    return await in_thread_if(is_long, view.samples, *question)
