"""The same synthetic data in a real Prometheus and in us: every question has one answer."""

from pathlib import Path

import pytest

from conformance.comparison import Question, compare_servers, load_known_differences
from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from conformance.queries import expressions
from conformance.random_queries import QueryGenerator
from conformance.synthetic import END_MS, all_series
from promcompat.core.model import EvalRange
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

N_RANDOM_QUERIES = 200
SEEDS = {"timescaledb": 1, "postgresql": 2}
"""Each edition is asked other random queries."""
MINUTE_MS = 60_000
GRIDS = (
    # Wide, across restarts and the outage; narrow, not aligned to anything; one instant.
    EvalRange(END_MS - 120 * MINUTE_MS, END_MS + 7 * MINUTE_MS, 3 * MINUTE_MS),
    EvalRange(END_MS - 47 * MINUTE_MS - 123, END_MS - 39 * MINUTE_MS, 13_000),
    EvalRange.instant(END_MS - 1_000),
)


async def test_answers_agree(
    database_server: DatabaseServer, prometheus_binary: Path, tmp_path: Path
) -> None:
    database_url = database_server.create_database()
    generator = QueryGenerator(seed=SEEDS[database_server.edition])
    random_ones = [generator.query() for _ in range(N_RANDOM_QUERIES)]
    questions = [Question(expr, grid) for expr in expressions() + random_ones for grid in GRIDS]
    series = all_series()
    with (
        running_prometheus(prometheus_binary, tmp_path / "prometheus") as reference,
        running_promcompat(database_url, tmp_path / "log") as service,
    ):
        async with open_session(limit=16) as session:
            prometheus = PrometheusApi(session, reference.url)
            candidate = PrometheusApi(session, service.url)
            await prometheus.write(series)
            await candidate.write(series)
            agreement = await compare_servers(prometheus, candidate, questions)
    unexplained = agreement.unexplained(load_known_differences())
    report = "\n".join(map(str, unexplained[:50]))
    assert not unexplained, f"{len(unexplained)} of {len(questions)} answers differ:\n{report}"
    assert agreement.n_with_data > len(questions) // 2
