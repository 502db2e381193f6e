"""Dashboards get the same answers from us as from the Prometheus that writes to us."""

import asyncio
import time
from pathlib import Path

import pytest

from conformance.comparison import Question, compare_servers, load_known_differences
from conformance.prometheus_api import PrometheusApi, format_seconds, open_session
from promcompat.core.model import EvalRange
from tests.e2e.conftest import MonitoredMachine
from tests.promqltest.suites import shared_folder

pytestmark = pytest.mark.e2e

OWN_EXPRESSIONS = Path(__file__).parent / "expressions.txt"
SECONDS_OF_DATA = 75
SETTLE_TIMEOUT_SECONDS = 60
STEP_MS = 7_000
WINDOW_MS = 56_000
KNOWN = Path(__file__).parents[2] / "conformance" / "known_differences.yml"
EVERY_SAMPLE = '{__name__=~".+"}[10m]'


def read_expressions() -> list[str]:
    """Our own expressions, and those of real dashboards where the shared folder is."""
    files = [OWN_EXPRESSIONS]
    dashboards = shared_folder() / "queries" / "dashboards_core.txt"
    files += [dashboards] if dashboards.is_file() else []
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.strip()))


async def count_samples(api: PrometheusApi, time_ms: int) -> int:
    """How many samples there are up to a time."""
    response = await api.query(EVERY_SAMPLE, format_seconds(time_ms))
    assert response.is_success, response.body
    return sum(len(series["values"]) for series in response.data["result"])


async def wait_for_data(prometheus: PrometheusApi, service: PrometheusApi) -> int:
    """Wait for enough data, all of it shipped; return the time up to which it is."""
    for _ in range(SECONDS_OF_DATA * 2):
        missing = SECONDS_OF_DATA - await count_scrapes(prometheus)
        if missing <= 0:
            break
        await asyncio.sleep(max(missing / 2, 1))
    end_ms = time.time_ns() // 1_000_000 // 1000 * 1000
    wanted = found = 0
    for _ in range(SETTLE_TIMEOUT_SECONDS // 2):
        wanted, found = (
            await count_samples(prometheus, end_ms),
            await count_samples(service, end_ms),
        )
        if wanted == found > 0:
            return end_ms
        await asyncio.sleep(2)
    pytest.fail(f"only {found} of {wanted} samples came")


async def count_scrapes(prometheus: PrometheusApi) -> float:
    """How often Prometheus has scraped itself, which it does each second."""
    now = format_seconds(time.time_ns() // 1_000_000)
    response = await prometheus.query('count_over_time(up{job="prometheus"}[10m])', now)
    result = response.data["result"]
    return float(result[0]["value"][1]) if result else 0.0


async def test_dashboards_agree(monitored_machine: MonitoredMachine) -> None:
    async with open_session(limit=16) as session:
        prometheus = PrometheusApi(session, monitored_machine.prometheus.url)
        service = PrometheusApi(session, monitored_machine.service.url)
        end_ms = await wait_for_data(prometheus, service)
        expressions = read_expressions()
        grid = EvalRange(end_ms - WINDOW_MS, end_ms, STEP_MS)
        questions = [
            Question(expr, one_grid)
            for expr in expressions
            for one_grid in (grid, EvalRange.instant(end_ms))
        ]
        agreement = await compare_servers(prometheus, service, questions)
    unexplained = agreement.unexplained(load_known_differences(KNOWN))
    report = "\n".join(map(str, unexplained[:50]))
    assert not unexplained, f"{len(unexplained)} of {len(questions)} answers differ:\n{report}"
    n_own = len(OWN_EXPRESSIONS.read_text("utf-8").splitlines())
    assert agreement.n_with_data > n_own, "hardly any expression found data"
