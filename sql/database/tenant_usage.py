"""How much tenants store, from the view `usage`."""

from typing import Final

import orjson

from promcompat.core.usage import TenantUsage, TenantUsages
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("usage")


class PostgresTenantUsages:
    """What the tenants of a database store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str) -> TenantUsage:
        """What a tenant stores; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["tenant_usage"])
        if row is None:
            return TenantUsage()
        top_metrics = orjson.loads(row["top_metrics"])
        return TenantUsage(
            row["series"],
            row["samples"],
            row["samples_per_day"],
            row["bytes"],
            row["first_day"],
            row["last_day"],
            [(one["metric"], one["series"]) for one in top_metrics],
        )


def _conforms(usages: PostgresTenantUsages) -> TenantUsages:
    """Checked by mypy: the usages have the port's shape."""
    return usages
