"""Prometheus' own test scripts hold for our service as programs see it: over HTTP.

Store `blocks` runs on TimescaleDB and store `rows` on PostgreSQL; `tests/promqltest` runs the same
scripts on both editions without HTTP. Two cases run at a time, as requests overlap in use; each has
a tenant of its own.
"""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from conformance.http_target import HttpTarget
from conformance.processes import running_promcompat
from conformance.prometheus_api import PrometheusApi, open_session
from tests.promqltest.ratchet import KNOWN_FAILURES, find_surprises, read_known_failures
from tests.promqltest.runner import CaseRunner, Outcome, Status
from tests.promqltest.script import Case
from tests.promqltest.script_parser import read_script
from tests.promqltest.suites import (
    needs_delayed_name_removal,
    own_scripts,
    shared_folder,
    upstream_scripts,
)
from tests.support.programs.servers import DatabaseServer

pytestmark = pytest.mark.e2e

_AT_A_TIME = 2


class ScriptRun:
    """Runs scripts against one service; no two cases have the same tenant."""

    def __init__(self, api: PrometheusApi) -> None:
        self._api = api
        self._turn = asyncio.Semaphore(_AT_A_TIME)
        self._numbers = itertools.count()

    async def run(self, path: Path) -> list[Outcome]:
        """The outcomes of every eval."""
        cases = read_script(path).cases
        found = await asyncio.gather(*(self._run_case(case) for case in cases))
        return list(itertools.chain.from_iterable(found))

    async def _run_case(self, case: Case) -> Sequence[Outcome]:
        tenant = {"X-Scope-OrgID": f"case-{next(self._numbers)}"}
        target = HttpTarget(PrometheusApi(self._api.session, self._api.url, tenant))
        runner = CaseRunner(target, with_variants=True)
        async with self._turn:
            return [outcome async for outcome in runner.run(case)]


@pytest.mark.parametrize(
    ("database_server", "store"),
    [("timescaledb", "blocks"), ("postgresql", "rows")],
    indirect=["database_server"],
)
async def test_scripts_hold_over_http(
    database_server: DatabaseServer, store: str, tmp_path: Path
) -> None:
    scripts = upstream_scripts()
    if not scripts:
        pytest.skip(
            f"Prometheus' own scripts are not at {shared_folder()}; "
            "PROMCOMPAT_SHARED_DIR names another place"
        )
    scripts += filter(needs_delayed_name_removal, own_scripts())
    known = read_known_failures(KNOWN_FAILURES.read_text("utf-8"))
    url = database_server.create_database()
    surprises: list[str] = []
    n_passed = 0
    with running_promcompat(
        url, tmp_path / "log", tenancy="header", delayed_name_removal="true", store=store
    ) as service:
        async with open_session() as session:
            run = ScriptRun(PrometheusApi(session, service.url))
            for path in scripts:
                outcomes = await run.run(path)
                surprises += find_surprises(path.name, outcomes, known)
                n_passed += sum(outcome.status is Status.PASSED for outcome in outcomes)
    database_server.drop_database(url)
    assert surprises == [], "\n".join(surprises)
    assert n_passed > 0
