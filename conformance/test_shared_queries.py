"""Real dashboards, alerts and recording rules, on data their selectors find: equal answers."""

from pathlib import Path

import pytest

from conformance.comparison import Question, compare_servers, load_known_differences
from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, encode_write_requests, open_session
from conformance.selector_data import END_MS, synthesise
from promcompat.core.model import EvalRange
from tests.promqltest.suites import shared_folder
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

FILES = ("alert_exprs.txt", "dashboards_core.txt", "recording_exprs.txt")
MINUTE_MS = 60_000
GRIDS = (
    EvalRange(END_MS - 72 * MINUTE_MS, END_MS, 3 * MINUTE_MS),
    EvalRange.instant(END_MS - 37 * MINUTE_MS),
)


def read_expressions() -> list[str]:
    """The shared expressions; skips loudly where the folder is absent."""
    folder = shared_folder() / "queries"
    if not folder.is_dir():
        pytest.skip(f"no shared expressions in {folder}; set PROMCOMPAT_SHARED_DIR")
    lines = [line for name in FILES for line in (folder / name).read_text("utf-8").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.strip()))


async def test_answers_agree(
    timescaledb_server: DatabaseServer, prometheus_binary: Path, tmp_path: Path
) -> None:
    expressions = read_expressions()
    bodies = encode_write_requests(synthesise(expressions))
    questions = [Question(expr, grid) for expr in expressions for grid in GRIDS]
    database_url = timescaledb_server.create_database()
    with (
        running_prometheus(prometheus_binary, tmp_path / "prometheus") as reference,
        running_promcompat(database_url, tmp_path / "log") as service,
    ):
        async with open_session(limit=16) as session:
            prometheus = PrometheusApi(session, reference.url)
            candidate = PrometheusApi(session, service.url)
            for body in bodies:
                await prometheus.write_body(body)
                await candidate.write_body(body)
            agreement = await compare_servers(prometheus, candidate, questions)
    unexplained = agreement.unexplained(load_known_differences())
    report = "\n".join(map(str, unexplained[:50]))
    assert not unexplained, f"{len(unexplained)} of {len(questions)} answers differ:\n{report}"
    assert agreement.n_with_data > len(questions) * 0.85, "too few expressions found data"
    # The rest are sums whose order is the storage's, and powers: a last digit is another one.
    assert agreement.n_identical > len(questions) * 0.99
