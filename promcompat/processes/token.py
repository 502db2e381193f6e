"""`promcompat token`: makes, lists and revokes tokens, in the database."""

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import uvloop

from promcompat.access.command_audit import recorded
from promcompat.access.token_service import TokenRequest, TokenService
from promcompat.configuration.settings import Settings
from promcompat.core.access import ALL_ROLES, Principal, Role, Token
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import BadDataError
from promcompat.core.texts.durations import parse_duration_ms
from promcompat.database import database_url
from promcompat.processes.command_database import command_database
from sql.repositories.audit_repository import PostgresAudit
from sql.repositories.token_repository import PostgresTokenRepository

ResultT = TypeVar("ResultT")
_OPERATOR: Final = Principal("promcompat token", ALL_ROLES, None)
"""Whoever reaches the database with the password of the service may do everything anyway."""


def run_token(options: Namespace, settings: Settings) -> int:
    """Carry out the command. Raises PromcompatError."""
    match options.action:
        case "create":
            return _create(options, settings)
        case "revoke":
            return _revoke(options.name, settings)
        case _:
            return _list(settings)


def request_of(options: Namespace, now_ms: int) -> TokenRequest:
    """The token that the arguments describe. Raises BadDataError."""
    tenants = None if options.all_tenants else frozenset(options.tenant or ("default",))
    return TokenRequest(
        name=options.name,
        roles=frozenset(map(Role, options.role)),
        tenants=tenants,
        expires_at_ms=_expiry(options.expires_in, now_ms),
    )


def _expiry(text: str | None, now_ms: int) -> int | None:
    if text is None:
        return None
    try:
        return now_ms + parse_duration_ms(text)
    except ValueError as exc:
        raise BadDataError(f"--expires-in {text}: must be a duration such as 12h or 90d") from exc


def _create(options: Namespace, settings: Settings) -> int:
    request = request_of(options, wall_clock_ms())
    _, text = _with_tokens(
        settings, lambda tokens: tokens.create(request, _OPERATOR), f"create {request.name}"
    )
    sys.stderr.write(f"the token {request.name}; it is not shown again:\n")
    sys.stderr.flush()
    sys.stdout.write(f"{text}\n")
    return 0


def _list(settings: Settings) -> int:
    found = _with_tokens(settings, lambda tokens: tokens.list(_OPERATOR))
    if not found:
        sys.stderr.write("there are no tokens; promcompat token create makes one\n")
    sys.stdout.writelines(f"{describe(token)}\n" for token in found)
    return 0


def describe(token: Token) -> str:
    """A token as a line of the list."""
    tenants = "every tenant" if token.tenants is None else ", ".join(sorted(token.tenants))
    roles = ", ".join(sorted(role.value for role in token.roles))
    used = "never used" if token.last_used_at_ms is None else f"used {_date(token.last_used_at_ms)}"
    ends = "" if token.expires_at_ms is None else f", expires {_date(token.expires_at_ms)}"
    return f"{token.name}: {roles}; {tenants}; {used}{ends}"


def _date(unix_ms: int) -> str:
    moment = datetime.fromtimestamp(unix_ms // 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _revoke(name: str, settings: Settings) -> int:
    _with_tokens(settings, lambda tokens: tokens.revoke_named(name, _OPERATOR), f"revoke {name}")
    sys.stdout.write(f"{name} is revoked; services refuse it within seconds\n")
    return 0


def _with_tokens(
    settings: Settings, act: Callable[[TokenService], Awaitable[ResultT]], change: str = ""
) -> ResultT:
    """`change` is what the audit trail says of a command that changes something."""

    async def run() -> ResultT:
        async with command_database(settings, database_url(settings)) as database:
            repository = PostgresTokenRepository(database)
            tokens = TokenService(repository, None, settings.max_tokens)
            if not change:
                return await act(tokens)
            async with recorded(PostgresAudit(database), "promcompat token", change):
                return await act(tokens)

    return uvloop.run(run())
