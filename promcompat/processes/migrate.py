"""`promcompat migrate`: the database's schema is brought up to date, and the process ends."""

import sys

import uvloop

from promcompat.configuration.settings import Settings
from promcompat.database import SHORT, migrate_when_answering, own_database


def run_migrate(settings: Settings) -> int:
    """Migrate and print the schema version. Raises PromcompatError."""
    version = uvloop.run(_migrate(settings))
    sys.stdout.write(f"The database has schema version {version}.\n")
    return 0


async def _migrate(settings: Settings) -> int:
    async with own_database(settings):
        return await migrate_when_answering(settings, SHORT)
