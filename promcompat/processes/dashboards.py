"""`promcompat dashboards`: dashboards are imported, checked, exported and listed."""

import argparse
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import uvloop

from promcompat.access.command_audit import recorded
from promcompat.composition.limits import stored_limits
from promcompat.configuration.settings import Settings
from promcompat.core.audit import AuditRepository
from promcompat.core.errors import BadDataError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.preconditions import Precondition
from promcompat.dashboards.dashboard_service import DashboardService
from promcompat.dashboards.files import read_file, uid_of
from promcompat.dashboards.grafana.importer import Imported, describe
from promcompat.http.context import DEFAULT_TENANT
from promcompat.processes.command_storage import command_storage
from sql.repositories.audit_repository import PostgresAudit
from sql.repositories.dashboard_repository import PostgresDashboardRepository

_ACTOR = "promcompat dashboards"


def run_check(options: argparse.Namespace) -> int:
    """Say what of each file is not supported. Exit code 1 if a file is no dashboard."""
    is_readable = True
    for file in options.files:
        try:
            _report(file, read_file(Path(file), _inputs(options.input)))
        except BadDataError as exc:
            sys.stdout.write(f"{exc}\n")
            is_readable = False
    return 0 if is_readable else 1


def run_dashboards_command(options: argparse.Namespace, settings: Settings) -> int:
    """Run a command that needs the database. Raises PromcompatError."""
    tenant = options.tenant or DEFAULT_TENANT
    match options.dashboards_command:
        case "import":
            if options.uid and len(options.files) > 1:
                raise BadDataError("--uid is for one file")
            inputs = _inputs(options.input)
            files = [(Path(file), read_file(Path(file), inputs)) for file in options.files]
            uvloop.run(_import(tenant, files, options.uid or "", settings))
        case "export":
            folder = None if options.folder is None else Path(options.folder)
            _write(uvloop.run(_documents(tenant, options.uid, settings)), folder)
        case _:
            uvloop.run(_list(tenant, settings))
    return 0


def _inputs(texts: Sequence[str]) -> Mapping[str, str]:
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise BadDataError(f"--input {text}: expected NAME=VALUE")
        found[name] = value
    return found


def _report(file: str, imported: Imported) -> None:
    n_panels, n_lost = len(imported.dashboard.panels), len(imported.lost)
    sys.stdout.write(f"{file}: {n_panels} panels, {n_lost} things are not supported\n")
    sys.stdout.writelines(f"  {describe(finding)}\n" for finding in imported.findings)


@asynccontextmanager
async def _service(
    settings: Settings,
) -> AsyncIterator[tuple[DashboardService, AuditRepository]]:
    async with command_storage(settings) as storage:
        limits = Limits(await stored_limits(settings, storage.database))
        service = DashboardService(PostgresDashboardRepository(storage.database), limits)
        yield service, PostgresAudit(storage.database)


async def _import(
    tenant: str, files: Sequence[tuple[Path, Imported]], uid: str, settings: Settings
) -> None:
    async with _service(settings) as (service, audit):
        for path, imported in files:
            wanted = uid or uid_of(imported, path)
            async with recorded(audit, _ACTOR, f"import {wanted}", tenant):
                stored, _ = await service.save(
                    tenant,
                    wanted,
                    imported.dashboard,
                    Precondition(),
                    actor=_ACTOR,
                    reason=f"imported from {path.name}",
                )
            _report(f"{path} is the dashboard {stored.uid}", imported)


async def _documents(
    tenant: str, uid: str | None, settings: Settings
) -> Sequence[tuple[str, bytes]]:
    """The uids and texts of all dashboards, or of one."""
    async with _service(settings) as (service, _):
        uids = [one.uid for one in await service.list_dashboards(tenant)] if uid is None else [uid]
        found = [await service.get(tenant, one) for one in uids]
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return [
        (one.uid, orjson.dumps({**one.document, "uid": one.uid}, option=options)) for one in found
    ]


def _write(documents: Sequence[tuple[str, bytes]], folder: Path | None) -> None:
    for uid, text in documents:
        if folder is None:
            sys.stdout.write(text.decode())
            continue
        file = folder / f"{uid}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
        except OSError as exc:
            raise BadDataError(f"cannot write {file}: {exc.strerror}") from exc
        sys.stdout.write(f"{file}\n")


async def _list(tenant: str, settings: Settings) -> None:
    async with _service(settings) as (service, _):
        for one in await service.list_dashboards(tenant):
            source = f", from {one.source}" if one.source else ""
            sys.stdout.write(f"{one.uid}: {one.title}{source}\n")
