"""Stores the columns of a reader, and counts what was stored and what was not."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from promcompat.core.errors import (
    OverloadedError,
    StaleKnowledgeError,
    StorageUnavailableError,
    WriteRejectedError,
)
from promcompat.core.model import WriteBatch
from promcompat.imports.columns import Faults, ImportedColumns
from promcompat.limits.ingest_rates import IngestRates
from promcompat.metrics.metric_service import MetricService
from promcompat.telemetry.ingest import ImportMetrics

SAMPLES_HEADER: Final = "X-Promcompat-Samples-Stored"
"""Says how many samples of a request were stored."""
UNSEEN_HEADER: Final = "X-Promcompat-Samples-Past-Retention"
"""Says how many of these nobody sees, if there are any."""
_ATTEMPTS: Final = 3
_PATIENCE_SECONDS: Final = 20.0
"""How long an import waits for room. Its first pieces are stored, so a refusal would be partial."""
_OUTAGE_SECONDS: Final = 600.0
_PAUSE_SECONDS: Final = 1.0
_LEAST_PAUSE_SECONDS: Final = 0.01
_BYTES_PER_ROW: Final = 16

MakeBatch = Callable[[], tuple[WriteBatch, Faults]]
Work = Callable[[int, MakeBatch], Awaitable[tuple[WriteBatch, Faults]]]
"""Calls a function that works on so many bytes, in a thread where that may take long."""


@dataclass(slots=True)
class Outcome:
    """What became of the samples of a request; nobody sees `n_unseen` of those stored."""

    n_stored: int = 0
    n_unseen: int = 0
    n_skipped: int = 0
    faults: Faults = field(default_factory=Faults)

    def text(self) -> str:
        """What was not stored and why, for people; the first reasons, one a line."""
        head = (
            f"{self.faults.number} samples or lines were not stored, {self.n_stored} samples were:"
        )
        return "\n".join([head, *self.faults.reasons])

    def headers(self) -> dict[str, str]:
        """The headers with the number of samples stored, and past the retention."""
        unseen = {UNSEEN_HEADER: str(self.n_unseen)} if self.n_unseen else {}
        return {SAMPLES_HEADER: str(self.n_stored), **unseen}


@dataclass(frozen=True, slots=True)
class ImportStore:
    """Where readers put their columns; the counters are of the process.

    `outlasts_outages`: nobody sends again what is not stored, so it waits for ten minutes while the
    database does not answer.
    """

    metrics: MetricService
    counters: ImportMetrics
    work: Work
    rates: IngestRates
    outlasts_outages: bool = False

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
        """Write the columns once the tenant may; what could not be stored is given back."""
        async with self._admitted(tenant, len(columns.series)):
            await self._write_patiently(tenant, columns, outcome)

    @asynccontextmanager
    async def _admitted(self, tenant: str, n_items: int) -> AsyncIterator[None]:
        """Take the items in portions: how many a piece has is not the choice of the sender.

        A tenant that writes too fast is made to wait. Raises RateLimitedError when it waited for
        one of the portions for too long.
        """
        n_taken = 0
        with self.rates.given_back_unless_stored(tenant, lambda: n_taken):
            while n_taken < n_items:
                n_portion = self.rates.portion(tenant, n_items - n_taken)
                await self._wait_for(tenant, n_portion)
                self.rates.take(tenant, n_portion)
                n_taken += n_portion
            yield

    async def _wait_for(self, tenant: str, n_items: int) -> None:
        """Wait until items can be taken, as long as patience lasts."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            seconds = self.rates.wait_seconds(tenant, n_items)
            if not seconds:
                return
            await asyncio.sleep(min(seconds + _LEAST_PAUSE_SECONDS, _PAUSE_SECONDS))

    async def _write_patiently(
        self, tenant: str, columns: ImportedColumns, outcome: Outcome
    ) -> None:
        """Write the batch; make it again when series that it knew were removed meanwhile."""
        patience = _OUTAGE_SECONDS if self.outlasts_outages else _PATIENCE_SECONDS
        attempts, deadline = _ATTEMPTS, time.monotonic() + patience
        while True:
            try:
                await self._write(tenant, columns, outcome)
                return
            except StaleKnowledgeError:
                attempts -= 1
                if not attempts:
                    raise
            except StorageUnavailableError as exc:
                is_waited_for = self.outlasts_outages or isinstance(exc, OverloadedError)
                if not is_waited_for or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _write(self, tenant: str, columns: ImportedColumns, outcome: Outcome) -> None:
        known, limits = self.metrics.known_series(tenant), self.metrics.label_limits(tenant)
        batch, left_out = await self.work(
            _BYTES_PER_ROW * len(columns.series), lambda: columns.to_batch(known, limits)
        )
        stored = batch.timestamps
        try:
            if len(batch) or batch.metadata:
                await self.metrics.write(tenant, batch)
        except WriteRejectedError as exc:
            refused = [*exc.rows, *exc.refused]
            stored = np.delete(stored, refused)
            reasons = [*str(exc).split("\n"), *exc.refused.values()]
            outcome.faults.add_many(len(refused), dict.fromkeys(reasons))
        for limit, number in left_out.by_limit.items():
            self.metrics.count_refused(tenant, limit, number)
        outcome.n_stored += len(stored)
        outcome.faults.add_many(left_out.number, left_out.reasons)
        with suppress(StorageUnavailableError):
            outcome.n_unseen += await self.metrics.count_unseen(tenant, stored)
