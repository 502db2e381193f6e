"""The PostgreSQL side of `promcompat.core.alerting.ports.AlertRepository`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import asyncpg

from promcompat.core.alerting.alerts import (
    Alert,
    AlertChange,
    AlertFilter,
    AlertPage,
    AlertTransition,
    matches_labels,
)
from promcompat.core.alerting.ports import (
    AlertRepository,
    EvaluationSession,
    ReceiverDepth,
    RemovedRule,
    ScheduledGroup,
    SeriesValue,
    ThresholdSession,
)
from promcompat.core.matchers import LabelMatcher, MatchOp
from promql.budget import TimeLimit, run_limited
from sql.alerting.alert_rows import alert_of_row, document
from sql.alerting.alert_writer import AlertWriter
from sql.alerting.recorded_series import RecordedSeriesCache, joined_series
from sql.alerting.rule_repository import PostgresEvaluationSession, group_lock
from sql.alerting.threshold_session import PostgresThresholdSession
from sql.database.connection_pool import Connection, Pool, acquired, read_again
from sql.database.database import Database
from sql.database.rows import fetch_page, read_rows, row_reader
from sql.definitions.sample_lookup import NewestSample, SampleLookup
from sql.query_loader import load_queries

_QUERIES: Final = load_queries("alerts")
_THRESHOLDS: Final = load_queries("thresholds")
_DELIVERIES: Final = load_queries("deliveries")
MAX_ALERTS: Final = 1_000_000
_PRUNED_AT_ONCE: Final = 1_000
_PRUNE_SECONDS: Final = 60.0
_FOREIGN_MS: Final = 86_400_000
"""How long work is kept for a receiver that only another process may have."""
_MAX_READ: Final = 20_000
_ALERTS_AT_ONCE: Final = 50
"""An alert has at most 256 KiB of labels and annotations."""
_MAX_STEPS: Final = 10_000
"""How many alerts are read for one page: the database cannot evaluate every matcher."""
_MATCH_SECONDS: Final = 10.0

_group_of_row: Final = row_reader(ScheduledGroup)
_transition_of_row: Final = row_reader(AlertTransition)
_depth_of_row: Final = row_reader(ReceiverDepth)


class PostgresAlertRepository(AlertRepository):
    """Alerts in PostgreSQL.

    Sessions hold a connection for as long as a query or a receiver takes. They have a pool of their
    own, so that no sender waits for them.
    """

    def __init__(
        self,
        database: Database,
        session_pool: Pool,
        samples: SampleLookup,
        receivers: Sequence[str],
        now_ms: Callable[[], int],
    ) -> None:
        """`receivers` are the names of those that get every step of an alert."""
        self._database = database
        self._sessions = session_pool
        self._samples = samples
        self._receivers = receivers
        self._now_ms = now_ms
        self.max_alerts = MAX_ALERTS
        """Of each tenant, so many of the newest are kept, and older ones while they are open."""
        self._recorded = RecordedSeriesCache()

    def _writer(self, connection: Connection) -> AlertWriter:
        return AlertWriter(connection, self._receivers, self._now_ms())

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with acquired(self._sessions) as connection, connection.transaction():
            yield connection

    @read_again
    async def scheduled_groups(self) -> list[ScheduledGroup]:
        """See the port."""
        async with acquired(self._sessions) as connection:
            rows = await connection.fetch(_QUERIES["scheduled_groups"])
        return await read_rows(rows, _group_of_row)

    @asynccontextmanager
    async def evaluating(
        self, tenant: str, namespace: str, group: str
    ) -> AsyncIterator[EvaluationSession | None]:
        """See the port."""
        tenant_id = await self._database.tenants.find(tenant)
        async with self._transaction() as connection:
            lock = group_lock(tenant, namespace, group)
            if tenant_id is None or not await connection.fetchval(_QUERIES["try_lock"], lock):
                yield None
                return
            key = tenant_id, namespace, group
            rows = await connection.fetch(_QUERIES["scheduled_rules"], *key)
            yield PostgresEvaluationSession(
                connection, key, rows, self._writer(connection), self._recorded
            )

    @asynccontextmanager
    async def removed_rules(self, now_ms: int) -> AsyncIterator[Sequence[RemovedRule]]:
        """See the port."""
        async with self._transaction() as connection:
            if not await connection.fetchval(_QUERIES["try_lock"], "removed rules"):
                yield ()
                return
            await connection.execute(_QUERIES["note_removed_rules"], now_ms)
            rows = await connection.fetch(_QUERIES["removed_rules"], now_ms)
            living: dict[str, list[bytes]] = {}
            for tenant in {row["tenant"] for row in rows}:
                others = await connection.fetch(_QUERIES["living_series"], tenant)
                living[tenant] = [other["series"] for other in others]
            yield await asyncio.to_thread(_removed_rules, rows, living) if rows else ()
            ids = [row["rule_id"] for row in rows]
            await connection.execute(_QUERIES["forget_recorded_series"], ids)

    @asynccontextmanager
    async def thresholds(self) -> AsyncIterator[ThresholdSession | None]:
        """See the port."""
        async with self._transaction() as connection:
            if not await connection.fetchval(_QUERIES["try_lock"], "thresholds"):
                yield None
                return
            writer = self._writer(connection)
            yield PostgresThresholdSession(
                connection, self._database.tenants, writer, self._samples
            )

    async def active_alerts(self, tenant: str) -> list[Alert]:
        """See the port."""
        rows = await self._database.many_rows_of(tenant, _QUERIES["active_alerts"])
        return await read_rows(rows, alert_of_row)

    async def list_alerts(self, tenant: str, wanted: AlertFilter) -> AlertPage:
        """See the port. The database checks equality; other matchers are checked here."""
        found: list[Alert] = []
        before_id, n_wanted = wanted.before_id, wanted.limit + 1
        for _ in range(max(1, _MAX_READ // n_wanted)):
            filtered = replace(wanted, before_id=before_id)
            read, has_more = await self._read_alerts(tenant, filtered, n_wanted)
            found += await _matching(read, wanted.matchers)
            if len(found) > wanted.limit:
                page = found[: wanted.limit]
                return AlertPage(page, page[-1].id)
            if not has_more:
                return AlertPage(found, 0)
            before_id = read[-1].id
            if len(read) < n_wanted:  # They are large.
                break
        return AlertPage(found, before_id)

    async def _read_alerts(
        self, tenant: str, wanted: AlertFilter, limit: int
    ) -> tuple[list[Alert], bool]:
        """Alerts that satisfy the filter, as far as the database can tell; see `fetch_page`."""
        equal = {
            matcher.name: matcher.value
            for matcher in wanted.matchers
            if matcher.op is MatchOp.EQUAL and matcher.value
        }

        async def ask(before_id: int, n_rows: int) -> Sequence[asyncpg.Record]:
            return await self._database.rows_of(
                tenant,
                _QUERIES["list_alerts"],
                [state.value for state in wanted.states] or None,
                wanted.severity,
                wanted.rule_name,
                before_id,
                document(equal),
                n_rows,
                wanted.since_ms,
                wanted.until_ms,
            )

        rows, has_more = await fetch_page(ask, wanted.before_id, limit, _ALERTS_AT_ONCE)
        return await read_rows(rows, alert_of_row), has_more

    async def find_alert(self, tenant: str, alert_id: int) -> Alert | None:
        """See the port."""
        row = await self._database.row_of(tenant, _QUERIES["find_alert"], alert_id)
        return None if row is None else alert_of_row(row)

    async def series_value(self, tenant: str, series_id: int) -> SeriesValue | None:
        """See the port."""
        row = await self._database.row_of(tenant, _THRESHOLDS["has_series"], series_id)
        if row is None or not row[0]:
            return None
        newest = await self._newest(tenant, series_id)
        return (
            SeriesValue(None, 0)
            if newest is None
            else SeriesValue(newest.value, newest.timestamp_ms)
        )

    async def _newest(self, tenant: str, series_id: int) -> NewestSample | None:
        tenant_id = await self._database.tenants.find(tenant)
        if tenant_id is None:
            return None
        return (await self._samples.newest(tenant_id, [series_id])).get(series_id)

    async def history(self, tenant: str, alert_id: int) -> list[AlertTransition]:
        """See the port."""
        rows = await self._database.rows_of(tenant, _QUERIES["alert_history"], alert_id, _MAX_STEPS)
        return await read_rows(rows, _transition_of_row)

    async def acknowledge(
        self, tenant: str, alert_id: int, actor: str, at_ms: int, reason: str
    ) -> bool:
        """See the port."""
        tenant_id = await self._database.tenants.find(tenant)
        note = f"acknowledged by {actor}" + (f": {reason}" if reason else "")
        async with (
            acquired(self._database.write_pool) as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(
                _QUERIES["acknowledge_alert"], tenant_id, alert_id, at_ms, actor
            )
            if row is None:
                return False
            columns = [alert_id], [row["state"]], [row["state"]], [at_ms], [row["value"]], [note]
            await connection.execute(_QUERIES["insert_transitions"], *columns, [actor])
        return True

    async def end_alert(self, tenant: str, change: AlertChange) -> bool:
        """See the port."""
        tenant_id = await self._database.tenants.find_or_create(tenant)
        series_id = change.alert.series_id
        async with self._transaction() as connection:
            if series_id is not None:
                await connection.execute(_QUERIES["lock"], "thresholds")
            is_stored = await self._writer(connection).save(tenant_id, [change])
            # Otherwise the level belongs to the next alert of the series, which goes on.
            if is_stored and series_id is not None:
                newest = await self._newest(tenant, series_id)
                newest_ms = None if newest is None else newest.timestamp_ms
                await connection.execute(_THRESHOLDS["reset_level"], series_id, newest_ms)
        return is_stored

    async def receiver_depths(self, tenant: str) -> Mapping[str, ReceiverDepth]:
        """See the port."""
        rows = await self._database.rows_of(tenant, _DELIVERIES["receiver_depths"])
        return {row["receiver"]: _depth_of_row(row) for row in rows}

    async def counts(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """See the port."""
        async with acquired(self._sessions) as connection:
            states = await connection.fetch(_QUERIES["alert_counts"])
            depths = await connection.fetchrow(_QUERIES["outbox_depths"])
        return {row["state"]: row["n"] for row in states}, dict(depths or {})

    async def prune(self, before_ms: int, receivers: Sequence[str], now_ms: int) -> int:
        """See the port."""
        yesterday_ms = now_ms - _FOREIGN_MS
        async with acquired(self._sessions) as connection:
            for name in ("drop_foreign_deliveries", "drop_foreign_states"):
                await connection.execute(_DELIVERIES[name], list(receivers), yesterday_ms)
            await connection.execute(_THRESHOLDS["forget_levels"])
            await _repeat(connection, "prune_silences", before_ms)
            return await _repeat(connection, "prune_alerts", before_ms, self.max_alerts)


async def _repeat(connection: Connection, name: str, *values: object) -> int:
    """Execute a statement that deletes some rows until few are left; returns how many it deleted.

    What it does not get to in time is left for the next call.
    """
    n_deleted, deadline = 0, time.monotonic() + _PRUNE_SECONDS
    while time.monotonic() < deadline:
        status: str = await connection.execute(_QUERIES[name], *values)
        n_rows = int(status.rpartition(" ")[2])
        n_deleted += n_rows
        if n_rows < _PRUNED_AT_ONCE:
            break
    return n_deleted


def _removed_rules(
    rows: Sequence[asyncpg.Record], living: Mapping[str, Sequence[bytes]]
) -> list[RemovedRule]:
    """The rules of rows, without the series in `living`: packed ones of other rules, by tenant."""
    kept = {tenant: joined_series(packed) for tenant, packed in living.items()}
    return [
        RemovedRule(
            tenant=row["tenant"],
            at_ms=row["removed_at_ms"] - row["query_offset_ms"],
            series=joined_series([row["series"]]) - kept[row["tenant"]],
        )
        for row in rows
    ]


async def _matching(alerts: list[Alert], matchers: Sequence[LabelMatcher]) -> list[Alert]:
    """The alerts that satisfy all matchers, in a thread. Raises QueryTimeoutError."""
    limit = TimeLimit.after(_MATCH_SECONDS)

    def find() -> list[Alert]:
        found = []
        for alert in alerts:
            limit.check_time()
            if matches_labels(matchers, alert.labels):
                found.append(alert)
        return found

    return await run_limited(None, limit, find) if matchers else alerts
