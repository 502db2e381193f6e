"""`promcompat tenant`: the tenants of a database, how long they are kept, and who reads them."""

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import uvloop

from promcompat.access.command_audit import recorded
from promcompat.configuration.settings import Settings
from promcompat.core.errors import NotFoundError, PromcompatError
from promcompat.database import owner_url
from promcompat.processes.command_database import command_database
from sql.database.database import Database
from sql.repositories.audit_repository import PostgresAudit
from sql.repositories.tenant_readers import grant_tenant, list_readers, revoke_tenant
from sql.repositories.tenant_retention import list_retentions, set_retention

ResultT = TypeVar("ResultT")
_OF_SERVICE: Final = "default"
_MAX_DAYS: Final = 365_000


def run_tenant(options: Namespace, settings: Settings) -> int:
    """Carry out the command. Raises PromcompatError."""
    match options.action:
        case "grant":
            return _grant(settings, options.tenant, options.role, creates=options.create)
        case "revoke":
            return _revoke(settings, options.tenant, options.role)
        case "set-retention":
            return _set_retention(settings, options.tenant, options.days)
        case _:
            return _list(settings)


def _list(settings: Settings) -> int:
    days = _on_database(settings, list_retentions)
    for one in _on_database(settings, list_readers):
        roles = ", ".join(one.roles) or "no role"
        own = days.get(one.tenant)
        kept = "" if own is None else f", kept {_text_of(own)}"
        sys.stdout.write(f"{one.tenant}: read by {roles}{kept}\n")
    return 0


def _set_retention(settings: Settings, tenant: str, text: str) -> int:
    days = _days_of(text)

    async def store(database: Database) -> None:
        if not await set_retention(database, tenant, days):
            raise NotFoundError(f"there is no tenant {tenant!r}; its first write creates it")

    _change(settings, tenant, f"set-retention {text}", store)
    sys.stdout.write(f"{tenant}: kept {_text_of(days)}\n")
    return 0


def _days_of(text: str) -> int | None:
    if text == _OF_SERVICE:
        return None
    if text.isascii() and text.isdigit() and int(text) <= _MAX_DAYS:
        return int(text)
    raise PromcompatError(
        f"{text!r} is no retention; give a number of days up to {_MAX_DAYS:,}, 0 for forever, or "
        f"{_OF_SERVICE!r} for PROMCOMPAT_RETENTION_DAYS"
    )


def _text_of(days: int | None) -> str:
    match days:
        case None:
            return "as the service keeps samples (PROMCOMPAT_RETENTION_DAYS)"
        case 0:
            return "forever"
        case _:
            return f"{days} days"


def _grant(settings: Settings, tenant: str, role: str, *, creates: bool) -> int:
    password = _change(
        settings,
        tenant,
        f"grant {role}",
        lambda database: grant_tenant(database, tenant, role, creates=creates),
    )
    sys.stdout.write(f"{role} reads {tenant}\n")
    if password is not None:
        sys.stdout.write(f"{address_of(owner_url(settings), role, password)}\n")
    return 0


def _revoke(settings: Settings, tenant: str, role: str) -> int:
    async def revoke(database: Database) -> None:
        if not await revoke_tenant(database, tenant, role):
            raise NotFoundError(
                f"{role!r} did not read {tenant!r}; promcompat tenant list shows who does"
            )

    _change(settings, tenant, f"revoke {role}", revoke)
    sys.stdout.write(f"{role} no longer reads {tenant}\n")
    return 0


def address_of(url: str, role: str, password: str) -> str:
    """The address of the same database for another role."""
    parts = urlsplit(url)
    kept = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in ("user", "password")
    ]
    user = f"{quote(role, safe='')}:{quote(password, safe='')}"
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{hosts}", query=urlencode(kept)))


def _change(
    settings: Settings, tenant: str, change: str, act: Callable[[Database], Awaitable[ResultT]]
) -> ResultT:
    """Make a change that the audit trail records."""

    async def make(database: Database) -> ResultT:
        async with recorded(PostgresAudit(database), "promcompat tenant", change, tenant):
            return await act(database)

    return _on_database(settings, make)


def _on_database(settings: Settings, act: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
    async def run() -> ResultT:
        async with command_database(settings, owner_url(settings)) as database:
            return await act(database)

    return uvloop.run(run())
