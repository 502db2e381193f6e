"""`promcompat set-aside` as a person runs it."""

import asyncio

import pytest

from promcompat.__main__ import main
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

_TENANT = "INSERT INTO tenant (name) VALUES ('default') RETURNING id"
_INSERT = """
INSERT INTO arrival (
    id, tenant_id, kind, n_samples, first_series, last_series, first_ms, last_ms, is_aside, payload
)
SELECT n, $1, 1, 5, 1, 1, 0, 60000, true, '\\xdead' FROM generate_series(1, 2) AS n
"""


async def set_two_aside(url: str) -> None:
    async with connected(url) as connection:
        await connection.execute(_INSERT, await connection.fetchval(_TENANT))


def test_arrivals_are_shown_retried_and_dropped(
    plain_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = plain_database_url
    command = ["set-aside", "--database-url", url, "--store", "blocks"]
    assert main(command) == 0
    assert capsys.readouterr().out == "nothing is set aside\n"
    asyncio.run(set_two_aside(url))
    assert main([*command, "--retry"]) == 0
    assert "0 moved, 2 still set aside" in capsys.readouterr().out
    assert main([*command, "--drop", "1"]) == 0
    shown = capsys.readouterr().out
    assert "1: dropped" in shown
    assert "2: samples of tenant default, 5 samples from 1970-01-01T00:00:00Z" in shown
    assert main([*command, "--drop", "1"]) == 1
