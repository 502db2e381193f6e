"""The PostgreSQL side of `promcompat.core.dashboards.DashboardRepository`."""

from collections.abc import Sequence
from typing import Final

import orjson

from promcompat.core.dashboards import (
    MAX_VERSIONS,
    DashboardChange,
    DashboardRepository,
    DashboardSummary,
    DashboardVersion,
    StoredDashboard,
)
from promcompat.core.limits.tenant_limits import StoredAmount
from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.database.rows import read_rows, row_reader
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("dashboards")

_summary_of_row: Final = row_reader(DashboardSummary)
_version_of_row: Final = row_reader(DashboardVersion)
_dashboard_of_row: Final = row_reader(StoredDashboard, json=["document"])


class PostgresDashboardRepository(DashboardRepository):
    """Dashboards in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_dashboards(self, tenant: str) -> Sequence[DashboardSummary]:
        """See the port."""
        rows = await self._database.rows_of(tenant, _QUERIES["list_dashboards"])
        return await read_rows(rows, _summary_of_row)

    async def find(
        self, tenant: str, uid: str, version: int | None = None
    ) -> StoredDashboard | None:
        """See the port."""
        row = await self._database.row_of(tenant, _QUERIES["find_dashboard"], uid, version)
        return None if row is None else _dashboard_of_row(row)

    async def versions(self, tenant: str, uid: str) -> Sequence[DashboardVersion]:
        """See the port."""
        rows = await self._database.rows_of(tenant, _QUERIES["list_versions"], uid)
        return [_version_of_row(row) for row in rows]

    async def amount(self, tenant: str) -> StoredAmount:
        """See the port."""
        row = await self._database.row_of(tenant, _QUERIES["amount_of_dashboards"])
        return StoredAmount() if row is None else StoredAmount(*row)

    async def create(self, tenant: str, change: DashboardChange) -> int | None:
        """See the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        async with acquired(self._database.write_pool) as connection:
            version: int | None = await connection.fetchval(
                _QUERIES["insert_dashboard"], tenant_id, *_columns(change)
            )
        return version

    async def replace(self, tenant: str, change: DashboardChange, version: int) -> int | None:
        """See the port."""
        row = await self._database.change_of(
            tenant, _QUERIES["update_dashboard"], *_columns(change), version, MAX_VERSIONS
        )
        return None if row is None else row["version"]

    async def delete(self, tenant: str, uid: str, version: int) -> bool:
        """See the port."""
        statement = _QUERIES["delete_dashboard"]
        return await self._database.change_of(tenant, statement, uid, version) is not None


def _columns(change: DashboardChange) -> tuple[object, ...]:
    return (
        change.uid,
        change.title,
        list(change.tags),
        change.source,
        orjson.dumps(change.document).decode(),
        change.saved_by,
        change.reason,
    )
