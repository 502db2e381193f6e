"""What becomes of the lines that listeners receive: Graphite's are stored, StatsD's aggregated."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.errors import PromcompatError
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns
from promcompat.imports.graphite_lines import read_graphite_lines
from promcompat.imports.statsd_aggregation import StatsdAggregator, columns_of
from promcompat.imports.statsd_lines import parse_statsd_line
from promcompat.imports.storing import ImportStore, Outcome

_LOGGER = logging.getLogger(__name__)
_MAX_WAITING_LINES: Final = 200_000
_MAX_WAITING_CHARACTERS: Final = 64 << 20


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
                extra={"format": self.format_name, "samples": len(columns.series),
                       "reason": str(exc)},
            )  # fmt: skip
        if outcome.faults.number:
            _LOGGER.warning(
                "lines of a listener were not stored",
                extra={"format": self.format_name, "lines": outcome.faults.number,
                       "first": outcome.faults.reasons[:1]},
            )  # fmt: skip


class GraphiteReceiver:
    """Collects lines, and stores them at each flush.

    Beyond 200,000 lines or 64 MiB, lines are dropped. They are read in a thread, as reading them
    takes longer than receiving them.
    """

    def __init__(self, flusher: Flusher, now_ms: Callable[[], int]) -> None:
        self._flusher = flusher
        self._now_ms = now_ms
        self._waiting: list[tuple[int, Sequence[str]]] = []
        self._n_lines = self._n_characters = self._n_dropped = 0

    def take(self, lines: Sequence[str]) -> None:
        """Keep lines; those without a time are of this moment."""
        n_characters = sum(map(len, lines))
        if (
            self._n_lines + len(lines) > _MAX_WAITING_LINES
            or self._n_characters + n_characters > _MAX_WAITING_CHARACTERS
        ):
            self._n_dropped += len(lines)
            return
        self._n_lines += len(lines)
        self._n_characters += n_characters
        self._waiting.append((self._now_ms(), lines))

    async def flush(self) -> None:
        """Store what has come since the last flush."""
        waiting, self._waiting = self._waiting, []
        n_dropped = self._n_dropped
        self._n_lines = self._n_characters = self._n_dropped = 0
        if waiting or n_dropped:
            columns = await asyncio.to_thread(_read_waiting, waiting)
            columns.faults.add_many(
                n_dropped, ["too many lines wait to be stored"] * (n_dropped > 0)
            )
            if len(columns.series) or columns.faults.number:
                await self._flusher.write(columns)


def _read_waiting(waiting: Sequence[tuple[int, Sequence[str]]]) -> ImportedColumns:
    builder = ColumnsBuilder({})
    for now_ms, lines in waiting:
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
        self._faults = ColumnsBuilder({}).faults

    def take(self, lines: Sequence[str]) -> None:
        """Aggregate lines; a bad one is counted."""
        now_ms = self._now_ms()
        for line in lines:
            if text := line.strip():
                try:
                    for event in parse_statsd_line(text):
                        self._aggregator.add(event, now_ms)
                except ValueError as exc:
                    self._faults.add("statsd", text, str(exc))

    async def flush(self) -> None:
        """Store the samples of this moment."""
        now_ms = self._now_ms()
        columns = await asyncio.to_thread(columns_of, self._aggregator.values(now_ms), now_ms)
        columns.faults.add_many(self._faults.number, self._faults.reasons)
        self._faults = ColumnsBuilder({}).faults
        if len(columns.series) or columns.faults.number:
            await self._flusher.write(columns)
