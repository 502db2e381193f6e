"""A year of samples, with a clock of its own: bytes a sample, and seconds of maintenance.

    make bench-lifecycle ARGS="[--days N] [--series N] [--dense]"

Each day the samples of 200 series, one a minute, are appended and drained, and maintenance runs
once, two hours after the end of the day. Some metrics are kept for 7 days, the others for 90. What
maintenance takes for a day of data must not grow with the days before it. `--dense` is a week of
5,000 series with a sample every 15 s. HTTP and the decoding of requests are not part of it. Each
period prints a line, with the time that the rest will take if it goes on like this.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import asyncpg
import numpy as np

from promcompat.core.definitions import MetricDefinition
from promcompat.metrics.maintenance_service import MaintenanceReport, MaintenanceService
from sql.database.connection_pool import acquired
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.arrivals.arrival_log import AppendConditions, ArrivalKind, ArrivalLog, pages_of
from sql.samples.columns.series_samples import SeriesSamples
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StorageOptions, StoreKind
from tests.support.factories import make_batch, make_labels
from tests.support.programs.components import require_component
from tests.support.programs.servers import DatabaseServer, run_server
from tests.support.storage.repositories import drain_and_compact
from tests.support.storage.stored_blocks import Clock

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000
FIRST_DAY: Final = 19_000
RETENTION_DAYS: Final = 90
SHORT_DAYS: Final = 7
PERIOD_DAYS: Final = 30
OFFSET_MS: Final = 4_321
"""Scrapes are not at whole minutes. A sample exactly at the start of a bucket is one of its own."""
_SIZES: Final = """
SELECT 'runs' AS level, (
    SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
    FROM pg_inherits WHERE inhparent = 'sample_run'::regclass
) AS n_bytes,
    coalesce(sum(n_samples), 0)::bigint AS n_samples
FROM sample_run
UNION ALL
SELECT 'blocks', (
    SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint
    FROM pg_inherits WHERE inhparent = 'sample_block'::regclass
), coalesce(sum(n_samples), 0)::bigint
FROM sample_block
UNION ALL
SELECT 'rollups of 5 minutes and more', pg_total_relation_size('sample_rollup'),
    (SELECT coalesce(sum(n_samples), 0)::bigint FROM sample_block)
UNION ALL
SELECT 'hours of SQL', pg_total_relation_size('sample_hour'),
    (SELECT coalesce(sum(n_samples), 0)::bigint FROM sample_block)
"""


@dataclass(frozen=True, slots=True)
class Load:
    """So many series with a sample every `step_ms`, for so many days."""

    n_series: int
    step_ms: int
    days: int


@dataclass(frozen=True, slots=True)
class Day:
    """What a day took: seconds by step of maintenance, and those of appending and draining."""

    append_seconds: float
    report: MaintenanceReport

    @property
    def maintenance_seconds(self) -> float:
        """All steps together."""
        return sum(step.seconds for step in self.report.steps)

    def seconds_of(self, name: str) -> float:
        """What a step took."""
        return sum(step.seconds for step in self.report.steps if step.name == name)


class Life:
    """One database, day by day."""

    def __init__(self, storage: MetricStorage, clock: Clock, load: Load) -> None:
        self._storage = storage
        self._clock = clock
        self._load = load
        self._log = ArrivalLog(storage.database.log_pool, storage.database.guard)
        self._service = MaintenanceService(storage.maintenance, RETENTION_DAYS, clock)
        self._rng = np.random.default_rng(1)
        self._values = self._rng.integers(0, 1_000, load.n_series).astype(np.float64)
        self._tenant_id = 0
        self._ids = np.empty(0, np.int64)

    async def begin(self) -> None:
        """Create the series: every fourth metric is kept for a short time only."""
        names = [f"metric_{number % 20}" for number in range(self._load.n_series)]
        self._clock.now_ms = FIRST_DAY * DAY_MS
        rows = {
            make_labels(name, host=f"host-{number}"): [(self._clock.now_ms, 0.0)]
            for number, name in enumerate(names)
        }
        await self._storage.store.write_batch("default", make_batch(rows))
        definitions = PostgresDefinitionRepository(self._storage.database)
        for name in sorted(set(names))[::4]:
            definition = replace(MetricDefinition(name=name), retention_days=SHORT_DAYS)
            await definitions.save("default", definition, 0)
        found = await self._storage.database.tenants.find("default")
        assert found is not None
        self._tenant_id = found
        async with acquired(self._storage.database.write_pool) as connection:
            ids = await connection.fetch("SELECT id FROM series ORDER BY id")
        self._ids = np.array([row["id"] for row in ids], np.int64)

    async def live(self, day: int) -> Day:
        """A day of samples, and the maintenance after it."""
        started = time.perf_counter()
        for hour in range(24):
            self._clock.now_ms = (FIRST_DAY + day) * DAY_MS + (hour + 1) * HOUR_MS
            await self._append(self._clock.now_ms - HOUR_MS)
            await drain_and_compact(self._storage)
        seconds = time.perf_counter() - started
        self._clock.now_ms += 2 * HOUR_MS
        return Day(seconds, await self._service.run_once())

    async def _append(self, start_ms: int) -> None:
        """An hour of counters and gauges, half of each."""
        n_series, n_times = self._load.n_series, HOUR_MS // self._load.step_ms
        steps = self._rng.integers(0, 50, (n_series, n_times)).astype(np.float64)
        values = self._values[:, None] + np.cumsum(steps, axis=1)
        values[1::2] = np.round(steps[1::2] * 1.5, 1)
        self._values = values[:, -1]
        times = np.arange(n_times) * self._load.step_ms + start_ms + OFFSET_MS
        samples = SeriesSamples(
            self._ids,
            np.arange(n_series + 1) * n_times,
            np.tile(times, n_series),
            values.ravel(),
        )
        arrivals = pages_of(self._tenant_id, samples, ArrivalKind.SAMPLES)
        version = self._storage.database.guard.version
        await self._log.append(arrivals, AppendConditions(version=version))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def period_line(first_day: int, days: Sequence[Day], load: Load) -> str:
    """What the days of a period took, in the median."""
    maintenance = float(np.median([day.maintenance_seconds for day in days]))
    appending = float(np.median([day.append_seconds for day in days]))
    n_dropped = sum(day.report.amount_of("retain") for day in days)
    n_samples = load.n_series * DAY_MS // load.step_ms
    names = [step.name for step in days[-1].report.steps]
    seconds = {name: float(np.median([day.seconds_of(name) for day in days])) for name in names}
    longest = sorted(seconds, key=lambda name: -seconds[name])[:2]
    return (
        f"days {first_day:3} to {first_day + len(days) - 1:3}: maintenance {maintenance:6.3f} s "
        f"for a day of {n_samples:,} samples (appending, drains and merges {appending:6.2f} s), "
        f"{n_dropped} partitions dropped; "
        + ", ".join(f"{name} {seconds[name]:.3f} s" for name in longest)
    )


def progress_line(n_days: int, load: Load, seconds: float) -> str:
    """How far it is, and how long the rest will take."""
    left = seconds / n_days * (load.days - n_days)
    return f"  {n_days} of {load.days} days after {seconds:.0f} s, about {left:.0f} s more"


async def report_sizes(url: str) -> None:
    """Bytes a sample of each level."""
    connection = await asyncpg.connect(url)
    try:
        for level, n_bytes, n_samples in await connection.fetch(_SIZES):
            of_sample = f"{n_bytes / n_samples:.3f} bytes a sample" if n_samples else "no samples"
            _say(f"  {level}: {n_bytes / 1e6:,.1f} MB, {n_samples:,} samples, {of_sample}")
    finally:
        await connection.close()


async def run(server: DatabaseServer, load: Load) -> None:
    """Live through all days, and print a line for each period."""
    url, clock = server.create_database(), Clock()
    options = StorageOptions(store=StoreKind.BLOCKS, now_ms=clock, retention_days=RETENTION_DAYS)
    storage = await MetricStorage.open(url, options)
    try:
        life = Life(storage, clock, load)
        await life.begin()
        period = min(PERIOD_DAYS, max(load.days // 8, 1))
        medians, started = [], time.perf_counter()
        for first in range(0, load.days, period):
            days = [await life.live(day) for day in range(first, min(first + period, load.days))]
            assert not [failure for day in days for failure in day.report.failures]
            _say(period_line(first, days, load))
            _say(progress_line(first + len(days), load, time.perf_counter() - started))
            medians.append(float(np.median([day.maintenance_seconds for day in days])))
        await report_sizes(url)
        _say(f"the last period takes {medians[-1] / medians[0]:.2f} of the first")
    finally:
        await storage.close()


def main() -> None:
    """Run on a database of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int)
    parser.add_argument("--series", type=int)
    parser.add_argument("--dense", action="store_true")
    chosen = parser.parse_args()
    usual = Load(5_000, 15_000, 7) if chosen.dense else Load(200, 60_000, 365)
    load = replace(usual, n_series=chosen.series or usual.n_series, days=chosen.days or usual.days)
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        distribution = require_component("TimescaleDB")
        with run_server("lifecycle", distribution, Path(folder), lambda _line: None) as server:
            asyncio.run(run(server, load))


if __name__ == "__main__":
    main()
