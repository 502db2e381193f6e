"""Reads the rows of table `sample`: one binary COPY for each selection, read by numpy."""

from functools import partial
from typing import Final

import numpy as np

from promcompat.core.explanations import ExplanationDepth, SelectionExplanation
from promcompat.core.model import IntArray, SeriesSelection
from promcompat.core.offloading import in_thread_if
from sql.database.connection_pool import Connection
from sql.database.copy_format import SampleDecoder
from sql.database.statements import Statement
from sql.pushdown.read_planner import PlannedRead, ReadPlanner
from sql.pushdown.rules import Partial
from sql.query_loader import load_queries
from sql.samples.columns.fold import Piece
from sql.samples.columns.series_samples import NO_SAMPLES, SeriesSamples, counted_samples
from sql.samples.reading.allowance import SampleAllowance, copy_out
from sql.samples.reading.drained_reader import DrainedQuestion, DrainedReader, StoredSamples
from sql.samples.reading.histogram_stream import with_histograms
from sql.samples.reading.read_explainer import explained_read, not_pushed

_QUERIES: Final = load_queries("samples")
_ROWS_WORTH_A_THREAD: Final = 100_000
"""Decoding and sorting a million rows takes 100 ms, which would delay writes."""


class RowReader(DrainedReader):
    """Reads rows in the caller's snapshot.

    A row has arrived before everything that is undrained, and after everything that is set aside.
    """

    name = "rows"
    contents = "rows"
    has_rollups = False
    reads_at_once = 3
    tells_state = False

    def __init__(self, planner: ReadPlanner) -> None:
        self._planner = planner

    async def read(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples:
        """The samples, or some that stand for all; see `DrainedReader`."""
        if not len(question.wanted):
            return StoredSamples((), ())
        settled, start_ms = NO_SAMPLES, question.start_ms
        if question.selection is not None:
            asked = connection, question.selection, question.wanted, question.settled_until_ms
            read = await self._planner.plan(*asked)
            if read.choice.thinning is not None:
                settled = await self._thinned(connection, question, read, allowance)
                start_ms = read.end_ms
        rest = SeriesSelection(matchers=(), start_ms=start_ms, end_ms=question.end_ms)
        statement = self._planner.whole(rest, question.wanted)
        samples = await self._copied(connection, statement, allowance)
        return StoredSamples((Piece(samples, 0, question.drained_through, False),), (), settled)

    async def read_few(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples | None:
        """Never: a kept plan would include every partition. See `DrainedReader`."""
        return None

    async def _thinned(
        self,
        connection: Connection,
        question: DrainedQuestion,
        read: PlannedRead,
        allowance: SampleAllowance,
    ) -> SeriesSamples:
        """The samples that the answer depends on, up to the end of a planned read."""
        if read.partial is None or read.statement is None:
            return await self._copied(connection, read.statement, allowance, is_whole=False)
        samples, whole_ids = await _partials(connection, read.statement, read.partial, allowance)
        if not len(whole_ids):
            return samples
        selection = SeriesSelection(matchers=(), start_ms=question.start_ms, end_ms=read.end_ms)
        whole = self._planner.whole(selection, whole_ids)
        return samples.then(await self._copied(connection, whole, allowance))

    async def _copied(
        self,
        connection: Connection,
        statement: Statement | None,
        allowance: SampleAllowance,
        *,
        is_whole: bool = True,
    ) -> SeriesSamples:
        """The samples of a statement.

        `is_whole` says that no sample of these series is left out between the first and the last.
        """
        if statement is None:
            return NO_SAMPLES
        decoder = SampleDecoder()
        allowance.watch(decoder)
        await copy_out(connection, statement, decoder, allowance)
        is_long = decoder.n_rows >= _ROWS_WORTH_A_THREAD
        samples = await in_thread_if(is_long, SeriesSamples.read, decoder)
        statement_of = partial(self._planner.histograms, is_whole=is_whole)
        return await with_histograms(connection, samples, allowance, statement_of)

    async def stored_series(
        self, connection: Connection, tenant_id: int, series_ids: IntArray
    ) -> IntArray:
        """The series with rows; see `DrainedReader`."""
        found = await connection.fetchval(_QUERIES["rows_exist"], series_ids.tolist())
        return np.array(found, np.int64)

    async def bounds(self, connection: Connection, tenant_id: int) -> tuple[int, int] | None:
        """The bounds of the rows; see `DrainedReader`."""
        row = await connection.fetchrow(_QUERIES["row_bounds"], tenant_id)
        return None if row is None else (row["first_ms"], row["last_ms"])

    async def explain(
        self,
        connection: Connection | None,
        selection: SeriesSelection,
        question: DrainedQuestion,
        depth: ExplanationDepth,
    ) -> SelectionExplanation:
        """The rules, and the statement if rows are read; see `DrainedReader`."""
        n_series = len(question.wanted)
        if connection is None:
            rules = not_pushed(selection, "the head has every sample of the time range")
            return SelectionExplanation(n_series=n_series, rules=rules, estimated_rows=0.0)
        asked = connection, selection, question.wanted, question.settled_until_ms
        read = await self._planner.plan(*asked, always_estimates=True)
        return await explained_read(connection, selection, n_series, read, depth)


async def _partials(
    connection: Connection, statement: Statement, kind: Partial, allowance: SampleAllowance
) -> tuple[SeriesSamples, IntArray]:
    """Samples that stand for all, and the series of which that is not exact."""
    decoder = SampleDecoder(is_numbered=True)
    allowance.watch(decoder)
    await copy_out(connection, statement, decoder, allowance)
    return await in_thread_if(
        decoder.n_rows >= _ROWS_WORTH_A_THREAD,
        lambda: counted_samples(decoder.finish().sorted(), kind),
    )
