"""How many days the samples of whole tenants are kept."""

from dataclasses import dataclass
from typing import Final

from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("retention")


@dataclass(frozen=True, slots=True)
class TenantRetention:
    """The retention of a tenant in days: 0 forever, None as the service."""

    tenant: str
    days: int | None


async def list_retentions(database: Database) -> list[TenantRetention]:
    """All tenants by name. Raises StorageUnavailableError."""
    async with acquired(database.read_pool) as connection:
        rows = await connection.fetch(_QUERIES["tenant_retentions"])
    return [TenantRetention(*row) for row in rows]


async def set_retention(database: Database, tenant: str, days: int | None) -> bool:
    """Set the retention of a tenant; whether there is one of that name.

    Readers see no older samples at once; maintenance drops them. Raises StorageUnavailableError.
    """
    async with acquired(database.write_pool) as connection:
        found = await connection.fetchval(_QUERIES["set_tenant_retention"], tenant, days)
    return found is not None
