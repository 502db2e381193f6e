"""`python -m tests.benchmarks.evaluation_bench`: the engine on samples in memory, no database.

Each line is the processor time of planning and evaluating one query, and of its JSON. Nothing is
asserted. To compare two versions, run both in turn on one machine and compare the ratios.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from promcompat.api.result_json import query_data_parts
from promcompat.core.model import EvalRange, SampleBlock, SeriesSelection
from promcompat.core.ports import CheckBytes, any_bytes
from promcompat.processes.memory_allocator import keep_freed_memory
from promql.engine import Engine, EngineOptions
from promql.query import Query
from tests.support.factories import make_labels

HOUR_MS = 3_600_000
SCRAPE_MS = 15_000
BOUNDS = ("0.1", "0.2", "0.5", "1", "2", "5", "10", "30", "60", "+Inf")
PANEL = EvalRange(300_000, HOUR_MS, SCRAPE_MS)
NOW = EvalRange.instant(HOUR_MS)


def counters(n_series: int, span_ms: int = HOUR_MS) -> SampleBlock:
    """Counters scraped every 15 s with some jitter; neighbours are the buckets of a histogram."""
    n_samples = span_ms // SCRAPE_MS
    generator = np.random.default_rng(1)
    shape = n_series, n_samples
    times = np.arange(n_samples) * SCRAPE_MS + generator.integers(0, 50, shape)
    values = np.cumsum(generator.integers(0, 50, shape), axis=1).astype(np.float64)
    labels = tuple(
        make_labels(
            "m_total",
            instance=f"10.0.{n // 200}.{n % 200}:9100",
            job=f"job-{n % 20}",
            le=BOUNDS[n % len(BOUNDS)],
        )
        for n in range(n_series)
    )
    return SampleBlock(labels, times.ravel(), values.ravel(), np.arange(n_series + 1) * n_samples)


@dataclass(frozen=True, slots=True)
class Case:
    """A query, its steps, and how much data it reads."""

    expr: str
    grid: EvalRange
    n_series: int
    span_ms: int = HOUR_MS


CASES = (
    Case("m_total", NOW, 1),
    Case("rate(m_total[5m])", PANEL, 1),
    Case("rate(m_total[5m]) > 6.5", NOW, 400),
    Case("sum by (job) (rate(m_total[5m])) > 0", NOW, 1_000),
    Case("m_total", EvalRange.instant(1_200_000), 10_000, 1_200_000),
    Case("m_total", EvalRange(300_000, HOUR_MS, 60_000), 1_000),
    Case("sum by (job) (m_total)", EvalRange(700_000, 1_180_000, 30_000), 10_000, 1_200_000),
    Case("sum by (job) (rate(m_total[5m]))", PANEL, 400),
    Case("topk(5, rate(m_total[5m]))", PANEL, 400),
    Case("histogram_quantile(0.9, sum by (le, job) (rate(m_total[5m])))", PANEL, 1_000),
    Case("avg_over_time(m_total[5m])", PANEL, 400),
    Case("max_over_time(m_total[5m])", PANEL, 400),
    Case("quantile_over_time(0.9, m_total[5m])", PANEL, 400),
    Case("stddev_over_time(m_total[5m])", PANEL, 400),
    Case("deriv(m_total[5m])", PANEL, 400),
    Case("changes(m_total[1h])", PANEL, 400),
    Case("sum(rate(m_total[5m]))", EvalRange(300_000, 24 * HOUR_MS, 60_000), 1_000, 24 * HOUR_MS),
)


class BlockReader:
    """A `SampleReader` that gives one block for every selection."""

    def __init__(self, block: SampleBlock) -> None:
        self._block = block

    async def select(
        self,
        _tenant: str,
        selections: Sequence[SeriesSelection],
        _check_bytes: CheckBytes = any_bytes,
        *,
        asked_at: float | None = None,
    ) -> list[SampleBlock]:
        return [self._block] * len(selections)


async def measure(case: Case, block: SampleBlock, repetitions: int) -> tuple[float, float]:
    """Median milliseconds of the query and of its JSON; the first two rounds do not count.

    It is the processor time of all threads.
    """
    engine = Engine(BlockReader(block), EngineOptions())
    query = Query("bench", case.expr, case.grid)
    spent: list[tuple[float, float]] = []
    for _ in range(repetitions + 2):
        started = time.process_time()
        result = await engine.run(query)
        answered = time.process_time()
        b"".join(query_data_parts(result, with_stats=False))
        spent.append((answered - started, time.process_time() - answered))
    return median(q for q, _ in spent[2:]) * 1000, median(j for _, j in spent[2:]) * 1000


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.evaluation_bench")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--only", default="", help="a part of the query")
    options = parser.parse_args()
    keep_freed_memory()
    table = Table("query", "series", "steps", "query ms", "JSON ms")
    blocks: dict[tuple[int, int], SampleBlock] = {}
    for case in CASES:
        if options.only in case.expr:
            key = (case.n_series, case.span_ms)
            if key not in blocks:
                blocks[key] = counters(*key)
            query_ms, json_ms = asyncio.run(measure(case, blocks[key], options.repetitions))
            row = (case.expr, f"{case.n_series:,}", f"{case.grid.n_steps:,}")
            table.add_row(*row, f"{query_ms:.2f}", f"{json_ms:.2f}")
    Console(width=120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
