"""The PostgreSQL side of `promcompat.core.audit.AuditRepository`."""

from collections.abc import Sequence
from typing import Final

from promcompat.core import audit
from promcompat.core.audit import (
    KEPT_DAYS,
    AuditEntry,
    AuditFilter,
    AuditRecord,
    AuditRepository,
)
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.database.rows import unix_ms
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("access")


class PostgresAudit(AuditRepository):
    """The audit trail of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, entry: AuditEntry) -> int:
        """See the port."""
        values = entry.actor, entry.tenant, entry.action, entry.target, KEPT_DAYS
        async with acquired(self._database.write_pool) as connection:
            record_id: int = await connection.fetchval(_QUERIES["begin_audit"], *values)
            if not record_id % audit.BOUND_EVERY:
                most = audit.MAX_RECORDS_OF_TENANT, record_id, audit.MAX_RECORDS
                await connection.execute(_QUERIES["bound_audit"], entry.tenant, *most)
        return record_id

    async def end(self, record_id: int, status: int, request: str) -> None:
        """See the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(_QUERIES["end_audit"], record_id, status, request)

    @read_again
    async def list(self, wanted: AuditFilter, before_id: int, limit: int) -> Sequence[AuditRecord]:
        """See the port."""
        values = wanted.tenant, wanted.actor, wanted.action, wanted.start_ms, wanted.end_ms
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["list_audit"], *values, before_id, limit)
        return [
            AuditRecord(
                id=row["id"],
                at_ms=unix_ms(row["at"]),
                actor=row["actor"],
                tenant=row["tenant"],
                action=row["action"],
                target=row["target"],
                status=row["status"],
                request=row["request"],
            )
            for row in rows
        ]
