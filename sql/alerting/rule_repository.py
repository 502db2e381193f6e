"""The PostgreSQL side of `promcompat.core.alert_ports`: rules, and the evaluation of a group."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from promcompat.core.alert_ports import RuleRepository
from promcompat.core.alerts import Alert, AlertChange, AlertRule, RuleEvaluation
from promcompat.core.errors import ConflictError
from sql.alerting.alert_rows import alert_of_row, rule_columns, rule_of_row
from sql.alerting.alert_writer import AlertWriter
from sql.database.connection_pool import Connection, acquired
from sql.database.database import Database
from sql.database.rows import row_reader
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("alerts")

_evaluation_of_row: Final = row_reader(RuleEvaluation)


class PostgresRuleRepository:
    """Alert rules in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_rules(
        self, tenant: str, group: str | None = None, rule_id: int | None = None
    ) -> list[AlertRule]:
        """Rules by group; see the port."""
        rows = await self._database.rows_of(tenant, _QUERIES["list_rules"], group, rule_id)
        return [rule_of_row(row) for row in rows]

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """Last evaluations by rule; see the port."""
        rows = await self._database.rows_of(tenant, _QUERIES["rule_evaluations"])
        return {row["rule_id"]: _evaluation_of_row(row) for row in rows}

    async def count_rules(self, tenant: str, group: str) -> tuple[int, int]:
        """Rules of the tenant and of the group; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["count_rules"], group)
        return (0, 0) if row is None else (row["of_tenant"], row["of_group"])

    async def save_rule(self, tenant: str, rule: AlertRule) -> AlertRule | None:
        """Make or replace; see the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        statement, values = "insert_rule", (tenant_id, *rule_columns(rule))
        if rule.id:
            statement, values = "update_rule", (*values, rule.id, rule.version)
        async with acquired(self._database.write_pool) as connection:
            try:
                row = await connection.fetchrow(_QUERIES[statement], *values)
            except asyncpg.UniqueViolationError as exc:
                raise ConflictError(
                    f"the group {rule.group!r} already has a rule {rule.name!r} with the same "
                    "labels and expression"
                ) from exc
        return None if row is None else replace(rule, id=row["id"], version=row["version"])

    async def delete_rule(self, tenant: str, rule_id: int, version: int) -> bool:
        """Compare and delete; see the port."""
        statement = _QUERIES["delete_rule"]
        return await self._database.change_of(tenant, statement, rule_id, version) is not None


class PostgresEvaluationSession:
    """See `promcompat.core.alert_ports.EvaluationSession`."""

    def __init__(
        self,
        connection: Connection,
        tenant_id: int,
        rules: Sequence[tuple[AlertRule, int]],
        writer: AlertWriter,
    ) -> None:
        self.rules = rules
        self._connection = connection
        self._tenant_id = tenant_id
        self._writer = writer

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["open_alerts_of_rule"], rule_id)
        return [alert_of_row(row) for row in rows]

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """See the port."""
        await self._connection.execute(
            _QUERIES["record_evaluation"],
            rule_id,
            evaluation.evaluated_at_ms,
            evaluation.duration_seconds,
            evaluation.error,
        )
        await self._writer.save(self._tenant_id, changes)


def _conforms(repository: PostgresRuleRepository) -> RuleRepository:
    """Checked by mypy: the repository has the port's shape."""
    return repository
