"""Reads what is stored for good, runs and blocks near now and far from it, in one statement."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.cancellation import is_cancelled
from promcompat.core.distinct_numbers import distinct
from promcompat.core.explanations import ExplanationDepth, RuleOutcome, SelectionExplanation
from promcompat.core.model import IntArray, SeriesSelection
from promcompat.core.offloading import in_thread_if
from sql.database.connection_pool import Connection
from sql.database.statements import Statement, inline_parameters, inline_some, short_ids
from sql.pushdown.rules import RULES
from sql.samples.codec.page_decoding import CorruptPageError, decode_joined, decode_pages
from sql.samples.columns.fold import Piece
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.draining.drainer import DrainStats
from sql.samples.reading.allowance import SampleAllowance
from sql.samples.reading.drained_reader import DrainedQuestion, DrainedReader, StoredSamples
from sql.samples.tables.block_groups import block_keys, groups_of
from sql.samples.tables.block_table import QUERIES
from sql.samples.tables.damaged_pages import StoredPageError, damaged_page
from sql.samples.tables.page_stream import PageRow, PageStream
from sql.samples.tables.slots import day_of_slot, slots_between
from sql.times import MS_PER_HOUR

_LOGGER: Final = logging.getLogger(__name__)
_DECODED_SAMPLES: Final = 8_000_000
_DECODED_BYTES: Final = 32 << 20
"""Pages of so many samples or bytes are decoded while more arrive: the allowance counts samples.
A day of 1,000 series at 15 s is decoded at once, and needs no fold."""
_RUNS_AT_ONCE: Final = 200
_BYTES_WORTH_A_THREAD: Final = 64 * 1024
_FEW_BLOCKS: Final = 100
_SPAN_OF_BLOCK_MS: Final = 6 * MS_PER_HOUR
_FEW_PAGES: Final = 256
"""They have at most 16 MB. A plan that is kept saves half a millisecond, but the rows of more pages
cost more than a COPY of them."""
_DAYS_OF_A_PLAN: Final = 2
"""The last hours are of today, or of yesterday and today."""
_SLOT_NUMBERS: Final = (5, 6)
"""The parameters of `stored_pages` that choose partitions."""
_NOT_PUSHED: Final = "the store `blocks` reads its own memory and decodes blocks itself"


_RUN: Final = 0


class BlockReader(DrainedReader):
    """Reads runs and blocks in the caller's snapshot."""

    name = "blocks"
    contents = "runs and blocks"
    has_rollups = True
    reads_at_once = 1
    tells_state = True

    def __init__(self, stats: DrainStats) -> None:
        """`stats` counts pages that cannot be decoded."""
        self._stats = stats

    async def read(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples:
        """The samples; see `DrainedReader`. Raises StoredPageError too."""
        statement = Statement(QUERIES["stored_pages"], (*_parameters(question, short_ids), None))
        copy = _copy_of(question, allowance)
        with self._counted_damage(question):
            pieces = await copy.run(connection, statement)
        return _stored(pieces, copy.stream)

    async def read_few(
        self, connection: Connection, question: DrainedQuestion, allowance: SampleAllowance
    ) -> StoredSamples | None:
        """The samples if they are in at most `_FEW_PAGES`; see `DrainedReader`."""
        n_spans = 1 + (question.end_ms - question.start_ms) // _SPAN_OF_BLOCK_MS
        if len(groups_of(question.wanted)) * n_spans > _FEW_BLOCKS:
            return None
        statement = _few_pages_statement(question)
        rows = await connection.fetch(statement.text, *statement.params)
        if len(rows) >= _FEW_PAGES:
            return None
        copy = _copy_of(question, allowance)
        with self._counted_damage(question):
            pieces = await copy.take(rows)
        return _stored(pieces, copy.stream)

    @contextmanager
    def _counted_damage(self, question: DrainedQuestion) -> Iterator[None]:
        """Count and log a page that cannot be decoded."""
        try:
            yield
        except StoredPageError as exc:
            self._stats.pages_unreadable += 1
            fields = {"tenant_id": question.tenant_id, "reason": str(exc)}
            _LOGGER.error("a stored page cannot be decoded", extra=fields)
            raise

    async def stored_series(
        self, connection: Connection, tenant_id: int, series_ids: IntArray
    ) -> IntArray:
        """Those of some series (ascending ids of the tenant) that have drained samples.

        Samples of deletions that were not worked off yet count as samples, and so does whatever a
        run may have that cannot be decoded.
        """
        found = np.array(
            await connection.fetchval(QUERIES["series_with_blocks"], series_ids.tolist()), np.int64
        )
        missing, after = series_ids[~np.isin(series_ids, found)], 0
        while len(missing):
            rows = await connection.fetch(
                QUERIES["runs_of_series"], tenant_id, missing.tolist(), after, _RUNS_AT_ONCE
            )
            if not rows:
                break
            found = distinct(found, await asyncio.to_thread(_series_of_runs, rows, missing))
            missing, after = series_ids[~np.isin(series_ids, found)], rows[-1]["id"]
        return found

    async def bounds(self, connection: Connection, tenant_id: int) -> tuple[int, int] | None:
        """The first and last time of what is drained of a tenant; deletions do not shrink them."""
        row = await connection.fetchrow(QUERIES["drained_bounds"], tenant_id)
        return None if row["first_ms"] is None else (row["first_ms"], row["last_ms"])

    async def explain(
        self,
        connection: Connection | None,
        selection: SeriesSelection,
        question: DrainedQuestion,
        depth: ExplanationDepth,
    ) -> SelectionExplanation:
        """No rule applies; see `DrainedReader`."""
        rules = tuple(RuleOutcome(rule.__name__, False, _NOT_PUSHED) for rule in RULES)
        estimate = 0.0 if connection is None else None
        n_series = len(question.wanted)
        return SelectionExplanation(n_series=n_series, rules=rules, estimated_rows=estimate)


def _series_of_runs(rows: Sequence[asyncpg.Record], wanted: IntArray) -> IntArray:
    """Those of the wanted series that runs have; all within the bounds of a damaged one."""
    left, found = list(rows), [np.empty(0, np.int64)]
    while left:
        try:
            runs = decode_pages([row["payload"] for row in left], wanted)
            return distinct(*found, *(run.ids for run in runs))
        except CorruptPageError as exc:
            damaged = left.pop(exc.index)
            is_within = (wanted >= damaged["first_series"]) & (wanted <= damaged["last_series"])
            found.append(wanted[is_within])
    return distinct(*found)


def _parameters(
    question: DrainedQuestion, as_parameter: Callable[[IntArray], object]
) -> tuple[int, object, int, int, int, int]:
    """The parameters of `stored_pages` up to the limit."""
    times = question.start_ms, question.end_ms
    keys = as_parameter(block_keys(question.wanted))
    return question.tenant_id, keys, *times, *slots_between(*times)


def _few_pages_statement(question: DrainedQuestion) -> Statement:
    """The pages of a question, with a plan that is kept, of a few days for these days alone.

    A plan for any days looks at each partition in each run, 5 µs for one of TimescaleDB. One that
    is prepared is made before the statement takes its snapshot: between the two, a partition could
    be made and filled that the plan does not read. Then the state of the snapshot is not that of
    the view of the caller, see `insert_blocks`.
    """
    params = *_parameters(question, np.ndarray.tolist), _FEW_PAGES
    first_slot, last_slot = params[4], params[5]
    if day_of_slot(last_slot) - day_of_slot(first_slot) >= _DAYS_OF_A_PLAN:
        return Statement(QUERIES["few_stored_pages"], params)
    return inline_some(Statement(QUERIES["stored_pages"], params), _SLOT_NUMBERS)


def _stored(pieces: list[Piece], stream: PageStream) -> StoredSamples:
    pieces.sort(key=attrgetter("last_arrival"))
    deletions = sorted(stream.deletions, key=attrgetter("arrival_id"))
    return StoredSamples(pieces, deletions, state=stream.state)


def _copy_of(question: DrainedQuestion, allowance: SampleAllowance) -> "_Copy":
    times = question.start_ms, question.end_ms
    return _Copy(PageStream(), allowance, question.wanted, *times)


@dataclass(slots=True)
class _Copy:
    """Pages that are decoded; those of a COPY while they arrive."""

    stream: PageStream
    allowance: SampleAllowance
    wanted: IntArray
    start_ms: int
    end_ms: int

    async def run(self, connection: Connection, statement: Statement) -> list[Piece]:
        pieces: list[Piece] = []
        failures: list[Exception] = []
        self.allowance.watch(self.stream)

        async def feed(chunk: bytes) -> None:
            # Must not raise; see `copy_out`.
            try:
                self.stream.feed(chunk)
                if self._is_enough:
                    pieces.extend(await self._decoded())
            except Exception as exc:
                failures.append(exc)
            if failures or self.allowance.is_exceeded:
                copying.cancel()

        text = inline_parameters(statement)
        copying = asyncio.ensure_future(
            connection.copy_from_query(text, output=feed, format="binary")
        )
        try:
            await copying
        except asyncio.CancelledError:
            if is_cancelled() or not copying.cancelled():
                raise
        if failures:
            raise failures[0]
        self.allowance.check()
        pieces.extend(await self._decoded(is_all=not pieces))
        self.allowance.check()
        self.allowance.settle(self.stream)
        return pieces

    async def take(self, rows: Sequence[asyncpg.Record]) -> list[Piece]:
        """The pieces of rows that have arrived."""
        self.allowance.watch(self.stream)
        self.stream.add_rows(rows)
        pieces = await self._decoded(is_all=True)
        self.allowance.check()
        self.allowance.settle(self.stream)
        return list(pieces)

    @property
    def _is_enough(self) -> bool:
        stream = self.stream
        return (
            stream.n_pending_samples >= _DECODED_SAMPLES or stream.n_pending_bytes >= _DECODED_BYTES
        )

    async def _decoded(self, *, is_all: bool = False) -> Sequence[Piece]:
        """The pages that have arrived as pieces; `is_all`: there are no other ones."""
        is_large = self.stream.n_pending_bytes >= _BYTES_WORTH_A_THREAD
        pages = self.stream.take_pages()
        decode = self._decode_all if is_all and not self.stream.deletions else self._decode
        pieces = await in_thread_if(is_large, decode, pages)
        self.stream.n_rows += sum(len(piece.samples) for piece in pieces)
        self.allowance.add_histograms([piece.samples for piece in pieces])
        return pieces

    def _decode_all(self, pages: Sequence[PageRow]) -> Sequence[Piece]:
        """One piece of all pages if no two have the same series and times, as most blocks.

        That saves the fold. A drained deletion would be between some of their arrivals.
        """
        if not pages or any(page.source == _RUN for page in pages):
            return self._decode(pages)
        ordered = sorted(pages, key=attrgetter("first_series", "first_ms"))
        joined = self._joined(ordered)
        if joined is None:
            return self._decode(pages)
        first = min(page.first_arrival for page in pages)
        last = max(page.last_arrival for page in pages)
        return [Piece(joined, first, last, replaces=False)] if len(joined) else ()

    def _decode(self, pages: Sequence[PageRow]) -> Sequence[Piece]:
        pieces = []
        for _, group in groupby(pages, attrgetter("layer")):
            layer = list(group)
            first = min(page.first_arrival for page in layer)
            pieces += [
                Piece(samples, first, layer[0].last_arrival, layer[0].replaces)
                for samples in self._samples_of(layer)
                if len(samples)
            ]
        return pieces

    def _samples_of(self, layer: Sequence[PageRow]) -> Sequence[SeriesSamples]:
        """The samples of pages that never overlap; apart if their series and times alternate.

        That happens where a merge left far samples alone because their day has become near.
        """
        joined = self._joined(layer)
        if joined is not None:
            return [joined]
        payloads = [page.payload for page in layer]
        return decode_pages(payloads, self.wanted, self.start_ms, self.end_ms)

    def _joined(self, pages: Sequence[PageRow]) -> SeriesSamples | None:
        """The samples of pages as one; None if the times of a series alternate between two."""
        payloads = [page.payload for page in pages]
        try:
            return decode_joined(payloads, self.wanted, self.start_ms, self.end_ms)
        except CorruptPageError as exc:
            raise _named(pages[exc.index], exc) from exc
        except ValueError:
            return None


def _named(page: PageRow, exc: CorruptPageError) -> StoredPageError:
    """The error with what finds the row of the page."""
    return damaged_page(
        is_block=page.source != _RUN,
        first_series=page.first_series,
        first_ms=page.first_ms,
        last_arrival=page.last_arrival,
        reason=exc.reason,
    )
