"""The PostgreSQL side of `promcompat.core.limits.tenant_limits.LimitOverrideRepository`."""

import logging
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from promcompat.core.errors import BadDataError
from promcompat.core.limits.limit_definitions import LimitValues, limit_named
from promcompat.core.limits.tenant_limits import LimitOverrideRepository, StoredOverrides
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("limits")
_LOGGER = logging.getLogger(__name__)


class PostgresLimitOverrides(LimitOverrideRepository):
    """Overrides of limits in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str) -> StoredOverrides:
        """See the port."""
        row = await self._database.row_of(tenant, _QUERIES["find_overrides"])
        return StoredOverrides() if row is None else _overrides_of(tenant, row)

    @read_again
    async def list(self) -> Mapping[str, StoredOverrides]:
        """See the port."""
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["list_overrides"])
        return {row["name"]: _overrides_of(row["name"], row) for row in rows}

    @read_again
    async def position(self) -> int:
        """See the port."""
        async with acquired(self._database.read_pool) as connection:
            position: int = await connection.fetchval(_QUERIES["overrides_position"])
        return position

    async def count_series(self, tenant: str) -> int:
        """How many series a tenant has, those without recent samples included."""
        row = await self._database.row_of(tenant, _QUERIES["count_series"])
        return 0 if row is None else row[0]

    async def exchange_rates(
        self, process: UUID, admitted: Mapping[str, int]
    ) -> Mapping[UUID, Mapping[str, int]]:
        """See the port."""
        document = orjson.dumps(dict(admitted)).decode()
        async with acquired(self._database.write_pool) as connection:
            rows = await connection.fetch(_QUERIES["exchange_rates"], process, document)
        return {row["process"]: orjson.loads(row["admitted"]) for row in rows}

    async def save(
        self, tenant: str, values: LimitValues, expected_version: int
    ) -> StoredOverrides | None:
        """See the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        document = orjson.dumps(dict(values)).decode()
        async with acquired(self._database.write_pool) as connection:
            if expected_version == StoredOverrides().version:
                version = await connection.fetchval(
                    _QUERIES["insert_overrides"], tenant_id, document
                )
            else:
                version = await connection.fetchval(
                    _QUERIES["update_overrides"], tenant_id, document, expected_version
                )
        return None if version is None else StoredOverrides(dict(values), version)


def _overrides_of(tenant: str, row: asyncpg.Record) -> StoredOverrides:
    """The overrides of a row; those that a newer version of the service stored are left out."""
    stored: dict[str, Any] = orjson.loads(row["overrides"])
    values: dict[str, int] = {}
    for name, value in stored.items():
        try:
            values[name] = limit_named(name).check(value)
        except BadDataError as exc:
            fields = {"tenant": tenant, "reason": str(exc)}
            _LOGGER.warning("stored limit is not understood", extra=fields)
    return StoredOverrides(values, row["version"])
