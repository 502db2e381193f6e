"""How much tenants store, from the view `usage`."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import asyncpg
import orjson

from promcompat.core.tenants import TenantUsage, TenantUsages
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("usage")
_KEPT_SECONDS: Final = 60.0

_Rows = Mapping[str, asyncpg.Record]


class PostgresTenantUsages(TenantUsages):
    """What the tenants of a database store, about a minute old at most.

    What tenants share has to be read for all of them even if one asks. So one question answers for
    all tenants, and for everyone who asks until a minute after its end.
    """

    def __init__(
        self, database: Database, now_seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._now_seconds = now_seconds
        self._rows: _Rows = {}
        self._asks_again_at = -math.inf
        self._asking: asyncio.Task[_Rows] | None = None

    async def find(self, tenant: str) -> TenantUsage:
        """What a tenant stores; see the port."""
        row = (await self._known_rows()).get(tenant)
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

    async def _known_rows(self) -> _Rows:
        if self._now_seconds() < self._asks_again_at:
            return self._rows
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="usage of tenants")
            self._asking.add_done_callback(_note_failure)
        return await asyncio.shield(self._asking)

    async def _ask(self) -> _Rows:
        self._rows = await self._read()
        self._asks_again_at = self._now_seconds() + _KEPT_SECONDS
        return self._rows

    @read_again
    async def _read(self) -> _Rows:
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["tenant_usages"])
        return {row["tenant"]: row for row in rows}


def _note_failure(asking: asyncio.Task[_Rows]) -> None:
    """Retrieve the exception of a question for whose answer nobody waits any more."""
    if not asking.cancelled():
        asking.exception()
