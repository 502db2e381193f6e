"""Tenant names to ids; the first write of a tenant creates it."""

from typing import Final

from promcompat.core.bounded_caches import ByteBoundedCache, texts_bytes
from promcompat.core.errors import BadDataError
from promcompat.core.texts.storable_text import is_storable_text
from sql.database.connection_pool import Pool, acquired, read_again
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("database")
_MAX_NAME_BYTES: Final = 1000
_REMEMBERED_BYTES: Final = 4 << 20


class Tenants:
    """A cache of the tenants that exist."""

    def __init__(self, write_pool: Pool, read_pool: Pool, max_tenants: int) -> None:
        """`max_tenants` bounds how many exist in the database; processes that create tenants at the
        same time may exceed it slightly.
        """
        self._write_pool = write_pool
        self._read_pool = read_pool
        self._max_tenants = max_tenants
        self.forget()

    def forget(self) -> None:
        """Drop all tenants: the database stepped back."""
        self._ids: ByteBoundedCache[str, int] = ByteBoundedCache(_REMEMBERED_BYTES)

    def known(self, name: str) -> int | None:
        """The id of a tenant that was found before, None if it was not."""
        return self._ids.get(name)

    @read_again
    async def find(self, name: str) -> int | None:
        """The id of a tenant, None if it never wrote."""
        # Of a read during which the database steps back, nothing is remembered afterwards.
        ids = self._ids
        if (known := ids.get(name)) is not None:
            return known
        if not _is_valid_name(name):
            return None
        async with acquired(self._read_pool) as connection:
            found: int | None = await connection.fetchval(_QUERIES["find_tenant"], name)
        if found is not None:
            ids.add(name, found, texts_bytes((name,)))
        return found

    async def find_or_create(self, name: str) -> int:
        """The id of a tenant that writes.

        Raises BadDataError for a name that cannot be stored, and when there are as many tenants
        as may be.
        """
        if not _is_valid_name(name):
            raise BadDataError("invalid tenant name")
        found = await self.find(name)
        if found is None:
            async with acquired(self._write_pool) as connection:
                await connection.execute(_QUERIES["create_tenant"], name, self._max_tenants)
            found = await self.find(name)
        if found is None:
            raise BadDataError(
                f"the tenant does not exist, and there are already {self._max_tenants} tenants, "
                "which is the limit (PROMCOMPAT_MAX_TENANTS)"
            )
        return found


def _is_valid_name(name: str) -> bool:
    return is_storable_text(name) and 0 < len(name.encode()) <= _MAX_NAME_BYTES
