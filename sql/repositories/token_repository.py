"""The PostgreSQL side of `promcompat.core.access.TokenRepository`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import asyncpg

from promcompat.core.access import NewToken, Role, Token, TokenRepository
from promcompat.core.errors import ConflictError
from sql.database.connection_pool import acquired, read_again
from sql.database.database import Database
from sql.database.rows import read_rows, unix_ms
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("access")


class PostgresTokenRepository(TokenRepository):
    """The tokens of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @read_again
    async def version(self) -> int:
        """The version of the tokens; see the port."""
        async with acquired(self._database.read_pool) as connection:
            version: int = await connection.fetchval(_QUERIES["access_version"])
        return version

    @read_again
    async def by_digest(self) -> Mapping[bytes, Token]:
        """Every token that is not revoked; see the port."""
        async with acquired(self._database.read_pool) as connection:
            rows = await connection.fetch(_QUERIES["tokens"])
        tokens = await read_rows(rows, _token_of)
        return dict(zip((row["digest"] for row in rows), tokens, strict=True))

    async def create(self, new: NewToken, max_tokens: int) -> Token:
        """Store a token; see the port."""
        values = (
            new.name,
            new.digest,
            sorted(role.value for role in new.roles),
            None if new.tenants is None else sorted(new.tenants),
            new.expires_at_ms,
            new.created_by,
            max_tokens,
        )
        async with acquired(self._database.write_pool) as connection:
            try:
                row = await connection.fetchrow(_QUERIES["create_token"], *values)
            except asyncpg.UniqueViolationError as exc:
                raise ConflictError(f"there is a token named {new.name!r} already") from exc
        if row is None:
            raise ConflictError(
                f"there are already {max_tokens} tokens, which is the limit "
                "(PROMCOMPAT_MAX_TOKENS); revoke some"
            )
        return _token_of(row)

    async def revoke(self, token_id: int, revoked_by: str) -> bool:
        """Make a token useless; see the port."""
        async with acquired(self._database.write_pool) as connection:
            found = await connection.fetchval(_QUERIES["revoke_token"], token_id, revoked_by)
        return found is not None

    async def note_uses(self, used_at_ms: Mapping[int, int]) -> None:
        """Record when tokens were used; see the port."""
        async with acquired(self._database.write_pool) as connection:
            await connection.execute(
                _QUERIES["note_uses"], list(used_at_ms), list(used_at_ms.values())
            )


def _token_of(row: asyncpg.Record) -> Token:
    tenants = row["tenants"]
    return Token(
        id=row["id"],
        name=row["name"],
        roles=frozenset(map(Role, row["roles"])),
        tenants=None if tenants is None else frozenset(tenants),
        created_by=row["created_by"],
        created_at_ms=unix_ms(row["created_at"]),
        expires_at_ms=_time_of(row["expires_at"]),
        last_used_at_ms=_time_of(row["last_used_at"]),
    )


def _time_of(moment: datetime | None) -> int | None:
    return None if moment is None else unix_ms(moment)
