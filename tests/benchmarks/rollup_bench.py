"""`python -m tests.benchmarks.rollup_bench`: panels of a month and of a year, from rollups.

Prometheus, VictoriaMetrics and promcompat hold the same counters and gauges, of 30 days at 15 s
and of a year at 5 minutes. Ours were drained, compacted and rolled up, and the service was started
again. The same service without pushdown answers from raw samples. With `--folder` what was loaded
is kept there, and asked again by the next run; by then Prometheus has merged its blocks, which
makes it slow just after loading. Nothing is asserted: figures of a shared machine are for people to
judge, as ratios.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import snappy
from rich.console import Console

from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from promcompat.core.model import FloatArray, IntArray
from sql.database.connection_pool import acquired
from sql.embedded.database import EmbeddedDatabase
from sql.samples.metric_storage import MetricStorage
from tests.benchmarks.ingest_systems import running_victoria_metrics
from tests.benchmarks.query_bench import (
    FRESH,
    HOUR_MS,
    SERVERS,
    TimedQuery,
    Timings,
    asking,
    measure,
    print_table,
)
from tests.benchmarks.query_data import DAY_MS
from tests.benchmarks.settled_data import settle
from tests.support.factories import encode_field, encode_labels, make_labels
from tests.support.programs.components import find_program

_MINUTE_MS: Final = 60_000
_SPANS: Final = {"month": (30 * DAY_MS, 15_000), "year": (365 * DAY_MS, 5 * _MINUTE_MS)}
_PIECE_MS: Final = DAY_MS
_SAMPLES_PER_REQUEST: Final = 10_000
_DAY_BLOCKS: Final = (
    "--storage.tsdb.min-block-duration=1d",
    "--storage.tsdb.max-block-duration=31d",
)
"""Else Prometheus writes 4,380 blocks of two hours for a year, and merges them afterwards."""
_SAMPLE: Final = np.dtype([("head", "u1", 3), ("value", "<f8"), ("tag", "u1"), ("time", "u1", 6)])
QUERIES: Final = (
    TimedQuery(
        "30 days, rate[5m] every hour", "sum by (job) (rate(month_total[5m]))", 30 * DAY_MS, HOUR_MS
    ),
    TimedQuery(
        "30 days, rate[1h] every hour", "sum by (job) (rate(month_total[1h]))", 30 * DAY_MS, HOUR_MS
    ),
    TimedQuery(
        "30 days, avg[1h] of gauges",
        "avg by (job) (avg_over_time(month_gauge[1h]))",
        30 * DAY_MS,
        HOUR_MS,
    ),
    TimedQuery(
        "30 days, max[1h] of gauges",
        "max by (job) (max_over_time(month_gauge[1h]))",
        30 * DAY_MS,
        HOUR_MS,
    ),
    TimedQuery("30 days, gauges as they are", "avg by (job) (month_gauge)", 30 * DAY_MS, HOUR_MS),
    TimedQuery(
        "a year, rate[1d] every day", "sum by (job) (rate(year_total[1d]))", 365 * DAY_MS, DAY_MS
    ),
    TimedQuery(
        "a year, avg[6h] every 6 hours",
        "avg by (job) (avg_over_time(year_gauge[6h]))",
        365 * DAY_MS,
        6 * HOUR_MS,
    ),
)
_SIZES: Final = """
SELECT bucket_seconds, count(*) AS n_rows,
    sum(pg_column_size(ends))::bigint AS ends, sum(pg_column_size(extremes))::bigint AS extremes,
    sum(pg_column_size(sums))::bigint AS sums
FROM sample_rollup GROUP BY 1 ORDER BY 1
"""
_TOTALS: Final = """
SELECT
    (SELECT sum(n_samples) FROM (
        SELECT n_samples FROM sample_run
        UNION ALL SELECT n_samples FROM sample_block
    ) AS p) AS samples,
    pg_total_relation_size('sample_rollup') AS rollups,
    pg_total_relation_size('sample_hour') AS hours
"""


def write_bodies(n_series: int, end_ms: int) -> Iterator[bytes]:
    """Remote-write bodies, a day of all series after the other."""
    random = np.random.default_rng(7)
    for start_ms in range(end_ms - _SPANS["year"][0], end_ms + 1, _PIECE_MS):
        series = []
        for name, (span_ms, interval_ms) in _SPANS.items():
            first_ms = max(start_ms, end_ms - span_ms)
            times = np.arange(first_ms, min(start_ms + _PIECE_MS, end_ms + 1), interval_ms) + 4_321
            for number in range(n_series if len(times) else 0):
                counter = times // 1_000 % 100_000_000 * (1 + number % 7)
                # Whole numbers and quarters have exact sums; others are read raw for averages.
                gauge = random.integers(0, 4_000, len(times)) / 4
                series.append((f"{name}_total", number, times, counter * 1.0))
                series.append((f"{name}_gauge", number, times, gauge))
        yield from _requests(series)


def _requests(series: Sequence[tuple[str, int, IntArray, FloatArray]]) -> Iterator[bytes]:
    """Requests with about `_SAMPLES_PER_REQUEST` samples each, of whole series."""
    parts: list[bytes] = []
    n_samples = 0
    for name, number, times, values in series:
        labels = make_labels(name, job=f"job-{number % 10}", instance=f"10.0.0.{number}:9100")
        parts.append(encode_field(1, encode_labels(labels) + _encoded(times, values)))
        n_samples += len(times)
        if n_samples >= _SAMPLES_PER_REQUEST:
            yield snappy.compress(b"".join(parts))
            parts, n_samples = [], 0
    if parts:
        yield snappy.compress(b"".join(parts))


def _encoded(times: IntArray, values: FloatArray) -> bytes:
    """Sample messages of one size, as all times of these years are varints of six bytes."""
    messages = np.zeros(len(times), _SAMPLE)
    messages["head"] = (2 << 3 | 2, 16, 1 << 3 | 1)
    messages["value"] = values
    messages["tag"] = 2 << 3
    sevens = times[:, None] >> np.arange(0, 42, 7) & 0x7F
    messages["time"] = sevens | np.where(np.arange(6) < 5, 0x80, 0)
    return messages.tobytes()


async def load(urls: Mapping[str, str], n_series: int, end_ms: int) -> None:
    """The same samples into every server."""
    async with open_session() as session:
        apis = [PrometheusApi(session, url) for url in urls.values()]
        for body in write_bodies(n_series, end_ms):
            await asyncio.gather(*(api.write_body(body) for api in apis))


async def ask_all(
    urls: Mapping[str, str], end_ms: int, options: argparse.Namespace
) -> list[Timings]:
    """Every query at every server in turn."""
    async with open_session() as session:
        apis = {name: PrometheusApi(session, url, FRESH[name]) for name, url in urls.items()}
        aligned = [(query, end_ms // query.step_ms * query.step_ms) for query in QUERIES]
        return [
            await measure(apis, query.title, asking(query, end + 40 * 15_000), options)
            for query, end in aligned
        ]


def roll_up(data: Path) -> str:
    """Roll up what a stopped service has stored; returns how many bytes that takes."""
    database = EmbeddedDatabase.start(data, report=lambda _: None)
    try:
        return asyncio.run(_roll_up(database.url))
    finally:
        database.stop()


async def _roll_up(url: str) -> str:
    storage = await MetricStorage.open(url)
    started = time.perf_counter()
    try:
        assert storage.rollups is not None
        while not await storage.rollups.run(100):
            pass
        seconds = time.perf_counter() - started
        async with acquired(storage.database.write_pool) as connection:
            await connection.execute("VACUUM FULL sample_rollup")
            await connection.execute("ANALYZE")
            sizes = await connection.fetch(_SIZES)
            totals = await connection.fetchrow(_TOTALS)
    finally:
        await storage.close()
    lines = [f"rolled up {int(totals['samples']):,} samples in {seconds:.1f} s"]
    for row in sizes:
        n_bytes = row["ends"] + row["extremes"] + row["sums"]
        lines.append(
            f"buckets of {row['bucket_seconds']} s: {row['n_rows']:,} rows, "
            f"{n_bytes / int(totals['samples']):.3f} bytes a raw sample "
            f"(ends {row['ends']:,}, extremes {row['extremes']:,}, sums {row['sums']:,})"
        )
    n_samples = int(totals["samples"])
    lines += [
        f"{name} in all: {totals[name] / n_samples:.3f} bytes a raw sample"
        for name in ("rollups", "hours")
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.rollup_bench")
    parser.add_argument("--series", type=int, default=5, help="counters and gauges, of each span")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where what is loaded stays for the next run")
    options = parser.parse_args()
    options.writes = False
    with ExitStack() as stack:
        folder = options.folder
        if folder is None:
            name = stack.enter_context(tempfile.TemporaryDirectory(prefix="promcompat-bench-"))
            folder = Path(name)
        run(folder, options, stack)
    return 0


def run(folder: Path, options: argparse.Namespace, stack: ExitStack) -> None:
    """Load the servers in a folder, if that was not done yet, and ask them."""
    console = Console()
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    log, data, loaded = folder / "promcompat.log", folder / "data", folder / "end_ms"
    start = stack.enter_context
    binary = find_program("prometheus")
    prometheus = start(running_prometheus(binary, folder / "prometheus", options=_DAY_BLOCKS))
    urls = {"prometheus": prometheus.url}
    urls["victoriametrics"] = start(running_victoria_metrics(folder / "victoria")).url
    if loaded.exists():
        end_ms = int(loaded.read_text())
    else:
        end_ms = (time.time_ns() // 1_000_000 // HOUR_MS) * HOUR_MS
        with running_promcompat(None, log, data_dir=str(data)) as service:
            started = time.perf_counter()
            asyncio.run(load({**urls, "promcompat": service.url}, options.series, end_ms))
            console.print(f"loaded in {time.perf_counter() - started:.0f} s")
        console.print(settle(data))
        console.print(roll_up(data))
        loaded.write_text(str(end_ms))
    for pushdown, place in (("true", "rollups"), ("false", "raw samples")):
        with running_promcompat(None, log, data_dir=str(data), pushdown=pushdown) as service:
            asked = {name: {**urls, "promcompat": service.url}[name] for name in SERVERS}
            print_table(asyncio.run(ask_all(asked, end_ms, options)), place)


if __name__ == "__main__":
    sys.exit(main())
