"""Which roles of the database read which tenants in SQL (sql/routines/0095_tenant_readers.sql)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg

from promcompat.core.errors import BadDataError
from sql.database.connection_pool import acquired
from sql.database.database import Database
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("readers")
_MAX_ROLE_BYTES: Final = 63
_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16
_PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class TenantReaders:
    """A tenant and the names of the roles that it is granted to."""

    tenant: str
    roles: tuple[str, ...]


async def list_readers(database: Database) -> list[TenantReaders]:
    """All tenants by name. Raises StorageUnavailableError."""
    async with acquired(database.read_pool) as connection:
        rows = await connection.fetch(_QUERIES["tenant_readers"])
    return [TenantReaders(row["name"], tuple(row["roles"])) for row in rows]


async def grant_tenant(database: Database, tenant: str, role: str, *, creates: bool) -> str | None:
    """Let a role read a tenant; with `creates`, make the role first and return its password.

    Nothing is left of a grant that fails. Raises BadDataError when there is no such tenant or role,
    when the role exists already, or when it reads every tenant anyway; StorageUnavailableError.
    """
    password = secrets.token_urlsafe(_PASSWORD_BYTES) if creates else None
    async with acquired(database.write_pool) as connection, connection.transaction():
        with _faults_of_the_request():
            if password is not None:
                verifier = scram_verifier(password, secrets.token_bytes(_SALT_BYTES))
                with _who_may_make_roles():
                    await connection.execute(_QUERIES["create_reader"], _checked(role), verifier)
            await connection.execute(_QUERIES["grant_tenant"], _checked(role), tenant)
    return password


async def revoke_tenant(database: Database, tenant: str, role: str) -> bool:
    """Take a tenant back from a role; whether the role had it.

    Raises BadDataError when there is no such tenant, and StorageUnavailableError.
    """
    async with acquired(database.write_pool) as connection:
        with _faults_of_the_request():
            found: bool = await connection.fetchval(
                _QUERIES["revoke_tenant"], _checked(role), tenant
            )
    return found


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL stores of an ASCII password (SCRAM-SHA-256, RFC 5802 and 7677)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, _ITERATIONS)
    stored_key = hashlib.sha256(_keyed(salted, b"Client Key")).digest()
    parts = (salt, stored_key, _keyed(salted, b"Server Key"))
    shown = [base64.b64encode(part).decode("ascii") for part in parts]
    return f"SCRAM-SHA-256${_ITERATIONS}:{shown[0]}${shown[1]}:{shown[2]}"


def _keyed(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _checked(role: str) -> str:
    """PostgreSQL cuts a longer name, and would find another role. Raises BadDataError."""
    if not role or "\0" in role or len(role.encode()) > _MAX_ROLE_BYTES:
        raise BadDataError(f"a role has a name of 1 to {_MAX_ROLE_BYTES} bytes")
    return role


@contextmanager
def _who_may_make_roles() -> Iterator[None]:
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as exc:
        raise BadDataError(
            "the owner of the schema is not allowed to make roles: give it that right (ALTER ROLE "
            "… CREATEROLE), or make the role first (CREATE ROLE …) and leave out --create"
        ) from exc


@contextmanager
def _faults_of_the_request() -> Iterator[None]:
    """What the database refuses, with its reason; the rest is translated elsewhere."""
    try:
        yield
    except (
        asyncpg.RaiseError,
        asyncpg.UndefinedObjectError,
        asyncpg.DuplicateObjectError,
        asyncpg.InsufficientPrivilegeError,
        asyncpg.ReservedNameError,
    ) as exc:
        hint = f". {exc.hint}" if exc.hint else ""
        raise BadDataError(f"{exc.message}{hint}") from exc
