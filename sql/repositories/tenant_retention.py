"""How many days the samples of whole tenants are kept."""

from typing import Final

from promcompat.core.tenants import TenantRetention, TenantRetentions
from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("retention")


class PostgresTenantRetentions(TenantRetentions):
    """The retentions of tenants, where the service keeps samples `service_days` (0: forever)."""

    def __init__(self, database: Database, service_days: int) -> None:
        self._database = database
        self._service_days = service_days

    async def find(self, tenant: str) -> TenantRetention:
        """The retention of a tenant; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["tenant_retention"])
        return TenantRetention(None if row is None else row[0], self._service_days)

    async def save(self, tenant: str, days: int | None) -> TenantRetention:
        """Set the retention of a tenant; see the port."""
        await self._database.tenants.find_or_create(tenant)
        await set_retention(self._database, tenant, days)
        return TenantRetention(days, self._service_days)


async def list_retentions(database: Database) -> dict[str, int | None]:
    """The retention of every tenant in days (0: forever; None: that of the service).

    Raises StorageUnavailableError.
    """
    async with acquired(database.read_pool) as connection:
        rows = await connection.fetch(_QUERIES["tenant_retentions"])
    return {row["name"]: row["retention_days"] for row in rows}


async def set_retention(database: Database, tenant: str, days: int | None) -> bool:
    """Set the retention of a tenant; whether there is one of that name.

    Readers see no older samples at once; maintenance removes them. Raises StorageUnavailableError.
    """
    async with acquired(database.write_pool) as connection:
        found = await connection.fetchval(_QUERIES["set_tenant_retention"], tenant, days)
    return found is not None
