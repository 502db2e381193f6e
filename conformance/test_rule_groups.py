"""Rules of real mixins: what groups write is what a real Prometheus writes on the same data."""

import os
from pathlib import Path

import pytest

from conformance.rule_groups import compare_groups
from tests.promqltest.suites import shared_folder

pytestmark = pytest.mark.e2e

ONE_IN = 1 if os.environ.get("ALL_RULES") else 8
"""Which part of the rules is evaluated: all of them with ALL_RULES=1."""


def expressions(name: str) -> list[str]:
    """Some of the shared expressions of a file."""
    file = shared_folder() / "queries" / name
    if not file.is_file():
        pytest.skip(f"no shared expressions in {file}; set PROMCOMPAT_SHARED_DIR")
    lines = dict.fromkeys(line for line in file.read_text("utf-8").splitlines() if line.strip())
    return list(lines)[::ONE_IN]


async def test_groups_write_what_prometheus_writes(prometheus_binary: Path, tmp_path: Path) -> None:
    recording, alerting = expressions("recording_exprs.txt"), expressions("alert_exprs.txt")
    found = await compare_groups(
        prometheus_binary, tmp_path, recording, alerting, 3 if ONE_IN > 1 else 8
    )
    report = "\n".join(map(str, found.differences[:20]))
    assert not found.differences, f"{len(found.differences)} samples differ:\n{report}"
    assert found.n_equal > len(alerting)
    assert found.n_series["recorded"] > len(recording) // 2
    assert found.n_series["ALERTS"] > 0 < found.n_series["ALERTS_FOR_STATE"]
