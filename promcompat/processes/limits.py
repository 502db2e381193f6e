"""`promcompat limits`: the limits of tenants, and their overrides in the database."""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Final

import uvloop

from promcompat.access.command_audit import recorded
from promcompat.composition.limits import stored_limits
from promcompat.configuration.settings import Settings
from promcompat.core.errors import BadDataError
from promcompat.core.limits.limit_definitions import (
    LIMITS,
    LimitValues,
    limit_named,
    parse_overrides,
)
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.preconditions import Precondition
from promcompat.database import database_url
from promcompat.limits.limit_service import LimitService
from promcompat.processes.command_database import command_database
from sql.repositories.audit_repository import PostgresAudit
from sql.repositories.override_repository import PostgresLimitOverrides

_NO_PRECONDITION: Final = Precondition()


def run_limits(options: Namespace, settings: Settings) -> int:
    """Carry out the command. Raises PromcompatError."""
    uvloop.run(_run(options, settings))
    return 0


async def _run(options: Namespace, settings: Settings) -> None:
    async with command_database(settings, database_url(settings)) as database:
        current = await stored_limits(settings, database)
        service = LimitService(current, PostgresLimitOverrides(database), Limits(current))
        if options.action != "list":
            given = options.values if options.action == "set" else options.names
            change = " ".join((options.action, *given))
            async with recorded(
                PostgresAudit(database), "promcompat limits", change, options.tenant
            ):
                await _change(service, options)
        _print(service, options.tenant)


async def _change(service: LimitService, options: Namespace) -> None:
    match options.action:
        case "set":
            await _set(service, options.tenant, options.values)
        case "unset":
            await _unset(service, options.tenant, options.names)


async def _set(service: LimitService, tenant: str, pairs: Sequence[str]) -> None:
    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadDataError(f"{pair!r} is not LIMIT=VALUE")
        given[name] = value
    values = parse_overrides(given)
    await service.change(tenant, _NO_PRECONDITION, lambda known: {**known, **values})


async def _unset(service: LimitService, tenant: str, names: Sequence[str]) -> None:
    for name in names:
        limit_named(name)

    def edit(known: LimitValues) -> LimitValues:
        return {name: value for name, value in known.items() if names and name not in names}

    await service.change(tenant, _NO_PRECONDITION, edit)


def _print(service: LimitService, tenant: str) -> None:
    values = service.values(tenant)
    for limit in LIMITS:
        found = values[limit.name]
        unit = "" if limit.is_duration else f" {limit.unit}"
        off = f" ({limit.zero})" if not found.value and not limit.least else ""
        source = "" if found.source.value == "setting" else f" [{found.source.value}]"
        shown = f"{limit.shown(found.value)}{unit}{off}{source}"
        sys.stdout.write(f"{limit.name} = {shown}\n    {limit.bounds}\n")
