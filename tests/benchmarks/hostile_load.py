"""`python -m tests.benchmarks.hostile_load`: what hostile queries cost the latency of ingest.

One service takes writes without and with clients that send costly queries, in turn. Nothing is
asserted: figures of a shared machine are for people to judge, as the ratio of one run.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from conformance.processes import running_promcompat
from conformance.prometheus_api import PrometheusApi, open_session
from tests.benchmarks.payload import INTERVAL_MS, Fleet, WriteRequest

N_SERIES = 10_000
N_SCRAPES = 6
"""Of a burst; with 2,000 samples a write, 30 writes."""
N_BURSTS = 10
"""Without hostile queries, and as many with them: 300 writes each, so that three are above p99."""
HOSTILE = (
    '{__name__=~".+"}[1y:1s]',
    "max_over_time({__name__=~'.+'}[1d:1s])",
    'count_values("v", {__name__=~".+"} * time())[1d:1s]',
    "(" * 20_000 + "1" + ")" * 20_000,
)


async def write_all(api: PrometheusApi, requests: Sequence[WriteRequest]) -> list[float]:
    """Send one request after the other; the milliseconds of each."""
    spent_ms = []
    for request in requests:
        started = time.perf_counter()
        await api.write_body(request.body)
        spent_ms.append((time.perf_counter() - started) * 1000)
    return spent_ms


async def attack(api: PrometheusApi, query: str) -> None:
    """Send a query again and again until cancelled."""
    while True:
        await api.post("query", {"query": query})


async def measure(url: str, n_bursts: int) -> tuple[list[float], list[float]]:
    """Milliseconds of writes without and with hostile queries."""
    now_ms = time.time_ns() // 1_000_000
    n_scrapes = 2 * n_bursts * N_SCRAPES + 1
    fleet = Fleet("hostile", N_SERIES, now_ms - n_scrapes * INTERVAL_MS)
    quiet_ms, busy_ms = [], []
    async with open_session(limit=16) as session:
        api = PrometheusApi(session, url)
        await write_all(api, fleet.scrape(1))
        for _ in range(n_bursts):
            quiet_ms += await write_all(api, fleet.scrape(N_SCRAPES))
            attacks = [asyncio.create_task(attack(api, query)) for query in HOSTILE]
            busy_ms += await write_all(api, fleet.scrape(N_SCRAPES))
            for task in attacks:
                task.cancel()
            await asyncio.gather(*attacks, return_exceptions=True)
    return quiet_ms, busy_ms


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.hostile_load", description=__doc__
    )
    parser.add_argument("--store", choices=("blocks", "rows"), help="the store of the service")
    parser.add_argument("--bursts", type=int, default=N_BURSTS, help="of 30 writes, each way")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promcompat-bench-") as name:
        folder = Path(name)
        # The database runs as an ordinary user, who must get there.
        folder.chmod(0o755)
        chosen = {"store": options.store} if options.store else {}
        chosen["data_dir"] = str(folder / "data")
        with running_promcompat(None, folder / "promcompat.log", **chosen) as service:
            quiet_ms, busy_ms = asyncio.run(measure(service.url, options.bursts))
    for percent in (50, 99):
        quiet, busy = (float(np.percentile(times, percent)) for times in (quiet_ms, busy_ms))
        sys.stdout.write(
            f"write of 2,000 samples, p{percent}: {quiet:.0f} ms, with {len(HOSTILE)} hostile "
            f"clients {busy:.0f} ms, ratio {busy / quiet:.1f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
