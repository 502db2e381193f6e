"""Our own test scripts say what a real Prometheus answers, and not what we believe it does."""

from pathlib import Path

import pytest

from conformance.http_target import HttpTarget
from conformance.processes import PROMETHEUS_FEATURES, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from tests.promqltest.ratchet import find_surprises
from tests.promqltest.runner import CaseRunner
from tests.promqltest.script_parser import read_script
from tests.promqltest.suites import (
    needs_delayed_name_removal,
    needs_newer_prometheus,
    own_scripts,
)

pytestmark = pytest.mark.e2e

SCRIPTS = [
    pytest.param(path, id=f"{path.parent.name}/{path.name}")
    for path in own_scripts()
    if not needs_newer_prometheus(path)
]


@pytest.mark.parametrize("path", SCRIPTS)
async def test_script_holds_for_prometheus(
    path: Path, prometheus_binary: Path, tmp_path: Path
) -> None:
    features = list(PROMETHEUS_FEATURES)
    if needs_delayed_name_removal(path):
        features.append("promql-delayed-name-removal")
    outcomes = []
    async with open_session() as session:
        for number, case in enumerate(read_script(path).cases):
            folder = tmp_path / str(number)
            with running_prometheus(prometheus_binary, folder, features=features) as prometheus:
                target = HttpTarget(PrometheusApi(session, prometheus.url))
                runner = CaseRunner(target, with_variants=False, is_strict=True)
                outcomes += [outcome async for outcome in runner.run(case)]
    assert outcomes
    surprises = find_surprises(path.name, outcomes, {})
    assert surprises == [], "\n".join(surprises)
