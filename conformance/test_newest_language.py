"""Random queries of odd series in the newest language, with all features: one answer each.

They need a Prometheus 3.14, of which Debian has no package yet: PROMCOMPAT_NEWEST_PROMETHEUS is its
path.
"""

import os
from pathlib import Path
from random import Random

import pytest

from conformance.comparison import Question, compare_servers, load_known_differences
from conformance.odd_series import write_odd_series
from conformance.processes import running_promcompat, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from conformance.random_newest_queries import NewestQueryGenerator
from conformance.synthetic import END_MS, all_series
from promcompat.core.model import EvalRange
from tests.support.long_form import LENGTH
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

FEATURES = (
    "promql-experimental-functions",
    "promql-binop-fill-modifiers",
    "promql-extended-range-selectors",
)
N_QUERIES = 1_500 * LENGTH
SEEDS = {"blocks": 1, "rows": 2}
MINUTE_MS = 60_000


def newest_prometheus() -> Path:
    """The program of the newest Prometheus; skips loudly where there is none."""
    path = os.environ.get("PROMCOMPAT_NEWEST_PROMETHEUS")
    if path is None:
        pytest.skip("PROMCOMPAT_NEWEST_PROMETHEUS names no Prometheus 3.14")
    return Path(path)


def random_grid(random: Random) -> EvalRange:
    """An instant, a range of many steps, or a short one, which may have one step only."""
    chance = random.random()
    if chance < 0.4:
        return EvalRange.instant(END_MS - random.choice((0, 1_000, 61_000, 1_234_567, 3_000_000)))
    if chance < 0.7:
        end_ms = END_MS - MINUTE_MS * random.choice((0, -7, 30))
        start_ms = end_ms - MINUTE_MS * random.choice((10, 47, 120)) - random.choice((0, 123))
        return EvalRange(start_ms, end_ms, random.choice((30_000, 61_000, 180_000)))
    start_ms = END_MS - MINUTE_MS * random.choice((50, 90, 110))
    end_ms = start_ms + MINUTE_MS * random.choice((0, 5, 20))
    return EvalRange(start_ms, end_ms, random.choice((15_000, 30_000, 77_777)))


@pytest.mark.parametrize("store", SEEDS)
async def test_answers_agree(
    store: str, timescaledb_server: DatabaseServer, tmp_path: Path
) -> None:
    program = newest_prometheus()
    seed = SEEDS[store]
    generator, random = NewestQueryGenerator(seed), Random(seed)
    questions = [Question(generator.query(), random_grid(random)) for _ in range(N_QUERIES)]
    settings = {"promql_features": ",".join(FEATURES), "store": store}
    with (
        running_prometheus(program, tmp_path / "prometheus", features=FEATURES) as reference,
        running_promcompat(
            timescaledb_server.create_database(), tmp_path / "log", **settings
        ) as service,
    ):
        async with open_session(limit=16) as session:
            prometheus = PrometheusApi(session, reference.url)
            candidate = PrometheusApi(session, service.url)
            for server in (prometheus, candidate):
                await server.write(all_series())
                await write_odd_series(server, seed)
            agreement = await compare_servers(prometheus, candidate, questions)
    unexplained = agreement.unexplained(load_known_differences())
    report = "\n".join(map(str, unexplained[:50]))
    assert not unexplained, f"{len(unexplained)} of {len(questions)} answers differ:\n{report}"
    assert agreement.n_with_data > len(questions) // 2
