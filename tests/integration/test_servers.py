"""The database fixtures that the other integration tests stand on."""

import asyncpg
import pytest

from tests.servers import DatabaseServer

pytestmark = pytest.mark.integration


async def test_database_url_is_empty_and_of_its_edition(
    database_url: str, database_server: DatabaseServer
) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        extensions = await connection.fetch("SELECT extname FROM pg_extension")
        tables = await connection.fetchval(
            "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        )
    finally:
        await connection.close()
    has_timescaledb = "timescaledb" in {row["extname"] for row in extensions}
    assert has_timescaledb == (database_server.edition == "timescaledb")
    assert tables == 0


async def test_database_url_connects_as_an_ordinary_role(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SHOW is_superuser") == "off"
        await connection.execute("CREATE TABLE made_by_owner (ts timestamptz)")
    finally:
        await connection.close()


async def test_dropped_database_is_gone_despite_its_sessions(
    database_server: DatabaseServer,
) -> None:
    url = database_server.create_database()
    connection = await asyncpg.connect(url)
    database_server.drop_database(url)
    connection.terminate()
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(url)
