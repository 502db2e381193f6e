"""`python -m tests.benchmarks`: promcompat beside a real Prometheus, on one machine in one run.

Both receive the same remote-write payload and answer the same queries, in turn. promcompat runs as
`promcompat serve` does by itself, with its own database and that database's ordinary settings.
What thresholds cost ingest is measured afterwards, with and without them.
Nothing is asserted: figures of a shared machine are for people to judge.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from tests.benchmarks.measure import (
    N_CONNECTIONS,
    Measurement,
    Servers,
    measure_ingest,
    measure_latency,
)
from tests.benchmarks.native import measure_native_ingest
from tests.benchmarks.payload import INTERVAL_MS, Fleet
from tests.benchmarks.queries import TIMED_QUERIES, list_metric_names, make_call, query_data
from tests.benchmarks.report import print_table, to_json
from tests.benchmarks.thresholds import measure_thresholds
from tests.support.programs.components import find_program

PROMETHEUS_CONFIG = "global: {}\n"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--series", type=int, default=20_000, help="series of the ingest load")
    parser.add_argument("--rounds", type=int, default=5, help="ingest rounds")
    parser.add_argument("--scrapes", type=int, default=20, help="scrapes of a round")
    parser.add_argument("--repetitions", type=int, default=11, help="repetitions of a query")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    return parser.parse_args()


async def measure_all(servers: Servers, options: argparse.Namespace) -> list[Measurement]:
    """Every measurement, in the order of the table."""
    end_ms = time.time_ns() // 1_000_000
    n_scrapes = 1 + options.rounds * options.scrapes
    fleet = Fleet("fleet", options.series, end_ms - n_scrapes * INTERVAL_MS)
    first = await measure_ingest(servers, "new series", "series/s", [fleet.scrape(1)])
    results = [first, await measure_fleet(servers, fleet, options)]
    native_ms = end_ms - n_scrapes * INTERVAL_MS
    results.append(await measure_native_ingest(servers, native_ms, options.rounds, options.scrapes))
    for api in (servers.ours, servers.prometheus):
        await api.write(dict(query_data(end_ms)))
    for query in TIMED_QUERIES:
        kind = "range" if query.is_range else "instant"
        name = f"{query.expr}\n  {kind}, {query.title}"
        call = make_call(query, end_ms)
        results.append(await measure_latency(servers, name, call, repetitions=options.repetitions))
    names = await measure_latency(
        servers, "names of all metrics", list_metric_names, repetitions=options.repetitions
    )
    return [*results, names]


async def measure_fleet(servers: Servers, fleet: Fleet, options: argparse.Namespace) -> Measurement:
    """Ingest of known series."""
    rounds = [fleet.scrape(options.scrapes) for _ in range(options.rounds)]
    name = f"ingest, {options.series:,} series, 2,000 samples a request"
    return await measure_ingest(servers, name, "samples/s", rounds)


async def run(options: argparse.Namespace, folder: Path) -> list[Measurement]:
    """Start both servers and measure."""
    with ExitStack() as stack:
        prometheus = stack.enter_context(
            running_prometheus(
                find_program("prometheus"), folder / "prometheus", config=PROMETHEUS_CONFIG
            )
        )
        service = stack.enter_context(
            running_promcompat(None, folder / "promcompat.log", data_dir=str(folder / "data"))
        )
        async with open_session(limit=N_CONNECTIONS) as session:
            servers = Servers(
                PrometheusApi(session, service.url), PrometheusApi(session, prometheus.url)
            )
            return await measure_all(servers, options)


def main() -> int:
    """Run the benchmarks; the exit code."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="promcompat-bench-") as name:
        folder = Path(name)
        # The database runs as an ordinary user, who must get there.
        folder.chmod(0o755)
        measurements = asyncio.run(run(options, folder))
        # After both servers have stopped, so that neither is slowed down.
        cost = measure_thresholds(folder)
    print_table(measurements)
    sys.stdout.write(f"{cost}\n")
    if options.json is not None:
        options.json.write_text(to_json(measurements, cost))
    return 0


if __name__ == "__main__":
    sys.exit(main())
