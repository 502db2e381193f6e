"""What one run of maintenance does when steps of it fail."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from promcompat.core.errors import ConnectionLostError, QueryTimeoutError
from promcompat.core.maintenance import OrphanSeries, RetainedMetric, SampleChunk, StaleHours
from promcompat.core.model import SeriesSelection
from promcompat.core.ports import MaintenanceSteps
from promcompat.metrics.maintenance_service import MaintenanceService

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = 20_000 * DAY_MS + 12 * HOUR_MS


class FakeSteps:
    """Chunks of the last three days; hours in `failing` cannot be computed.

    Nor can more than `most_hours` at once.
    """

    def __init__(
        self,
        *,
        most_hours: int = 6,
        failing: Sequence[int] = (),
        metrics: Sequence[str] = ("bad", "good"),
    ) -> None:
        today = NOW_MS // DAY_MS
        self.known_ms: int | None = None
        self.computed: list[tuple[int, int]] = []
        self.looked_for_orphans = 0
        self._chunks = [
            SampleChunk(day, f"day {day}", day * DAY_MS, (day + 1) * DAY_MS)
            for day in range(today - 2, today + 1)
        ]
        self._most_hours = most_hours
        self._failing = failing
        self._metrics = metrics

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[MaintenanceSteps | None]:
        yield self

    async def fit_edition(self) -> None:
        """Nothing to fit."""

    async def retained_metrics(self) -> list[RetainedMetric]:
        return [RetainedMetric(1, "red", name, 1) for name in self._metrics]

    async def drop_days_before(self, before_ms: int) -> int:
        return 0

    async def chunks(self) -> list[SampleChunk]:
        return self._chunks

    async def empty_chunks(self, ends_before_ms: int) -> list[SampleChunk]:
        return []

    async def drop_chunk(self, chunk: SampleChunk, *, only_empty: bool) -> bool:
        raise ConnectionLostError("gone")

    async def delete(self, tenant: str, selection: SeriesSelection) -> int:
        if selection.matchers[0].value == "bad":
            raise QueryTimeoutError("too slow")
        return 1

    async def orphan_series(self, after_id: int) -> OrphanSeries | None:
        self.looked_for_orphans += 1
        return None

    async def remove_series(self, series_ids: Sequence[int]) -> int:
        raise AssertionError("there is no orphan")

    async def collect_stale_hours(self, first_ms: int | None) -> list[StaleHours]:
        return [StaleHours(1, [hour]) for hour in (*self._failing, 7)]

    async def compute_again(self, stale: StaleHours) -> None:
        if stale.hours[0] in self._failing:
            raise QueryTimeoutError("too slow")

    async def hours_computed_before(self) -> int | None:
        return self.known_ms

    async def compute_hours(self, start_ms: int, end_ms: int) -> None:
        hours = range(start_ms // HOUR_MS, end_ms // HOUR_MS)
        if len(hours) > self._most_hours or set(hours) & set(self._failing):
            raise QueryTimeoutError("too slow")
        self.computed.append((start_ms, end_ms))
        self.known_ms = end_ms

    async def hours_are_computed(self, before_ms: int) -> None:
        self.known_ms = before_ms


def service(steps: FakeSteps, retention_days: int = 0) -> MaintenanceService:
    return MaintenanceService(steps, steps, retention_days, lambda: NOW_MS)


async def test_hours_are_computed_six_at_a_time_up_to_an_hour_ago() -> None:
    steps = FakeSteps()
    report = await service(steps).run_once()
    first_ms, end_ms = (NOW_MS // DAY_MS - 2) * DAY_MS, NOW_MS - HOUR_MS
    assert [start for start, _ in steps.computed] == list(range(first_ms, end_ms, 6 * HOUR_MS))
    assert steps.known_ms == end_ms
    assert report.n_hours_computed == 24 + 24 + 11 + 1


async def test_what_takes_too_long_is_computed_hour_by_hour() -> None:
    steps = FakeSteps(most_hours=1)
    await service(steps).run_once()
    assert steps.known_ms == NOW_MS - HOUR_MS
    assert len(steps.computed) == 24 + 24 + 11


async def test_no_hour_is_left_out_before_computed_ones() -> None:
    """Readers take the samples from the first hour that is not computed."""
    bad = NOW_MS // HOUR_MS - 20
    steps = FakeSteps(failing=[bad])
    report = await service(steps).run_once()
    assert steps.known_ms == bad * HOUR_MS
    assert {failure.task for failure in report.failures} == {"retention", "metrics_hourly"}


async def test_a_metric_that_fails_stops_no_other() -> None:
    report = await service(FakeSteps()).run_once()
    assert [(metric.name, count) for metric, count in report.deleted] == [("good", 2)]
    assert {failure.subject for failure in report.failures} == {"metric bad of tenant red"}


async def test_stale_hours_that_fail_stop_no_other() -> None:
    bad = NOW_MS // HOUR_MS - 90
    report = await service(FakeSteps(failing=[bad])).run_once()
    assert f"hours {bad} to {bad} of tenant 1" in {failure.subject for failure in report.failures}
    assert report.n_hours_computed == 24 + 24 + 11 + 1


async def test_a_lost_connection_ends_the_run() -> None:
    with pytest.raises(ConnectionLostError):
        await service(FakeSteps(), retention_days=1).run_once()


@pytest.mark.parametrize(("metrics", "n_looks"), [((), 1), (("good",), 3)])
async def test_orphans_are_looked_for_at_first_and_when_samples_went(
    metrics: Sequence[str], n_looks: int
) -> None:
    steps = FakeSteps(metrics=metrics)
    maintenance = service(steps)
    for _ in range(3):
        await maintenance.run_once()
    assert steps.looked_for_orphans == n_looks
