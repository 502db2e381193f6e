"""The PostgreSQL side of `promcompat.core.ports.DefinitionRepository`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from promcompat.core.alerting.thresholds import AlertThreshold
from promcompat.core.definitions import MetricDefinition
from promcompat.core.limits.tenant_limits import StoredAmount
from promcompat.core.offloading import offload
from promcompat.core.ports import DefinitionRepository
from promcompat.core.texts.storable_text import is_storable_text
from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.database.rows import n_text_bytes, row_reader, unix_ms
from sql.definitions.threshold_json import decode_threshold, encode_threshold
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("definitions")

_definition_of_row: Final = row_reader(MetricDefinition)


class PostgresDefinitionRepository(DefinitionRepository):
    """Metric definitions in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, tenant: str, name: str) -> MetricDefinition | None:
        """One definition; see the port."""
        if not is_storable_text(name):
            return None
        row = await self._database.row_of(tenant, _QUERIES["find_definition"], name)
        return None if row is None else _definition_of(row)

    async def list(
        self, tenant: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[MetricDefinition]:
        """Definitions by name; see the port."""
        if not is_storable_text(prefix) or not is_storable_text(after):
            return []
        statement = _QUERIES["list_definitions"]
        rows = await self._database.rows_of(tenant, statement, prefix, after, limit)
        # In a thread: each of a thousand may have a thousand overrides.
        return await offload(len(rows), lambda: [_definition_of(row) for row in rows])

    async def amount(self, tenant: str) -> StoredAmount:
        """Definitions of the tenant; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["amount_of_definitions"])
        return StoredAmount() if row is None else StoredAmount(*row)

    def n_bytes(self, definition: MetricDefinition) -> int:
        """See the port."""
        return n_text_bytes(_columns(definition))

    async def list_thresholds(
        self, tenant: str, names: Collection[str] | None = None
    ) -> Mapping[str, AlertThreshold]:
        """Thresholds by metric name; see the port."""
        wanted = None if names is None else list(names)
        rows = await self._database.rows_of(tenant, _QUERIES["list_thresholds"], wanted)
        return await offload(len(rows), _thresholds_of, rows)

    async def save(
        self, tenant: str, definition: MetricDefinition, expected_version: int
    ) -> MetricDefinition | None:
        """Compare and set; see the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        statement, values = "insert_definition", (tenant_id, *_columns(definition))
        if expected_version:
            statement, values = "update_definition", (*values, expected_version)
        async with acquired(self._database.write_pool) as connection:
            row = await connection.fetchrow(_QUERIES[statement], *values)
        if row is None:
            return None
        return replace(
            definition,
            version=row["version"],
            created_ms=unix_ms(row["created_at"]),
            updated_ms=unix_ms(row["updated_at"]),
        )

    async def delete(self, tenant: str, name: str, expected_version: int) -> bool:
        """Compare and delete; see the port."""
        statement = _QUERIES["delete_definition"]
        return await self._database.change_of(tenant, statement, name, expected_version) is not None


def _columns(definition: MetricDefinition) -> tuple[object, ...]:
    return (
        definition.name,
        definition.display_name,
        definition.description,
        definition.unit,
        definition.type.value,
        definition.aggregation.value if definition.aggregation else None,
        definition.retention_days,
        definition.duplicate_policy.value,
        encode_threshold(definition.alert_threshold),
    )


def _thresholds_of(rows: Sequence[asyncpg.Record]) -> Mapping[str, AlertThreshold]:
    decoded = {row["name"]: decode_threshold(row["alert_threshold"]) for row in rows}
    return {name: threshold for name, threshold in decoded.items() if threshold is not None}


def _definition_of(row: asyncpg.Record) -> MetricDefinition:
    threshold = decode_threshold(row["alert_threshold"])
    return _definition_of_row({**row, "alert_threshold": threshold})
