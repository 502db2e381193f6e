"""What becomes of the lines that listeners receive: Graphite's are stored, StatsD's aggregated."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from promcompat.core.errors import PromcompatError
from promcompat.imports.columns import ColumnsBuilder, Faults, ImportedColumns
from promcompat.imports.graphite_lines import read_graphite_lines
from promcompat.imports.statsd_aggregation import StatsdAggregator
from promcompat.imports.statsd_lines import parse_statsd_line
from promcompat.imports.storing import ImportStore, Outcome

_LOGGER = logging.getLogger(__name__)
_MAX_WAITING_LINES: Final = 200_000
_MAX_WAITING_CHARACTERS: Final = 64 << 20
ResultT = TypeVar("ResultT")
_Parts = list[tuple[int, Sequence[str]]]
"""Lines that came together, and when (Unix ms)."""


@dataclass(frozen=True, slots=True)
class Flusher:
    """Stores what a receiver has collected, for one tenant."""

    store: ImportStore
    tenant: str
    format_name: str

    async def write(self, columns: ImportedColumns) -> None:
        """Store columns. Nobody can be told of a fault, so it is logged and counted."""
        outcome = Outcome()
        try:
            await self.store.add(self.tenant, self.format_name, columns, outcome)
        except PromcompatError as exc:
            self.store.counters.refused.labels(self.format_name).inc(len(columns.series))
            _LOGGER.warning(
                "samples of a listener were lost",
                extra={
                    "format": self.format_name,
                    "samples": len(columns.series),
                    "reason": str(exc),
                },
            )
        if outcome.faults.number:
            _LOGGER.warning(
                "lines of a listener were not stored",
                extra={
                    "format": self.format_name,
                    "lines": outcome.faults.number,
                    "first": outcome.faults.reasons[:1],
                },
            )


class WaitingLines:
    """Lines that have not been read yet, with the times at which they came.

    To receive lines costs little; to read them takes longer, so a thread does that. Lines beyond
    200,000 or 64 MiB are dropped and counted.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._parts: _Parts = []
        self._n_lines = self._n_characters = self._n_dropped = 0

    def take(self, lines: Sequence[str]) -> None:
        """Keep lines that come at this moment."""
        n_characters = sum(map(len, lines))
        if (
            self._n_lines + len(lines) > _MAX_WAITING_LINES
            or self._n_characters + n_characters > _MAX_WAITING_CHARACTERS
        ):
            self._n_dropped += len(lines)
            return
        self._n_lines += len(lines)
        self._n_characters += n_characters
        self._parts.append((self._now_ms(), lines))

    def give_back(self, parts: _Parts) -> None:
        """Let lines wait again that were drained and not stored."""
        self._parts = [*parts, *self._parts]
        self._n_lines += sum(len(lines) for _, lines in parts)

    def drain(self) -> tuple[_Parts, Faults]:
        """Everything that waits, which does not wait any more, and what was dropped."""
        parts, self._parts = self._parts, []
        dropped = Faults()
        if self._n_dropped:
            dropped.add_many(self._n_dropped, ["too many lines wait to be read"])
        self._n_lines = self._n_characters = self._n_dropped = 0
        return parts, dropped


class GraphiteReceiver:
    """Collects lines, and stores them at each flush; those without a time are of when they came."""

    def __init__(self, flusher: Flusher, now_ms: Callable[[], int]) -> None:
        self._flusher = flusher
        self._waiting = WaitingLines(now_ms)
        self.take = self._waiting.take

    async def flush(self) -> None:
        """Store what has come since the last flush."""
        parts, dropped = self._waiting.drain()
        if not parts and not dropped.number:
            return
        try:
            columns = await asyncio.to_thread(_read_graphite, parts)
            columns.faults.add_many(dropped.number, dropped.reasons)
            if len(columns.series) or columns.faults.number:
                await self._flusher.write(columns)
        except asyncio.CancelledError:
            # The process is ending, and its last flush stores them. Some may be stored already: the
            # same sample may be stored again.
            self._waiting.give_back(parts)
            raise


def _read_graphite(parts: _Parts) -> ImportedColumns:
    builder = ColumnsBuilder({})
    for now_ms, lines in parts:
        read_graphite_lines(lines, 1, builder, now_ms)
    return builder.finish()


class StatsdReceiver:
    """Aggregates lines, and stores the state of every series at each flush."""

    def __init__(
        self, flusher: Flusher, aggregator: StatsdAggregator, now_ms: Callable[[], int]
    ) -> None:
        self._flusher = flusher
        self._aggregator = aggregator
        self._now_ms = now_ms
        self._waiting = WaitingLines(now_ms)
        self._faults = Faults()
        self._turn = asyncio.Lock()
        self.take = self._waiting.take

    async def aggregate(self) -> None:
        """Read the lines that wait."""
        async with self._turn:
            parts, dropped = self._waiting.drain()
            if parts or dropped.number:
                await _to_its_end(asyncio.to_thread(self._read, parts, dropped))

    async def flush(self) -> None:
        """Store the samples of this moment."""
        async with self._turn:
            columns = await _to_its_end(asyncio.to_thread(self._flushed, *self._waiting.drain()))
        if len(columns.series) or columns.faults.number:
            await self._flusher.write(columns)

    def _flushed(self, parts: _Parts, dropped: Faults) -> ImportedColumns:
        self._read(parts, dropped)
        columns = self._aggregator.flush(self._now_ms())
        columns.faults.add_many(self._faults.number, self._faults.reasons)
        self._faults = Faults()
        return columns

    def _read(self, parts: _Parts, dropped: Faults) -> None:
        """Aggregate lines; a bad one is counted."""
        self._faults.add_many(dropped.number, dropped.reasons)
        for now_ms, lines in parts:
            for line in lines:
                self._aggregate(line.strip(), now_ms)

    def _aggregate(self, text: str, now_ms: int) -> None:
        try:
            for event in parse_statsd_line(text) if text else ():
                self._aggregator.add(event, now_ms)
        except ValueError as exc:
            self._faults.add("statsd", text, str(exc))


async def _to_its_end(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """The result of work that has taken lines: a cancellation comes after its end."""
    working = asyncio.create_task(work)
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait({working})
        raise
