"""`python -m tests.benchmarks.query_bench`: queries beside Prometheus and VictoriaMetrics.

All three hold the same data and are asked the same queries in turn, over HTTP. Caches of results
are passed by but for the refreshes. As it is, the newest samples are in memory, and with `--cold`
none are: everything was drained and compacted, the service started again, and before each question
it forgets what it read, as after a drain. `--histograms` asks for panels of native histograms
instead, which VictoriaMetrics does not have. Nothing is asserted: figures of a shared machine are
for people to judge, as ratios.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from os import cpu_count
from pathlib import Path
from statistics import median

import asyncpg
from rich.console import Console
from rich.table import Table

from conformance.processes import (
    PROMETHEUS_FEATURES,
    running_promcompat,
    running_prometheus,
)
from conformance.prometheus_api import (
    PrometheusApi,
    Response,
    encode_write_requests,
    format_seconds,
    open_session,
)
from sql.embedded.data_folder import read_database_url
from tests.benchmarks.histogram_bodies import HISTOGRAM_NAME, make_histogram_bodies
from tests.benchmarks.ingest_systems import running_victoria_metrics
from tests.benchmarks.queries import BenchmarkError
from tests.benchmarks.query_data import DAY_MS, Sizes, populations, write_bodies
from tests.benchmarks.settled_data import settle
from tests.support.factories import make_labels
from tests.support.programs.components import find_program

HOUR_MS = 3_600_000
N_HISTOGRAM_SCRAPES = 290
"""More than the hour of the questions and the ranges of their rates."""
SERVERS = ("promcompat", "prometheus", "victoriametrics")
FRESH = {"promcompat": {"Cache-Control": "no-store"}, "prometheus": {}, "victoriametrics": {}}
Ask = Callable[[PrometheusApi, int], Awaitable[Response]]
Forget = Callable[[], Awaitable[None]]
_BUSY_SECONDS = 15.0
"""How long a service that starts on drained samples looks for what to merge and to roll up."""
_LOG_CHANGE = """
    INSERT INTO promcompat.sample_change (tenant_id, first_series, last_series, first_ms, last_ms)
    VALUES (0, 0, 0, 0, 0)
"""


@dataclass(frozen=True, slots=True)
class TimedQuery:
    """A query; `span_ms` 0 makes it instant. A refreshed one moves by a step each time."""

    title: str
    expr: str
    span_ms: int = 0
    step_ms: int = 15_000
    refreshed: bool = False


QUERIES = (
    TimedQuery("one series, instant", 'q_panel_total{instance="10.0.1.3:9100"}'),
    TimedQuery("one series, 1 h", 'rate(q_panel_total{instance="10.0.1.3:9100"}[5m])', HOUR_MS),
    TimedQuery("400 series, rate-sum, 1 h", "sum by (job) (rate(q_panel_total[5m]))", HOUR_MS),
    TimedQuery("1,000 series, rate-sum, 1 h", "sum(rate(q_dashboard_total[5m]))", HOUR_MS),
    TimedQuery("1,000 series, raw, 1 h", "q_dashboard_total", HOUR_MS, 60_000),
    TimedQuery("10,000 series, sum by", "sum by (job) (q_wide_total)", 8 * 60_000, 30_000),
    TimedQuery("100,000 series, count by", "count by (__name__) ({__name__=~'q_.+'})"),
    TimedQuery("topk of 400 series, 1 h", "topk(5, rate(q_panel_total[5m]))", HOUR_MS),
    TimedQuery(
        "histogram_quantile, 1,000 buckets, 1 h",
        "histogram_quantile(0.9, sum by (le, job) (rate(q_seconds_bucket[5m])))",
        HOUR_MS,
    ),
    TimedQuery("24 h, 1,000 series, rate-sum", "sum(rate(q_day_total[5m]))", DAY_MS, 60_000),
    TimedQuery("30 days, avg by", "avg by (job) (q_month_total)", 30 * DAY_MS, HOUR_MS),
    TimedQuery("alert: threshold on 400 series", "rate(q_panel_total[5m]) > 6.5"),
    TimedQuery("alert: absent", 'absent(q_panel_total{job="none"})'),
    TimedQuery("alert: sum on 1,000 series", "sum by (job) (rate(q_dashboard_total[5m])) > 0"),
    TimedQuery(
        "refresh: 400 series, rate-sum, 1 h",
        "sum by (job) (rate(q_panel_total[5m]))",
        HOUR_MS,
        refreshed=True,
    ),
    TimedQuery(
        "refresh: 24 h, 1,000 series, rate-sum",
        "sum(rate(q_day_total[5m]))",
        DAY_MS,
        60_000,
        refreshed=True,
    ),
)
HISTOGRAM_QUERIES = tuple(
    TimedQuery(f"{title}, 1 h", expr.format(h=HISTOGRAM_NAME), HOUR_MS)
    for title, expr in (
        ("p90 of 400 histograms", "histogram_quantile(0.9, sum(rate({h}[5m])))"),
        ("p90 by job", "histogram_quantile(0.9, sum by (job) (rate({h}[5m])))"),
        ("p90 of each of 400", "histogram_quantile(0.9, rate({h}[5m]))"),
        ("rate of observations", "sum by (job) (histogram_count(rate({h}[5m])))"),
        ("average", "histogram_avg(sum(rate({h}[5m])))"),
        ("share below 1 s", "histogram_fraction(0, 1, sum by (job) (rate({h}[5m])))"),
        ("heatmap", "sum(rate({h}[5m]))"),
        ("raw heatmap of one", '{h}{{handler="/api/7",job="job-0"}}'),
    )
)


@dataclass(slots=True)
class Timings:
    """Milliseconds of each repetition by server."""

    title: str
    milliseconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def median_of(self, server: str) -> float:
        return median(self.milliseconds[server])


def asking(query: TimedQuery, end_ms: int) -> Ask:
    """The query at a repetition; raises BenchmarkError when a server has no answer."""

    async def ask(api: PrometheusApi, number: int) -> Response:
        moved_ms = number * query.step_ms if query.refreshed else 0
        params = {"query": query.expr}
        if not query.refreshed:
            params["nocache"] = "1"
        if not query.span_ms:
            return await api.post("query", {**params, "time": format_seconds(end_ms)})
        last_ms = (end_ms - 40 * 15_000) // query.step_ms * query.step_ms + moved_ms
        first_ms = last_ms - query.span_ms + 10 * query.step_ms
        bounds = {"start": format_seconds(first_ms), "end": format_seconds(last_ms)}
        step = {"step": str(query.step_ms // 1000)}
        return await api.post("query_range", {**params, **bounds, **step})

    return ask


async def ask_label_values(api: PrometheusApi, _number: int) -> Response:
    return await api.get("label/instance/values", [("match[]", "q_name")])


async def ask_metric_names(api: PrometheusApi, _number: int) -> Response:
    return await api.get("label/__name__/values", [])


async def write_sample(api: PrometheusApi) -> None:
    """One sample of a series no query asks for; nothing is as it was in the database."""
    labels, now = make_labels("q_tick"), (time.time_ns() // 1_000_000, 1.0)
    for body in encode_write_requests([(labels, [now])]):
        await api.write_body(body)


async def forget_nothing() -> None:
    """What was read stays in memory."""


@asynccontextmanager
async def forgetting(database_url: str) -> AsyncIterator[Forget]:
    """Lets the service think that something was drained or dropped, so that it reads again."""
    connection = await asyncpg.connect(database_url)

    async def forget() -> None:
        await connection.execute(_LOG_CHANGE)

    try:
        yield forget
    finally:
        await connection.close()


async def measure(
    apis: dict[str, PrometheusApi],
    title: str,
    ask: Ask,
    options: argparse.Namespace,
    forget: Forget = forget_nothing,
) -> Timings:
    """Ask every server in turn; the first two rounds, which fill caches, do not count."""
    timings = Timings(title)
    # A collection while an answer is parsed takes 100 ms, whichever server it is of.
    gc.collect()
    gc.disable()
    for number in range(options.repetitions + 2):
        for name, api in apis.items():
            await forget()
            if options.writes:
                await write_sample(api)
            started = time.perf_counter()
            response = await ask(api, number)
            spent_ms = (time.perf_counter() - started) * 1000
            if not response.is_success or not response.data:
                raise BenchmarkError(f"{name} answers {title} with {response.body}")
            if number >= 2:
                timings.milliseconds[name].append(spent_ms)
    gc.enable()
    return timings


async def load(apis: dict[str, PrometheusApi], sizes: Sizes, end_ms: int) -> None:
    """The same bodies into every server, and a moment to settle."""
    for body in write_bodies(populations(sizes), end_ms):
        await asyncio.gather(*(api.write_body(body) for api in apis.values()))
    await asyncio.sleep(3)


async def load_all(urls: dict[str, str], options: argparse.Namespace, end_ms: int) -> None:
    """Load every server with samples until `end_ms`."""
    async with open_session() as session:
        apis = {name: PrometheusApi(session, url) for name, url in urls.items()}
        if not options.histograms:
            await load(apis, Sizes().scaled(options.scale), end_ms)
            return
        start_ms = end_ms - (N_HISTOGRAM_SCRAPES - 1) * 15_000 - 1_000
        size = max(40, round(400 * options.scale))
        for body, _ in make_histogram_bodies(1, size, size, N_HISTOGRAM_SCRAPES, start_ms):
            await asyncio.gather(*(api.write_body(body) for api in apis.values()))
        await asyncio.sleep(3)


async def measure_cold(
    urls: dict[str, str], end_ms: int, options: argparse.Namespace, database_url: str
) -> list[Timings]:
    """The same, each question after a change of what is drained."""
    await asyncio.sleep(_BUSY_SECONDS)
    async with forgetting(database_url) as forget:
        return await measure_all(urls, end_ms, options, forget)


async def measure_all(
    urls: dict[str, str],
    end_ms: int,
    options: argparse.Namespace,
    forget: Forget = forget_nothing,
) -> list[Timings]:
    """Every measurement in the order of the table."""
    async with open_session() as session:
        apis = {name: PrometheusApi(session, url) for name, url in urls.items()}
        fresh = {name: PrometheusApi(session, url, FRESH[name]) for name, url in urls.items()}
        results = []
        for query in HISTOGRAM_QUERIES if options.histograms else QUERIES:
            asked = apis if query.refreshed else fresh
            ask = asking(query, end_ms)
            results.append(await measure(asked, query.title, ask, options, forget))
        if options.histograms:
            return results
        lists = (
            ("label_values over 100,000 series", ask_label_values),
            ("names of all metrics", ask_metric_names),
        )
        for title, ask in lists:
            results.append(await measure(apis, title, ask, options))
        return results


def print_table(results: list[Timings], place: str) -> None:
    """Medians, and ours as a multiple of the others'; `place` says where our samples are."""
    table = Table(title=f"{cpu_count()} cores; medians in ms; {place}")
    table.add_column("query")
    servers = [name for name in SERVERS if name in results[0].milliseconds]
    for column in (*servers, *(f"ours/{name}" for name in servers[1:])):
        table.add_column(column, justify="right")
    for result in results:
        ours, *others = (result.median_of(name) for name in servers)
        row = [f"{value:.1f}" for value in (ours, *others)]
        table.add_row(result.title, *row, *(f"{ours / other:.2f}" for other in others))
    Console(width=120).print(table)


def main() -> int:
    """Run the benchmark; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.query_bench")
    parser.add_argument("--scale", type=float, default=1.0, help="multiple of the series loaded")
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument(
        "--cold", action="store_true", help="read all samples from runs and blocks, each time again"
    )
    parser.add_argument(
        "--writes", action="store_true", help="write a sample to each server before each question"
    )
    parser.add_argument(
        "--histograms", action="store_true", help="panels of native histograms, beside Prometheus"
    )
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args()
    end_ms = (time.time_ns() // 1_000_000 // 60_000) * 60_000
    with tempfile.TemporaryDirectory(prefix="promcompat-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        start = stack.enter_context
        features = (*PROMETHEUS_FEATURES, "native-histograms")
        binary, place = find_program("prometheus"), folder / "prometheus"
        urls = {"prometheus": start(running_prometheus(binary, place, features=features)).url}
        if not options.histograms:
            urls["victoriametrics"] = start(running_victoria_metrics(folder / "victoria")).url
        log, data = folder / "promcompat.log", folder / "data"
        where = "recent samples in memory"
        with running_promcompat(None, log, data_dir=str(data)) as service:
            urls = {"promcompat": service.url, **urls}
            asyncio.run(load_all(urls, options, end_ms))
            if not options.cold:
                results = asyncio.run(measure_all(urls, end_ms, options))
        if options.cold:
            where = settle(data)
            with running_promcompat(None, log, data_dir=str(data)) as service:
                urls["promcompat"], database_url = service.url, read_database_url(data)
                assert database_url is not None
                results = asyncio.run(measure_cold(urls, end_ms, options, database_url))
    print_table(results, where)
    if options.json is not None:
        rows = [{"query": result.title, "milliseconds": result.milliseconds} for result in results]
        options.json.write_text(json.dumps({"cores": cpu_count(), "queries": rows}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
