"""`promcompat maintain` as a person runs it."""

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from promcompat.__main__ import main
from promcompat.core.definitions import MetricDefinition
from sql.definitions.definition_repository import PostgresDefinitionRepository
from tests.support.services.native_service import running_native_service
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration


async def prepare(url: str) -> None:
    async with running_native_service(url) as native:
        await native.ingest({"name": "m", "value": 1, "timestamp": 1_600_000_000})
        await native.ingest({"name": "m", "value": 1, "timestamp": int(time.time()) - 3 * 86_400})
        await native.ingest({"name": "m", "value": 1})
        definitions = PostgresDefinitionRepository(native.storage.database)
        definition = replace(MetricDefinition(name="m"), retention_days=1)
        await definitions.save("default", definition, 0)


async def stored_samples(url: str) -> list[tuple[str, int]]:
    async with connected(url) as connection:
        rows = await connection.fetch("SELECT name, count(*) FROM metrics GROUP BY name")
    return [(name, count) for name, count in rows]


@pytest.mark.rows
def test_maintain_applies_retention_and_computes_hours(
    timescaledb_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = timescaledb_database_url
    asyncio.run(prepare(url))
    command = ["maintain", "--database-url", url, "--retention-days", "30"]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("drain: 3 samples are due\n")
    for deleted, dropped in (1, 2), (0, 0):
        assert main(command) == 0
        expected = rf"{deleted} samples deleted, {dropped} chunks dropped, \d+ hours computed, "
        expected += r"0 series removed\.\n"
        assert re.search(rf"^{expected}$", capsys.readouterr().out, re.MULTILINE)
        assert asyncio.run(stored_samples(url)) == [("m", 1)]


def test_maintain_says_what_each_step_would_do_and_does(
    timescaledb_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = timescaledb_database_url
    asyncio.run(prepare(url))
    command = ["maintain", "--once", "--database-url", url, "--retention-days", "30"]
    assert main([*command, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "drain: 3 samples are due\n" in plan
    assert "retention classes: 1 metrics are due\n" in plan
    for n_drained, n_far in (3, 1), (0, 0):
        assert main(command) == 0
        done = capsys.readouterr().out
        for step in (f"drain: {n_drained} samples", f"retain far days: {n_far} pages"):
            assert re.search(rf"^{step} in \d+\.\d s$", done, re.MULTILINE), done
        assert "retain: 0 partitions" in done
        assert done.endswith("0 hours computed, 0 series removed.\n")
        assert asyncio.run(stored_samples(url)) == [("m", 1)]


def test_the_retention_of_a_tenant_is_set_and_listed(
    timescaledb_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = timescaledb_database_url
    asyncio.run(prepare(url))
    for days, text in (("90", "90 days"), ("0", "forever"), ("default", "as the service keeps")):
        assert main(["tenant", "--database-url", url, "set-retention", "default", days]) == 0
        assert f"default: kept {text}" in capsys.readouterr().out
        assert main(["tenant", "--database-url", url, "list"]) == 0
        own = "" if days == "default" else f", kept {text}"
        assert capsys.readouterr().out == f"default: read by no role{own}\n"
    for wrong in (["nobody", "3"], ["default", "-1"], ["default", "1000000"]):
        assert main(["tenant", "--database-url", url, "set-retention", *wrong]) == 1
        assert capsys.readouterr().err.startswith("promcompat: ")


def test_maintain_needs_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintain", "--data-dir", str(tmp_path)]) == 1
    assert "PROMCOMPAT_DATABASE_URL" in capsys.readouterr().err
