"""What 1,000 definitions with thresholds cost ingest: part of `make bench`, or alone
`python -m tests.benchmarks.thresholds`.

Two repositories on one database write the same kind of batches in turn: one watches thresholds,
the other does not. Ten series of each defined metric are written, none of which breaches, and as
many series without a definition.
"""

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from promcompat.core.alerting.thresholds import AlertThreshold, Direction
from promcompat.core.definitions import MetricDefinition
from promcompat.core.model import METRIC_NAME, Labels, WriteBatch
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.embedded.database import EmbeddedDatabase
from sql.migrate import migrate
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import series_key
from tests.support.storage.repositories import discard

N_DEFINITIONS = 1000
N_SERIES_EACH = 10
ROWS_PER_BATCH = 2000
N_PARALLEL = 4
N_ROUNDS = 12
TENANT = "bench"


@dataclass(frozen=True, slots=True)
class ThresholdCost:
    """Medians of samples per second, and the median of the ratios of rounds."""

    without: float
    with_thresholds: float
    ratio: float

    def __str__(self) -> str:
        return (
            f"ingest, {N_DEFINITIONS:,} definitions with thresholds: "
            f"{self.with_thresholds:,.0f} samples/s, without {self.without:,.0f} samples/s, "
            f"ratio {self.ratio:.3f}"
        )


def make_batches(at_ms: int) -> list[WriteBatch]:
    """One sample of every series, in batches."""
    series = [
        Labels.of({METRIC_NAME: f"{kind}_{number}", "n": str(n)})
        for kind in ("defined", "free")
        for number in range(N_DEFINITIONS)
        for n in range(N_SERIES_EACH)
    ]
    keys = [series_key(labels) for labels in series]
    return [
        WriteBatch.of_keys(
            keys[start : start + ROWS_PER_BATCH],
            np.full(len(keys[start : start + ROWS_PER_BATCH]), at_ms, np.int64),
            np.random.default_rng(start).random(len(keys[start : start + ROWS_PER_BATCH])),
            dict(zip(keys, series, strict=True)),
        )
        for start in range(0, len(keys), ROWS_PER_BATCH)
    ]


async def write_all(storage: MetricStorage, batches: list[WriteBatch]) -> float:
    """Samples per second."""
    waiting = list(batches)
    started = time.perf_counter()

    async def write_rest() -> None:
        while waiting:
            await storage.store.write_batch(TENANT, waiting.pop())

    await asyncio.gather(*(write_rest() for _ in range(N_PARALLEL)))
    return sum(map(len, batches)) / (time.perf_counter() - started)


async def measure(url: str) -> ThresholdCost:
    """Both kinds of storage in turn, on one empty database."""
    await migrate(url, discard)
    plain = await MetricStorage.open(url)
    watching = await MetricStorage.open(url)
    definitions = PostgresDefinitionRepository(plain.database)
    threshold = AlertThreshold(warning=5.0, critical=8.0, direction=Direction.ABOVE)
    for number in range(N_DEFINITIONS):
        definition = MetricDefinition(name=f"defined_{number}", alert_threshold=threshold)
        await definitions.save(TENANT, definition, 0)
    await watching.threshold_watch.refresh()
    now_ms = time.time_ns() // 1_000_000
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(-2, N_ROUNDS):
        for which, storage in enumerate((plain, watching)):
            samples = make_batches(now_ms + number * 1000 + which)
            rate = await write_all(storage, samples)
            if number >= 0:
                rates[which].append(rate)
    assert watching.threshold_watch.n_series == N_DEFINITIONS * N_SERIES_EACH
    await plain.close()
    await watching.close()
    ratios = [with_ / without for without, with_ in zip(*rates, strict=True)]
    return ThresholdCost(median(rates[0]), median(rates[1]), median(ratios))


def measure_thresholds(folder: Path) -> ThresholdCost:
    """Measure on a database of its own in `folder`, which must be open to its account."""
    database = EmbeddedDatabase.start(folder / "thresholds", report=discard)
    try:
        return asyncio.run(measure(database.url))
    finally:
        database.stop()


def main() -> int:
    """Run it alone; the exit code."""
    with tempfile.TemporaryDirectory(prefix="promcompat-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        sys.stdout.write(f"{measure_thresholds(folder)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
