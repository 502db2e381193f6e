"""Bounds what a query reads of the database, counted while it arrives."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from promcompat.core.cancellation import is_cancelled
from promcompat.core.errors import ExecutionError
from promcompat.core.ports import CheckBytes, any_bytes
from promql.budget import (
    BYTES_PER_LABELS,
    BYTES_PER_SAMPLE,
    TOO_MANY_SAMPLES,
    MemoryTakenError,
    too_much_memory,
)
from sql.database.connection_pool import Connection
from sql.database.statements import Statement, inline_parameters
from sql.samples.columns.fold import Piece
from sql.samples.columns.series_samples import SeriesSamples

_HISTOGRAM_WEIGHT: Final = 4
"""A byte of histograms that arrive in rows becomes about as many in memory."""
SourceT = TypeVar("SourceT")
RequestT = TypeVar("RequestT")
FoundT = TypeVar("FoundT")


class CountedStream(Protocol):
    """A stream that counts what has arrived."""

    @property
    def n_rows(self) -> int:
        """How many samples."""

    @property
    def n_bytes(self) -> int:
        """How many bytes."""


class SampleAllowance:
    """How much all selections of one query may read, counted while it arrives.

    Bytes are those of the COPY stream, and of the columns of samples and histograms in memory.
    """

    def __init__(
        self,
        max_samples: int,
        max_bytes: int = 0,
        check_bytes: CheckBytes = any_bytes,
        *,
        max_histogram_bytes: int = 0,
    ) -> None:
        """0 sets no bound; `check_bytes` may set another one.

        `max_histogram_bytes` bounds the histograms in memory alone: not the pages that arrive,
        most of whose samples may be of other times.
        """
        self._max_samples = max_samples
        self._max_bytes = max_bytes
        self._check_bytes = check_bytes
        self._max_histogram_bytes = max_histogram_bytes
        self._excess: ExecutionError | MemoryTakenError | None = None
        self._decoders: list[CountedStream] = []
        self._of_histograms: list[CountedStream] = []
        self._n_settled = 0
        self._n_settled_bytes = 0
        self._n_added = 0
        self._n_series = 0
        self._n_histogram_bytes = 0

    def add(self, n_samples: int) -> None:
        """Count samples in memory; raises ExecutionError when they are too many."""
        self._n_added += n_samples
        self.check()

    def add_pieces(self, pieces: Sequence[Piece]) -> None:
        """Count pieces in memory; raises ExecutionError when they are too many."""
        self.add_histograms([piece.samples for piece in pieces])
        self.add(sum(len(piece.samples) for piece in pieces))

    def add_histograms(self, parts: Sequence[SeriesSamples]) -> None:
        """Count the histograms of samples that are counted already."""
        pools = [part.histograms for part in parts]
        self._n_histogram_bytes += sum(pool.n_bytes for pool in pools if pool is not None)

    def add_series(self, n_series: int) -> None:
        """Count the labels of series; raises ExecutionError when they are too many."""
        self._n_series += n_series
        self.check()

    def watch(self, decoder: CountedStream) -> None:
        """Count the rows of a decoder from now on."""
        self._decoders.append(decoder)

    def watch_histograms(self, decoder: CountedStream) -> None:
        """The same for one of histograms alone, which are bounded while they arrive."""
        self.watch(decoder)
        self._of_histograms.append(decoder)

    def settle(self, decoder: CountedStream) -> None:
        """Replace a finished decoder by its totals; a query may have thousands of them."""
        self._decoders.remove(decoder)
        self._of_histograms = [one for one in self._of_histograms if one is not decoder]
        self._n_settled += decoder.n_rows
        self._n_settled_bytes += decoder.n_bytes

    @property
    def is_exceeded(self) -> bool:
        """Whether too much was read."""
        try:
            self.check()
        except (ExecutionError, MemoryTakenError):
            return True
        return False

    def check(self) -> None:
        """Raises ExecutionError when too much was read, MemoryTakenError as a budget does.

        Later calls raise the same: a stream that was cut off is incomplete, even if memory has
        become free again.
        """
        try:
            if self._excess is not None:
                raise self._excess
            if self._has_too_many:
                raise ExecutionError(TOO_MANY_SAMPLES)
            n_arriving = sum(decoder.n_bytes for decoder in self._of_histograms)
            n_histogram_bytes = self._n_histogram_bytes + n_arriving * _HISTOGRAM_WEIGHT
            if 0 < self._max_histogram_bytes < n_histogram_bytes:
                raise ExecutionError(too_much_memory(self._max_histogram_bytes))
            n_bytes = self._n_bytes
            if 0 < self._max_bytes < n_bytes:
                raise ExecutionError(too_much_memory(self._max_bytes))
            self._check_bytes(n_bytes)
        except (ExecutionError, MemoryTakenError) as exc:
            self._excess = exc
            raise

    @property
    def _has_too_many(self) -> bool:
        n_read = self._n_settled + sum(decoder.n_rows for decoder in self._decoders)
        return 0 < self._max_samples < n_read + self._n_added

    @property
    def _n_bytes(self) -> int:
        n_read = self._n_settled_bytes + sum(decoder.n_bytes for decoder in self._decoders)
        n_read += self._n_histogram_bytes
        return n_read + self._n_added * BYTES_PER_SAMPLE + self._n_series * BYTES_PER_LABELS


class FedStream(CountedStream, Protocol):
    """A stream that takes what arrives."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""


async def copy_out(
    connection: Connection,
    statement: Statement,
    decoder: FedStream,
    allowance: SampleAllowance,
) -> None:
    """Feed a statement's rows to a decoder; the server stops once the allowance is exceeded.

    Raises ExecutionError in Prometheus' words then.
    """
    text = inline_parameters(statement)

    async def feed(chunk: bytes) -> None:
        # Must not raise: asyncpg 0.32 would wait forever for a stream that it no longer reads. It
        # passes a cancellation on to the server.
        decoder.feed(chunk)
        if allowance.is_exceeded:
            copying.cancel()

    copying = asyncio.ensure_future(connection.copy_from_query(text, output=feed, format="binary"))
    try:
        await copying
    except asyncio.CancelledError:
        if is_cancelled() or not allowance.is_exceeded:
            raise
    allowance.check()
    allowance.settle(decoder)


async def shared_out(
    read: Callable[[SourceT, RequestT], Awaitable[FoundT]],
    sources: Sequence[SourceT],
    requests: Sequence[RequestT],
) -> list[FoundT]:
    """What is read for each request; each source takes the next request when it is done with one.

    The first failure cancels the others, and with them their SQL.
    """
    found: dict[int, FoundT] = {}
    waiting = iter(enumerate(requests))

    async def read_in_turn(source: SourceT) -> None:
        for index, request in waiting:
            found[index] = await read(source, request)

    if len(sources) == 1:
        return [await read(sources[0], request) for request in requests]
    tasks = [asyncio.ensure_future(read_in_turn(source)) for source in sources]
    try:
        await asyncio.gather(*tasks)
        return [found[index] for index in range(len(requests))]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
