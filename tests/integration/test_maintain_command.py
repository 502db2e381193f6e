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
from tests.native_service import running_native_service
from tests.repositories import connected
from tests.servers import DatabaseServer

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


@pytest.mark.parametrize("store", [pytest.param("rows", marks=pytest.mark.rows), "blocks"])
def test_maintain_applies_retention_and_computes_hours(
    timescaledb_server: DatabaseServer, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    url = timescaledb_server.create_database()
    asyncio.run(prepare(url))
    # The store `blocks` keeps days that are far from now together, not in partitions.
    for deleted, dropped in (1, 2 if store == "rows" else 0), (0, 0):
        assert main(["maintain", "--database-url", url]) == 0
        expected = rf"{deleted} samples deleted, {dropped} chunks dropped, \d+ hours computed, "
        expected += r"0 series removed\.\n"
        assert re.fullmatch(expected, capsys.readouterr().out)
        assert asyncio.run(stored_samples(url)) == [("m", 1)]
    timescaledb_server.drop_database(url)


def test_maintain_needs_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["maintain", "--data-dir", str(tmp_path)]) == 1
    assert "PROMCOMPAT_DATABASE_URL" in capsys.readouterr().err
