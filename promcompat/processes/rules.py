"""`promcompat rules`: rule files are checked, tested, loaded and exported; rules are backfilled."""

import argparse
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import uvloop

from promcompat.access.command_audit import recorded
from promcompat.alerting.backfill import Backfill, BackfillRange, RuleBackfill, check_distinct
from promcompat.alerting.rule_files.checking import check_file
from promcompat.alerting.rule_files.rule_document import (
    RuleFile,
    RuleFileError,
    parse_namespaces,
)
from promcompat.alerting.rule_files.rule_writer import file_value, yaml_text
from promcompat.alerting.rule_files.unit_tests import report_of, run_test_file
from promcompat.alerting.rule_groups import RuleGroups
from promcompat.composition.limits import stored_limits
from promcompat.composition.options import engine_options
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.alerts import Rule
from promcompat.core.audit import AuditRepository
from promcompat.core.clock import wall_clock_ms
from promcompat.core.errors import BadDataError
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.texts.file_faults import reading_fault
from promcompat.http.context import DEFAULT_TENANT
from promcompat.metrics.correction_service import CorrectionService
from promcompat.processes.command_storage import command_storage
from promcompat.processes.times import time_of_flag
from promql.engine import Engine
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.repositories.audit_repository import PostgresAudit


def run_check(files: Sequence[str]) -> int:
    """Print what promtool would; exit code 1 if Prometheus would refuse a file."""
    is_loadable = True
    for file in files:
        report = check_file(Path(file))
        is_loadable &= report.is_loadable
        sys.stdout.writelines(f"{line}\n" for line in report.lines)
    return 0 if is_loadable else 1


def run_tests(files: Sequence[str]) -> int:
    """Run unit tests and print what promtool would; exit code 1 if one fails."""

    def warn(text: str) -> None:
        sys.stdout.write(f"{text}\n")

    failures = {file: run_test_file(Path(file), warn) for file in files}
    sys.stdout.writelines(f"{line}\n" for line in report_of(failures))
    return 1 if any(failures.values()) else 0


def run_rules_command(options: argparse.Namespace, settings: Settings) -> int:
    """Run a command that needs the database. Raises PromcompatError."""
    tenant = options.tenant or DEFAULT_TENANT
    if options.rules_command == "load":
        files = [file for path in options.files for file in _read(Path(path), options.namespace)]
        uvloop.run(_load(tenant, files, settings))
    elif options.rules_command == "backfill":
        uvloop.run(run_backfill(tenant, options, settings))
    else:
        uvloop.run(_export(tenant, options.namespace or None, settings))
    return 0


def _read(path: Path, namespace: str) -> Sequence[RuleFile]:
    """Raises BadDataError with the name of the file."""
    try:
        return parse_namespaces(path.read_text(encoding="utf-8"), namespace or path.stem)
    except RuleFileError as exc:
        raise BadDataError("\n".join(f"{path}: {fault}" for fault in exc.faults)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise BadDataError(f"{path}: {reading_fault(exc)}") from exc


@asynccontextmanager
async def _rule_groups(settings: Settings) -> AsyncIterator[tuple[RuleGroups, AuditRepository]]:
    async with command_storage(settings) as storage:
        limits = Limits(await stored_limits(settings, storage.database))
        groups = RuleGroups(PostgresRuleRepository(storage.database), limits)
        yield groups, PostgresAudit(storage.database)


async def _load(tenant: str, files: Sequence[RuleFile], settings: Settings) -> None:
    async with _rule_groups(settings) as (service, audit):
        for file in files:
            async with recorded(audit, "promcompat rules", f"load {file.namespace}", tenant):
                is_changed = await service.store_namespaces(tenant, {file.namespace: file.groups})
            n_rules = sum(len(group.rules) for group in file.groups)
            outcome = "loaded" if is_changed else "nothing has changed"
            sys.stdout.write(f"{file.namespace}: {n_rules} rules, {outcome}\n")


async def _export(tenant: str, namespace: str | None, settings: Settings) -> None:
    async with _rule_groups(settings) as (service, _):
        found = await service.groups(tenant, namespace)
    documents = [
        yaml_text({"namespace": name, **file_value(groups)}) for name, groups in found.items()
    ]
    sys.stdout.write("---\n".join(documents))


async def run_backfill(tenant: str, options: argparse.Namespace, settings: Settings) -> None:
    """Backfill the chosen rules, and print what was done for each. Raises PromcompatError."""
    wanted = _range_of(options.start, options.end)
    async with command_storage(settings) as storage:
        definitions = PostgresDefinitionRepository(storage.database)
        backfill = Backfill(
            tenant,
            Engine(storage.store, engine_options(settings)),
            CorrectionService(storage.corrections, definitions),
            is_dry=options.dry_run,
        )
        all_rules = await PostgresRuleRepository(storage.database).list_rules(tenant)
        rules = chosen_rules(all_rules, options.namespace, options.group, options.rule)
        for _, members in groupby(rules, key=lambda rule: (rule.namespace, rule.group)):
            for done in await backfill.run(list(members), wanted):
                sys.stdout.write(f"{_line(done, is_dry=options.dry_run)}\n")


def chosen_rules(rules: Sequence[Rule], namespace: str, group: str, name: str) -> list[Rule]:
    """The enabled recording rules with these names; an empty name is any.

    Raises BadDataError if there are none, or if one may share series with any other rule.
    """
    recording = [rule for rule in rules if rule.is_recording]
    found = [
        rule
        for rule in recording
        if rule.enabled
        and namespace in ("", rule.namespace)
        and group in ("", rule.group)
        and name in ("", rule.name)
    ]
    if not found:
        raise BadDataError("no recording rule has these names; promcompat rules export shows all")
    names = {rule.name for rule in found}
    check_distinct([rule for rule in recording if rule.name in names])
    return found


def _range_of(start: str, end: str) -> BackfillRange:
    found = BackfillRange(time_of_flag("--start", start), time_of_flag("--end", end))
    if not found.start_ms <= found.end_ms <= wall_clock_ms():
        raise BadDataError(
            f"the range from {start} to {end} cannot be backfilled: it must begin before it ends, "
            "and not end later than now"
        )
    return found


def _line(done: RuleBackfill, *, is_dry: bool) -> str:
    rule = done.rule
    would = "would write" if is_dry else "wrote"
    failed = f"; {done.n_failed} evaluations failed" if done.n_failed else ""
    return (
        f"{rule.namespace} {rule.group} {rule.name}: {done.n_steps} evaluations {would} "
        f"{done.n_samples} samples in place of {done.n_replaced}{failed}"
    )
