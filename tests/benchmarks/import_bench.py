"""`python -m tests.benchmarks.import_bench`: ten million samples of history, by each way there is.

A real Prometheus and a real VictoriaMetrics hold the same counters and gauges. `promcompat import`
copies them into an empty service of ours, `vmctl` into an empty VictoriaMetrics. Afterwards the
same questions are asked of both ends of each copy of ours. Rates are those of the whole command,
check included. Of a shared machine only the ratios say something.
"""

import argparse
import asyncio
import math
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import snappy
from aiohttp import ClientSession
from rich.console import Console
from rich.table import Table

from conformance.processes import RunningProgram, run_command, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from promcompat.imports.tsdb.blocks import SeriesRows
from promcompat.processes.history.blocks import write_request_of
from promcompat.remote_write.series_key import encode_series_key
from tests.benchmarks.ingest_systems import OURS, running_system, running_victoria_metrics
from tests.support.programs.components import find_program

_STEP_MS: Final = 15_000
_N_SERIES: Final = 2_000
_TIMES_PER_REQUEST: Final = 5
_TOLERANCE: Final = 1e-9
_QUERIES: Final = (
    "count_over_time(bench_total[5m])",
    "sum by (job) (rate(bench_total[5m]))",
    "quantile by (job) (0.9, bench_gauge)",
    "avg by (job) (avg_over_time(bench_gauge[10m]))",
)
_SAMPLES: Final = re.compile(r"the service has ([0-9,]+), .*they agree")

Answers = Sequence[Mapping[str, Sequence[float]]]
"""Times and values of the series of each query, by their labels."""


@dataclass(frozen=True, slots=True)
class History:
    """The samples: `values[i]` are those of series i, one each 15 seconds from `start_ms` on."""

    start_ms: int
    keys: Sequence[bytes]
    values: np.ndarray

    @property
    def n_samples(self) -> int:
        """How many there are."""
        return int(self.values.size)

    @property
    def end_ms(self) -> int:
        """The time of the last one."""
        return self.start_ms + (self.values.shape[1] - 1) * _STEP_MS

    def requests(self) -> Iterator[bytes]:
        """Requests of remote write with all of them, in the order of time."""
        n_series, n_times = self.values.shape
        for first in range(0, n_times, _TIMES_PER_REQUEST):
            part = self.values[:, first : first + _TIMES_PER_REQUEST]
            n = part.shape[1]
            times = self.start_ms + (first + np.arange(n)) * _STEP_MS
            firsts = np.arange(n_series) * n
            bits = np.ascontiguousarray(part).reshape(-1).view(np.uint64)
            rows = SeriesRows(self.keys, firsts, firsts + n, np.tile(times, n_series), bits)
            yield snappy.compress(write_request_of(rows))


def make_history(n_samples: int) -> History:
    """Counters and gauges with two decimals that end now."""
    random = np.random.default_rng(13)
    n_times = n_samples // _N_SERIES
    half = _N_SERIES // 2
    counters = random.integers(0, 40, (half, n_times)).cumsum(axis=1).astype(np.float64)
    walks = random.normal(0, 0.5, (half, n_times)).cumsum(axis=1)
    gauges = np.round(walks + random.uniform(20, 80, (half, 1)), 2)
    keys = [
        encode_series_key(
            [("__name__", name), ("instance", f"host-{n}:9100"), ("job", f"job-{n % 10}")]
        )
        for name in ("bench_total", "bench_gauge")
        for n in range(half)
    ]
    now_ms = time.time_ns() // 1_000_000
    start_ms = (now_ms // _STEP_MS - n_times) * _STEP_MS
    return History(start_ms, keys, np.concatenate((counters, gauges)))


async def fill(url: str, history: History) -> None:
    """Write the history by remote write."""
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
    async with ClientSession() as session:
        for body in history.requests():
            async with session.post(f"{url}/api/v1/write", data=body, headers=headers) as answer:
                assert answer.status < 300, await answer.text()


async def timed(command: Sequence[str | Path]) -> tuple[float, str]:
    """How long a command took, and what it said."""
    started = time.perf_counter()
    code, output, errors = await run_command(command)
    assert code == 0, output + errors
    return time.perf_counter() - started, errors


async def answers(url: str, history: History) -> Answers:
    """The series of each query over the whole time, by their labels."""
    start, end = history.start_ms // 1000 + 600, history.end_ms // 1000
    found = []
    async with open_session() as session:
        api = PrometheusApi(session, url)
        for query in _QUERIES:
            answer = await api.query_range(query, str(start), str(end), "300")
            found.append(
                {str(sorted(s["metric"].items())): _points(s) for s in answer.data["result"]}
            )
    return found


def _points(series: Mapping[str, Any]) -> list[float]:
    return [number for at, text in series["values"] for number in (float(at), float(text))]


def n_different(
    left: list[Mapping[str, list[float]]], right: list[Mapping[str, list[float]]]
) -> int:
    """How many series of all answers differ."""
    return sum(
        not _are_close(ours.get(labels, ()), theirs.get(labels, ()))
        for ours, theirs in zip(left, right, strict=True)
        for labels in ours.keys() | theirs.keys()
    )


def _are_close(left: Sequence[float], right: Sequence[float]) -> bool:
    return len(left) == len(right) and all(
        math.isclose(one, other, rel_tol=_TOLERANCE) for one, other in zip(left, right, strict=True)
    )


async def measure_copies(
    history: History, prometheus: RunningProgram, victoria: RunningProgram, folder: Path
) -> Table:
    """Copy by each way, and compare."""
    vmctl = find_program("victoria-metrics").with_name("vmctl")
    async with open_session() as session:
        made = await PrometheusApi(session, prometheus.url).post("admin/tsdb/snapshot", {})
    snapshot = folder / "prometheus" / "data" / "snapshots" / made.data["name"]
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(history.start_ms // 1000))
    common = ["-s", "--disable-progress-bar"]
    ways = {
        "Prometheus, remote read": (
            ["prometheus", prometheus.url, "--start", start],
            [
                "remote-read",
                f"--remote-read-src-addr={prometheus.url}",
                "--remote-read-step-interval=hour",
                f"--remote-read-filter-time-start={start}",
                "--vm-addr={to}",
            ],
            prometheus,
        ),
        "Prometheus, snapshot": (
            ["tsdb", str(snapshot)],
            ["prometheus", f"--prom-snapshot={snapshot}", "--vm-addr={to}"],
            prometheus,
        ),
        "VictoriaMetrics": (
            ["victoriametrics", victoria.url, "--start", start],
            [
                "vm-native",
                f"--vm-native-src-addr={victoria.url}",
                "--vm-native-dst-addr={to}",
                f"--vm-native-filter-time-start={start}",
            ],
            victoria,
        ),
    }
    table = Table(
        "from", "promcompat import", "vmctl", "ratio", "stored", "series of answers that differ"
    )
    wanted = await answers(prometheus.url, history)
    for number, (name, (ours, theirs, _)) in enumerate(ways.items()):
        with running_system(OURS, folder / f"ours-{number}", {"store": "blocks"}) as service:
            command = [sys.executable, "-m", "promcompat", "import", *ours, "--to", service.url]
            seconds, said = await timed([*command, "--match", '{__name__=~"bench.*"}'])
            checked = _SAMPLES.search(said)
            stored = checked[1] if checked else "?"
            different = n_different(await answers(service.url, history), wanted)
        with running_victoria_metrics(folder / f"victoria-{number}") as target:
            given = [argument.format(to=target.url) for argument in theirs]
            their_seconds, _ = await timed([vmctl, *given, *common])
        rates = [history.n_samples / taken for taken in (seconds, their_seconds)]
        table.add_row(
            name,
            *(f"{rate:,.0f}/s" for rate in rates),
            f"{rates[0] / rates[1]:.2f}",
            stored,
            str(different),
        )
    return table


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="import_bench")
    parser.add_argument("--samples", type=int, default=10_000_000)
    options = parser.parse_args()
    history = make_history(options.samples)
    with tempfile.TemporaryDirectory(prefix="import-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        prometheus = stack.enter_context(
            running_prometheus(find_program("prometheus"), folder / "prometheus")
        )
        victoria = stack.enter_context(running_victoria_metrics(folder / "victoria"))
        for program in (prometheus, victoria):
            asyncio.run(fill(program.url, history))
        table = asyncio.run(measure_copies(history, prometheus, victoria, folder))
    Console(width=140).print(f"{history.n_samples:,} samples of {_N_SERIES:,} series", table)


if __name__ == "__main__":
    main()
