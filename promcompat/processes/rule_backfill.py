"""`promcompat rules backfill`."""

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import groupby

from promcompat.alerting.backfill import Backfill, BackfillRange, RuleBackfill, check_distinct
from promcompat.api.params import parse_time_ms
from promcompat.composition.options import engine_options
from promcompat.configuration.settings import Settings
from promcompat.core.alerting.alerts import Rule
from promcompat.core.errors import BadDataError
from promcompat.metrics.correction_service import CorrectionService
from promcompat.processes.command_storage import command_storage
from promql.engine import Engine
from sql.alerting.rule_repository import PostgresRuleRepository
from sql.definitions.definition_repository import PostgresDefinitionRepository


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
    found = BackfillRange(parse_time_ms(start), parse_time_ms(end))
    if not found.start_ms <= found.end_ms <= time.time_ns() // 1_000_000:
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
