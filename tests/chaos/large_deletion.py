"""The deletion of many series over many days: what each transaction of it does, and how long."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.corrections import CorrectionRequest, DeleteSamples, SampleScope
from promcompat.core.model import METRIC_NAME, Labels, WriteBatch
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import make_labels, make_matcher, series_key

TENANT = "default"
DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
"""The clock of the storage."""
_AT_ONCE = 500
_EVER = 1 << 60


@dataclass(frozen=True, slots=True)
class Step:
    """A transaction: how many samples it read and wrote again or removed, and how long it took."""

    n_samples: int
    seconds: float


@dataclass(slots=True)
class Deletion:
    """What a deletion took: until every query was without the samples, and then in steps."""

    seconds_until_hidden: float = 0.0
    steps: list[Step] = field(default_factory=list)

    def __str__(self) -> str:
        sizes = [step.n_samples for step in self.steps]
        seconds = sorted(step.seconds for step in self.steps)
        return (
            f"hidden after {self.seconds_until_hidden:.2f} s; {sum(sizes):,} samples removed in "
            f"{len(self.steps):,} transactions of at most {max(sizes):,} samples, in "
            f"{sum(seconds):.1f} s: median {seconds[len(seconds) // 2]:.3f} s, longest "
            f"{seconds[-1]:.3f} s"
        )


def series_of(name: str, n_series: int) -> list[Labels]:
    """The series of a metric."""
    return [make_labels(name, n=str(number)) for number in range(n_series)]


def _batch(series: Sequence[Labels], day: int, per_day: int) -> WriteBatch:
    start = (NOW_MS // DAY_MS - day) * DAY_MS
    times = start + np.arange(per_day, dtype=np.int64) * (DAY_MS // per_day)
    keys = [series_key(labels) for labels in series]
    values = np.tile(np.arange(per_day) % 7.0, len(series))
    return WriteBatch.of_keys(
        [key for key in keys for _ in range(per_day)],
        np.tile(times, len(series)),
        values,
        dict(zip(keys, series, strict=True)),
    )


async def fill(storage: MetricStorage, series: Sequence[Labels], days: int, per_day: int) -> None:
    """Store samples of the days before today, drained and merged."""
    for day in range(days, 0, -1):
        for first in range(0, len(series), _AT_ONCE):
            batch = _batch(series[first : first + _AT_ONCE], day, per_day)
            await storage.store.write_batch(TENANT, batch)
        await storage.drains.drainer.drain_all()
    await storage.drains.compact()


async def delete(storage: MetricStorage, name: str) -> Deletion:
    """Delete all samples of a metric, and measure each transaction until nothing is left."""
    found, began = Deletion(), time.perf_counter()
    scope = SampleScope([(make_matcher(METRIC_NAME, "=", name),)], -_EVER, _EVER)
    request = CorrectionRequest(DeleteSamples(scope), "chaos", "")
    await storage.corrections.begin(TENANT, request)
    found.seconds_until_hidden = time.perf_counter() - began
    await storage.drains.drainer.drain_all()
    assert storage.drains.compactor is not None
    while True:
        began = time.perf_counter()
        result = await storage.drains.compactor.compact()
        if result.is_done:
            return found
        found.steps.append(Step(result.n_samples, time.perf_counter() - began))
