"""Stores the columns of a reader, and counts what was stored and what was not."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from promcompat.core.errors import (
    OverloadedError,
    RateLimitedError,
    StaleKnowledgeError,
    WriteRejectedError,
)
from promcompat.core.model import WriteBatch
from promcompat.imports.columns import Faults, ImportedColumns
from promcompat.ingest_telemetry import ImportMetrics
from promcompat.limits.ingest_rates import IngestRates
from promcompat.metrics.metric_service import MetricService

SAMPLES_HEADER: Final = "X-Promcompat-Samples-Stored"
"""Says how many samples of a request were stored."""
_ATTEMPTS: Final = 3
_PATIENCE_SECONDS: Final = 20.0
"""How long an import waits for room. Its first pieces are stored, so a refusal would be partial."""
_BYTES_PER_ROW: Final = 16

MakeBatch = Callable[[], tuple[WriteBatch, Faults]]
Work = Callable[[int, MakeBatch], Awaitable[tuple[WriteBatch, Faults]]]
"""Calls a function that works on so many bytes, in a thread where that may take long."""


@dataclass(slots=True)
class Outcome:
    """What became of the samples of a request."""

    n_stored: int = 0
    n_skipped: int = 0
    faults: Faults = field(default_factory=Faults)

    def text(self) -> str:
        """What was not stored and why, for people; the first reasons, one a line."""
        head = (
            f"{self.faults.number} samples or lines were not stored, {self.n_stored} samples were:"
        )
        return "\n".join([head, *self.faults.reasons])

    def headers(self) -> dict[str, str]:
        """The header with the number of samples stored."""
        return {SAMPLES_HEADER: str(self.n_stored)}


@dataclass(frozen=True, slots=True)
class ImportStore:
    """Where readers put their columns; the counters are of the process."""

    metrics: MetricService
    counters: ImportMetrics
    work: Work
    rates: IngestRates

    async def add(
        self, tenant: str, format_name: str, columns: ImportedColumns, outcome: Outcome
    ) -> None:
        """Store the samples of a piece, and add to the outcome. Raises the errors of writing."""
        n_before, n_stored_before = outcome.faults.number, outcome.n_stored
        outcome.faults.add_many(columns.faults.number, columns.faults.reasons)
        outcome.n_skipped += columns.n_skipped
        try:
            await self._store(tenant, columns, outcome)
        finally:
            counters = self.counters
            counters.stored.labels(format_name).inc(outcome.n_stored - n_stored_before)
            counters.refused.labels(format_name).inc(outcome.faults.number - n_before)
            counters.skipped.labels(format_name).inc(columns.n_skipped)

    async def _store(self, tenant: str, columns: ImportedColumns, outcome: Outcome) -> None:
        """Write the batch; make it again when series that it knew were removed meanwhile.

        A tenant that writes too fast is made to wait.
        """
        attempts, deadline = _ATTEMPTS, time.monotonic() + _PATIENCE_SECONDS
        is_admitted = False
        while True:
            try:
                if not is_admitted:
                    self.rates.take(tenant, len(columns.series))
                    is_admitted = True
                await self._write(tenant, columns, outcome)
                return
            except StaleKnowledgeError:
                attempts -= 1
                if not attempts:
                    raise
            except (OverloadedError, RateLimitedError) as exc:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(min(exc.retry_after_seconds, 1.0))

    async def _write(self, tenant: str, columns: ImportedColumns, outcome: Outcome) -> None:
        known, limits = self.metrics.known_series(tenant), self.metrics.label_limits(tenant)
        batch, left_out = await self.work(
            _BYTES_PER_ROW * len(columns.series), lambda: columns.to_batch(known, limits)
        )
        n_rows = len(batch)
        for limit, number in left_out.by_limit.items():
            self.metrics.count_refused(tenant, limit, number)
        try:
            if n_rows or batch.metadata:
                await self.metrics.write(tenant, batch)
        except WriteRejectedError as exc:
            n_refused = len(exc.rows) + len(exc.refused)
            n_rows -= n_refused
            reasons = [*str(exc).split("\n"), *exc.refused.values()]
            outcome.faults.add_many(n_refused, dict.fromkeys(reasons))
        outcome.n_stored += n_rows
        outcome.faults.add_many(left_out.number, left_out.reasons)
