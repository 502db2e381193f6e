"""The PostgreSQL side of `promcompat.core.alerting.ports`: rules, and the evaluation of a group."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

import asyncpg

from promcompat.core.alerting.alerts import Alert, AlertChange, Rule, RuleEvaluation
from promcompat.core.alerting.ports import EvaluationSession, RuleGroupsChange, RuleRepository
from promcompat.core.errors import ConflictError, PreconditionFailedError
from promcompat.core.limits.tenant_limits import StoredAmount
from promcompat.core.model import Labels
from promcompat.core.offloading import offload
from promcompat.core.texts.storable_text import storable_text
from sql.alerting.alert_rows import alert_of_row, rule_columns, rule_of_row
from sql.alerting.alert_writer import AlertWriter
from sql.alerting.recorded_series import PackedSeries, RecordedSeriesCache, joined_series
from sql.database.connection_pool import Connection, acquired
from sql.database.database import Database
from sql.database.rows import fetch_many, n_text_bytes, read_rows, row_reader
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("alerts")

_evaluation_of_row: Final = row_reader(RuleEvaluation)


def group_lock(tenant: str, namespace: str, group: str) -> str:
    """The name of the lock that whoever evaluates or replaces a group holds."""
    return f"rules\x1f{tenant}\x1f{namespace}\x1f{group}"


class PostgresRuleRepository(RuleRepository):
    """Alert rules in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_rules(
        self,
        tenant: str,
        group: str | None = None,
        rule_id: int | None = None,
        namespace: str | None = None,
    ) -> list[Rule]:
        """Rules by group; see the port."""
        statement = _QUERIES["list_rules"]
        rows = await self._database.many_rows_of(tenant, statement, group, rule_id, namespace)
        return await read_rows(rows, rule_of_row)

    async def evaluations(self, tenant: str) -> Mapping[int, RuleEvaluation]:
        """Last evaluations by rule; see the port."""
        rows = await self._database.many_rows_of(tenant, _QUERIES["rule_evaluations"])
        evaluations = await read_rows(rows, _evaluation_of_row)
        return dict(zip((row["rule_id"] for row in rows), evaluations, strict=True))

    async def amount(self, tenant: str) -> StoredAmount:
        """Rules of the tenant; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["amount_of_rules"])
        return StoredAmount() if row is None else StoredAmount(*row)

    async def count_group(self, tenant: str, namespace: str, group: str) -> int:
        """Rules of the group; see the port."""
        row = await self._database.row_of(tenant, _QUERIES["count_rules"], namespace, group)
        return 0 if row is None else row[0]

    def n_bytes(self, rule: Rule) -> int:
        """See the port."""
        return n_text_bytes(rule_columns(rule))

    async def save_rule(self, tenant: str, rule: Rule) -> Rule | None:
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

    async def store_groups(self, tenant: str, change: RuleGroupsChange) -> None:
        """See the port. Raises PreconditionFailedError when a rule was changed in the meantime."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        async with (
            acquired(self._database.write_pool) as connection,
            connection.transaction(),
        ):
            # An evaluation locks rules one after the other: two that wait for each other would be
            # a deadlock. So it is over before any of its rules is touched, and none begins.
            for namespace, group in change.groups:
                name = group_lock(tenant, namespace, group)
                await connection.execute(_QUERIES["lock"], name)
            deleted_ids = [rule.id for rule in change.deleted]
            kept_ids = [rule.id for _, rule in change.kept]
            await connection.execute(_QUERIES["delete_rules"], tenant_id, deleted_ids)
            await connection.execute(_QUERIES["free_identities"], tenant_id, kept_ids)
            for _, rule in change.kept:
                values = (tenant_id, *rule_columns(rule), rule.id, rule.version)
                if await connection.fetchrow(_QUERIES["update_rule"], *values) is None:
                    raise PreconditionFailedError("the rules were changed in the meantime")
            for rule in change.new:
                values = (tenant_id, *rule_columns(rule))
                if await connection.fetchrow(_QUERIES["insert_rule"], *values) is None:
                    raise PreconditionFailedError("the rules were changed in the meantime")


class PostgresEvaluationSession(EvaluationSession):
    """The session of one transaction; `rules` are read when it begins."""

    def __init__(
        self,
        connection: Connection,
        group: tuple[int, str, str],
        rows: Sequence[asyncpg.Record],
        writer: AlertWriter,
        recorded: RecordedSeriesCache,
    ) -> None:
        """`group` is the tenant's id, namespace and name; `rows` are its `scheduled_rules`."""
        self.rules: Sequence[tuple[Rule, int]] = [
            (rule_of_row(row), row["evaluated_at_ms"]) for row in rows
        ]
        self._digests: dict[int, bytes | None] = {row["id"]: row["digest"] for row in rows}
        self._same = {row["id"] for row in rows if row["is_same"]}
        self._connection = connection
        self._group = group
        self._writer = writer
        self._recorded = recorded

    async def open_alerts(self, rule_id: int) -> list[Alert]:
        """See the port."""
        rows = await fetch_many(self._connection, _QUERIES["open_alerts_of_rule"], rule_id)
        return await read_rows(rows, alert_of_row)

    async def record(
        self, rule_id: int, evaluation: RuleEvaluation, changes: Sequence[AlertChange]
    ) -> None:
        """See the port."""
        await self._connection.execute(
            _QUERIES["record_evaluation"],
            rule_id,
            evaluation.evaluated_at_ms,
            evaluation.duration_seconds,
            storable_text(evaluation.error),
        )
        await self._writer.save(self._group[0], changes)

    async def recorded_series(self, rule_id: int) -> Collection[Labels]:
        """See the port."""
        digest = self._digests.get(rule_id)
        if digest is None:
            return ()
        known = self._recorded.find(rule_id, digest)
        if known is None:
            packed = await self._connection.fetchval(_QUERIES["recorded_series"], rule_id)
            known = await asyncio.to_thread(joined_series, [packed])
            self._recorded.keep(rule_id, digest, known)
        return known

    async def save_recorded(self, rule: Rule, series: Collection[Labels]) -> None:
        """See the port. Series that did not change are not written again, unless the rule did."""
        packed = await offload(len(series), PackedSeries.of, series)
        self._recorded.keep(rule.id, packed.digest, series)
        if packed.digest == self._digests.get(rule.id) and rule.id in self._same:
            return
        await self._connection.execute(
            _QUERIES["save_recorded_series"],
            rule.id,
            *self._group,
            rule.interval_ms,
            rule.query_offset_ms,
            packed.digest,
            packed.packed,
        )

    async def take_removed(self) -> Collection[Labels]:
        """See the port."""
        rows = await self._connection.fetch(_QUERIES["removed_rules_of_group"], *self._group)
        if not rows:
            return ()
        ids = [row["rule_id"] for row in rows]
        await self._connection.execute(_QUERIES["forget_recorded_series"], ids)
        return await asyncio.to_thread(joined_series, [row["series"] for row in rows])
