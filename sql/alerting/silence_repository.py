"""The PostgreSQL side of `promcompat.core.alerting.ports.SilenceRepository`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from promcompat.core.alerting.alerts import Silence
from promcompat.core.alerting.ports import SilenceRepository
from sql.alerting.alert_rows import silence_matchers, silence_of_row
from sql.database.connection_pool import Pool, acquired, read_again
from sql.database.database import Database
from sql.database.rows import read_rows
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("alerts")


class PostgresSilenceRepository(SilenceRepository):
    """Silences in PostgreSQL."""

    def __init__(self, database: Database, pool: Pool) -> None:
        """`pool` is that of alerting, so that notifications do not wait for senders."""
        self._database = database
        self._pool = pool

    async def count(self, tenant: str, now_ms: int) -> int:
        """See the port."""
        row = await self._database.row_of(tenant, _QUERIES["count_silences"], now_ms)
        return 0 if row is None else row[0]

    async def save(self, tenant: str, silence: Silence) -> Silence:
        """See the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        async with acquired(self._database.write_pool) as connection:
            silence_id = await connection.fetchval(
                _QUERIES["insert_silence"],
                tenant_id,
                silence_matchers(silence),
                silence.reason,
                silence.created_by,
                silence.starts_at_ms,
                silence.ends_at_ms,
            )
        return replace(silence, id=silence_id)

    async def end(self, tenant: str, silence_id: int, at_ms: int) -> bool:
        """See the port."""
        statement = _QUERIES["end_silence"]
        return await self._database.change_of(tenant, statement, silence_id, at_ms) is not None

    async def page(
        self,
        tenant: str,
        *,
        after_ms: int | None = None,
        silence_id: int | None = None,
        before_id: int = 0,
        limit: int = 100,
    ) -> Sequence[Silence]:
        """See the port."""
        rows = await self._database.rows_of(
            tenant, _QUERIES["list_silences"], after_ms, silence_id, before_id, limit
        )
        return await read_rows(rows, silence_of_row)

    @read_again
    async def active(self, tenant: str, now_ms: int) -> Sequence[Silence]:
        """See the port."""
        tenant_id = await self._database.tenants.find(tenant)
        async with acquired(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["active_silences"], tenant_id, now_ms)
        return await read_rows(rows, silence_of_row)
