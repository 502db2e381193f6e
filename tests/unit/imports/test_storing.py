"""Imports of tenants whose rate is limited."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from promcompat.core.errors import RateLimitedError, StorageUnavailableError
from promcompat.core.limits.tenant_limits import Limits, SameLimits, TenantLimits
from promcompat.core.model import WriteBatch
from promcompat.imports import storing
from promcompat.imports.columns import ColumnsBuilder, ImportedColumns
from promcompat.imports.storing import ImportStore, MakeBatch, Outcome
from promcompat.limits.ingest_rates import IngestRates
from promcompat.metrics.metric_service import MetricService
from promcompat.telemetry.telemetry import Telemetry
from tests.support.fakes import InMemoryStore


class Counted:
    """What limits refused."""

    def __init__(self) -> None:
        self.number = 0

    def count(self, tenant: str, limit: str, number: int = 1) -> None:
        self.number += number


class Clock:
    """The time of the buckets; whoever sleeps moves it on, unless it stands still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stands: bool = False) -> None:
        self.seconds = 0.0
        self.slept = 0.0
        self._stands = stands
        monkeypatch.setattr(storing, "asyncio", SimpleNamespace(sleep=self._sleep))
        monkeypatch.setattr(storing, "time", SimpleNamespace(monotonic=lambda: self.slept))

    async def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        if not self._stands:
            self.seconds += seconds


async def work(_n_bytes: int, make: MakeBatch) -> Any:
    return make()


def columns_of(n_samples: int) -> ImportedColumns:
    builder = ColumnsBuilder({})
    series = builder.number_of({"__name__": "m"})
    for time_ms in range(n_samples):
        builder.add(series, time_ms, 1.0)
    return builder.finish()


def store_of(clock: Clock, refusals: Counted, store: InMemoryStore | None = None) -> ImportStore:
    values = TenantLimits(ingestion_rate=10, ingestion_burst_size=100)
    limits = Limits(SameLimits(values), refusals)
    stored = InMemoryStore() if store is None else store
    rates = IngestRates(limits, lambda: clock.seconds)
    metrics = MetricService(stored, stored, limits=limits)
    return ImportStore(metrics, Telemetry().imports, work, rates)


async def test_a_piece_beyond_the_burst_waits_and_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, refusals, outcome = Clock(monkeypatch), Counted(), Outcome()
    await store_of(clock, refusals).add("t", "json", columns_of(350), outcome)
    assert (outcome.n_stored, refusals.number) == (350, 0)
    assert clock.seconds == pytest.approx(25.0, abs=1.0)


async def test_what_waited_too_long_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, refusals = Clock(monkeypatch, stands=True), Counted()
    store = store_of(clock, refusals)
    with pytest.raises(RateLimitedError):
        await store.add("t", "json", columns_of(150), Outcome())
    assert refusals.number == 50
    assert clock.slept == pytest.approx(20.0, abs=1.0)
    # The first portion was given back.
    await store.add("t", "json", columns_of(100), Outcome())


class AwayStore(InMemoryStore):
    """A store whose database is away."""

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        raise StorageUnavailableError("down")


async def test_what_could_not_be_stored_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, refusals = Clock(monkeypatch, stands=True), Counted()
    store = store_of(clock, refusals, AwayStore())
    for _ in range(3):
        with pytest.raises(StorageUnavailableError):
            await store.add("t", "json", columns_of(100), Outcome())
    assert (refusals.number, clock.slept) == (0, 0.0)


class RestartingStore(InMemoryStore):
    """A store whose database comes back."""

    n_refused = 0

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        self.n_refused += 1
        if self.n_refused <= 30:
            raise StorageUnavailableError("down")
        await super().write_batch(tenant, batch)


async def test_what_nobody_sends_again_waits_for_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, refusals, outcome = Clock(monkeypatch), Counted(), Outcome()
    store = replace(store_of(clock, refusals, RestartingStore()), outlasts_outages=True)
    await store.add("t", "graphite", columns_of(10), outcome)
    assert (outcome.n_stored, clock.slept) == (10, 30.0)
