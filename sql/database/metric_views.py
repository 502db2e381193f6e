"""Keeps views of single metrics up to date (sql/routines/0092_metric_views.sql)."""

from typing import Final

from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_SET_LOCK_TIMEOUT: Final = load_queries("database")["set_lock_timeout"]
_REFRESH: Final = load_queries("readers")["refresh_metric_views"]
_LOCK_TIMEOUT: Final = "500ms"


async def refresh_metric_views(database: Database) -> int:
    """Give views the columns of new labels, and drop those of metrics that are gone.

    Returns how many changed. Raises StorageUnavailableError, also when somebody reads such a view
    for a long time.
    """
    async with acquired(database.write_pool) as connection, connection.transaction():
        await connection.execute(_SET_LOCK_TIMEOUT, _LOCK_TIMEOUT)
        n_changed: int = await connection.fetchval(_REFRESH)
    return n_changed
