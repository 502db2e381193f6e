"""Tenant names to ids; a tenant is made by its first write."""

from typing import Final

from promcompat.core.errors import BadDataError
from promql.translator import is_storable_text
from sql.query_loader import load_queries
from sql.storage.connection_pool import Pool, acquired, read_again

_QUERIES: Final = load_queries("storage")
_MAX_NAME_BYTES: Final = 1000


class Tenants:
    """The tenants this process has met; only existing ones are remembered."""

    def __init__(self, write_pool: Pool, read_pool: Pool) -> None:
        self._write_pool = write_pool
        self._read_pool = read_pool
        self._ids: dict[str, int] = {}

    @read_again
    async def find(self, name: str) -> int | None:
        """The id of a tenant, None if it never wrote."""
        if (known := self._ids.get(name)) is not None:
            return known
        if not _is_valid_name(name):
            return None
        async with acquired(self._read_pool) as connection:
            found: int | None = await connection.fetchval(_QUERIES["find_tenant"], name)
        if found is not None:
            self._ids[name] = found
        return found

    async def find_or_create(self, name: str) -> int:
        """The id of a tenant that writes. Raises BadDataError for a name that cannot be stored."""
        if not _is_valid_name(name):
            raise BadDataError("invalid tenant name")
        while (found := await self.find(name)) is None:
            async with acquired(self._write_pool) as connection:
                await connection.execute(_QUERIES["create_tenant"], name)
        return found


def _is_valid_name(name: str) -> bool:
    return is_storable_text(name) and 0 < len(name.encode()) <= _MAX_NAME_BYTES
