"""A database as the versions before migration 0007 left it: their tables in the schema `public`."""

from pathlib import Path

from sql.query_loader import load_migrations, load_queries
from tests.repositories import connected

_LAST_MIGRATION = 6
_ROUTINES = Path(__file__).parent / "integration/data/routines_of_migration_0006.sql"


async def make_early_database(url: str, last_migration: int = _LAST_MIGRATION) -> None:
    """Run the migrations up to `last_migration`, and routines of that time, in `public`."""
    queries = load_queries("migration")
    async with connected(url) as connection, connection.transaction():
        await connection.execute("SET LOCAL search_path = public")
        await connection.execute(queries["create_migration_table"])
        for step in load_migrations()[:last_migration]:
            await connection.execute(step.text)
            await connection.execute(
                queries["record_migration"], step.version, step.name, step.checksum
            )
        await connection.execute(queries["create_routine_table"])
        await connection.execute(_ROUTINES.read_text("utf-8"))
        await connection.execute(queries["record_routines"], "of an early version")
