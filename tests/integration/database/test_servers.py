"""The database fixtures that the other integration tests stand on."""

import asyncpg
import pytest

from sql.migrate import migrate
from tests.support.programs.servers import DatabaseServer
from tests.support.storage.repositories import connected

pytestmark = pytest.mark.integration

_OUR_TABLES = """
SELECT relname, relkind, relowner::regrole::text FROM pg_class
WHERE relnamespace = 'promcompat'::regnamespace ORDER BY relname
"""


async def test_empty_database_has_no_table_and_is_of_its_edition(
    empty_database_url: str, database_server: DatabaseServer
) -> None:
    connection = await asyncpg.connect(empty_database_url)
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


async def test_copied_database_is_as_if_it_had_been_migrated(
    database_url: str, empty_database_url: str
) -> None:
    lines: list[str] = []
    await migrate(database_url, lines.append)
    assert lines == []
    await migrate(empty_database_url, lines.append)
    assert lines
    paths, tables = [], []
    for url in (database_url, empty_database_url):
        async with connected(url) as connection:
            paths.append(await connection.fetchval("SHOW search_path"))
            tables.append(await connection.fetch(_OUR_TABLES))
    assert paths[0] == paths[1]
    assert tables[0] == tables[1]


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
