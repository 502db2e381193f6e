"""What is read of rollups, when, and what is computed, marked and deleted.

That they change no answer is a property: `tests/properties/test_rolled_panels.py`.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from promcompat.core.errors import PromcompatError
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import EvalRange
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import Matrix
from sql.pushdown.rule_choice import PushdownMode
from sql.repositories.tenant_retention import set_retention
from sql.samples.metric_storage import MetricStorage
from sql.samples.reading.rollups import days as rollup_days
from sql.samples.reading.sample_snapshot import PiecemealSnapshot
from sql.samples.storage_options import StoreKind
from sql.samples.stores import rollup_work
from tests.support.answer_bits import answer_bits
from tests.support.factories import STALE_NAN, make_batch, make_labels
from tests.support.storage.repositories import connected, opened_storage

pytestmark = pytest.mark.integration

DAY_MS, HOUR_MS, BUCKET_MS = 86_400_000, 3_600_000, 300_000
MIDNIGHT = 19_712 * DAY_MS
"""The first day of a period of 128 days: later days are in other rows than earlier ones."""
NOW_MS = MIDNIGHT + 3 * DAY_MS + 5 * HOUR_MS


async def answer(storage: MetricStorage, tenant: str, text: str, grid: EvalRange) -> object:
    engine = Engine(storage.store, EngineOptions())
    try:
        result = await engine.run(Query(tenant, text, grid))
    except PromcompatError as exc:
        return str(exc)
    return answer_bits(result.value), result.warnings, result.infos


async def rolled_storage(storage: MetricStorage, tenant: str) -> None:
    """Three series for two days and a bit, drained and rolled up."""
    times = range(MIDNIGHT - 2 * DAY_MS + 3_000, MIDNIGHT + 2 * HOUR_MS, 60_000)
    series = {
        make_labels("x", n=str(n)): [(t, float((t // 60_000) % 500 + n) / 4) for t in times]
        for n in range(3)
    }
    await storage.store.write_batch(tenant, make_batch(series))
    assert storage.rollups is not None
    await storage.drains.drainer.drain_all()
    assert await storage.rollups.run(1_000)


async def _rollup_rows(url: str) -> dict[str, tuple[int, int]]:
    """How many hours and rows of rollups each tenant has; tenants without any are left out."""
    statement = (
        "SELECT t.name, (SELECT count(*) FROM sample_hour AS h WHERE h.tenant_id = t.id),"
        " (SELECT count(*) FROM sample_rollup AS r WHERE r.tenant_id = t.id) FROM tenant AS t"
    )
    async with connected(url) as sql:
        rows = await sql.fetch(statement)
    return {name: (hours, others) for name, hours, others in rows if hours or others}


RUNBOOK = Path(__file__).parents[3] / "docs/runbooks/damaged-page.md"
DAMAGE = (
    "UPDATE sample_rollup SET ends = set_byte(ends, 9, get_byte(ends, 9) # 1)"
    " WHERE (bucket_seconds, series_id, period) ="
    " (SELECT 3600, max(series_id), max(period) FROM sample_rollup WHERE bucket_seconds = 3600)"
)
GRID = EvalRange(MIDNIGHT - DAY_MS, MIDNIGHT + 2 * HOUR_MS, HOUR_MS)


async def count_rows(url: str, statement: str) -> int:
    async with connected(url) as connection:
        number: int = await connection.fetchval(statement)
    return number


async def test_few_numbers_are_read_of_days_that_are_rolled_up(plain_database_url: str) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with (
        opened_storage(plain_database_url, **options) as raw,
        opened_storage(plain_database_url, **options, pushdown=PushdownMode.AUTO) as rolled,
    ):
        await rolled_storage(rolled, "default")
        for text, share in (("avg_over_time(x[1h])", 50), ("rate(x[5m])", 2), ("x", 2)):
            before = raw.stats.samples_selected, rolled.stats.samples_selected
            expected = await answer(raw, "default", text, GRID)
            assert await answer(rolled, "default", text, GRID) == expected
            n_raw = raw.stats.samples_selected - before[0]
            assert 0 < share * (rolled.stats.samples_selected - before[1]) < n_raw, text
        for text, why in (
            (
                "avg_over_time(x[1h])",
                "3 days are rolled up; windows are made of buckets",
            ),
            ("deriv(x[1h])", "deriv() looks at every sample"),
            ("rate(x[7m])", "its windows or steps are not made of buckets of 5 minutes"),
        ):
            plan = await Engine(rolled.store, EngineOptions()).plan(Query("default", text, GRID))
            depth = ExplanationDepth(analyze=True)
            (leaf,) = await rolled.store.explain_select("default", plan.selections, depth)
            (rollups,) = [rule for rule in leaf.rules if rule.rule == "rollups"]
            assert rollups.reason.startswith(why)


async def test_no_more_rollups_are_read_than_a_query_may(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup_days, "_MOST_PAGES", 1)
    real, n_statements = PiecemealSnapshot.row_of, 0

    async def counted(
        snapshot: PiecemealSnapshot, *values: object, is_short: bool
    ) -> asyncpg.Record:
        nonlocal n_statements
        n_statements += 1
        return await real(snapshot, *values, is_short=is_short)

    monkeypatch.setattr(PiecemealSnapshot, "row_of", counted)
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS, "pushdown": PushdownMode.AUTO}
    # Each hour and series has a first and a last sample in five minutes.
    for max_samples, n_expected in ((60, 2), (200, 3)):
        n_statements = 0
        async with opened_storage(
            plain_database_url, **options, max_samples=max_samples
        ) as storage:
            await rolled_storage(storage, "default")
            found = await answer(storage, "default", "x", GRID)
        assert n_statements == n_expected
        assert isinstance(found, str) == (max_samples == 60), found


async def test_rollups_that_are_made_during_a_question_are_in_all_selections_or_in_none(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS, "pushdown": PushdownMode.AUTO}
    both, time_ms = (make_labels("x"), make_labels("y")), MIDNIGHT - DAY_MS + 1
    async with (
        opened_storage(plain_database_url, **options) as asked,
        opened_storage(plain_database_url, **options) as other,
    ):

        async def roll_up(times: Sequence[int]) -> None:
            batch = make_batch({one: [(time, 1.0) for time in times] for one in both})
            await other.store.write_batch("default", batch)
            await other.drains.drainer.drain_all()
            assert other.rollups is not None
            assert await other.rollups.run(100)

        await roll_up(range(time_ms, time_ms + DAY_MS, 60_000))
        real, late = PiecemealSnapshot.row_of, [time_ms + 5]

        async def overtaken(
            snapshot: PiecemealSnapshot, *values: object, is_short: bool
        ) -> asyncpg.Record:
            row = await real(snapshot, *values, is_short=is_short)
            if late:
                await roll_up([late.pop()])
            return row

        monkeypatch.setattr(PiecemealSnapshot, "row_of", overtaken)
        engine = Engine(asked.store, EngineOptions())
        text = "count_over_time(x[1h]) - count_over_time(y[1h])"
        # No window reaches beyond the day that is rolled up, so nothing else is read.
        grid = EvalRange(MIDNIGHT - 23 * HOUR_MS, MIDNIGHT - HOUR_MS, HOUR_MS)
        value = (await engine.run(Query("default", text, grid))).value
    assert isinstance(value, Matrix)
    assert not late
    assert value.present.sum() > 20
    assert not value.values[value.present].any()


async def test_a_late_sample_is_seen_at_once_and_only_its_series_is_rolled_up_again(
    plain_database_url: str,
) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with opened_storage(plain_database_url, **options, pushdown=PushdownMode.AUTO) as rolled:
        await rolled_storage(rolled, "default")
        drains = rolled.drains
        before = await answer(rolled, "default", "sum(count_over_time(x[1d]))", GRID)
        late = {make_labels("x", n="1"): [(MIDNIGHT - HOUR_MS + 1, 7.0)]}
        await rolled.store.write_batch("default", make_batch(late))
        seen = await answer(rolled, "default", "sum(count_over_time(x[1d]))", GRID)
        assert seen != before
        await drains.drainer.drain_all()
        assert await answer(rolled, "default", "sum(count_over_time(x[1d]))", GRID) == seen
        marks = "SELECT count(*) FROM rollup_mark"
        assert await count_rows(plain_database_url, marks) == 1
        # Neither the late sample nor the drain has changed the rollups that were read.
        assert (rolled.stats.rollup_cache_hits, rolled.stats.rollup_cache_misses) == (2, 1)
        assert rolled.stats.rollup_cache_bytes > 1_000
        rolled_before = drains.stats.samples_rolled_up
        assert rolled.rollups is not None
        await rolled.rollups.run(100)
        # The late sample, and the 1,440 of its series and day.
        assert drains.stats.samples_rolled_up - rolled_before == 1_441
        assert await count_rows(plain_database_url, marks) == 0
        assert await answer(rolled, "default", "sum(count_over_time(x[1d]))", GRID) == seen
        assert (rolled.stats.rollup_cache_hits, rolled.stats.rollup_cache_misses) == (2, 2)


async def test_hours_in_sql_are_those_of_the_samples_before_and_after_they_are_rolled_up(
    database_url: str,
) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    values = [(1, -3.5), (2_000, float("nan")), (HOUR_MS - 1, 7.0), (HOUR_MS, STALE_NAN)]
    values += [(HOUR_MS + 5, 1e300), (HOUR_MS + 6, 1e300), (3 * HOUR_MS, 2.0)]
    series = {make_labels("x", n="nan"): [(MIDNIGHT + t, v) for t, v in values]}
    hours = (
        "SELECT name, labels ->> 'n', bucket, count, avg, min, max, sum, first, last, increase "
        "FROM metrics_hourly_by_series ORDER BY 2, 3"
    )
    by_name = "SELECT * FROM metrics_hourly ORDER BY bucket"
    called = hours.replace("metrics_hourly_by_series", "hours(NULL, '-infinity')")
    async with opened_storage(database_url, **options) as storage, connected(database_url) as sql:
        await storage.store.write_batch("default", make_batch(series))
        drains = storage.drains
        await drains.drainer.drain_all()
        live = [repr(await sql.fetch(statement)) for statement in (hours, by_name, called)]
        assert storage.rollups is not None
        await storage.rollups.run(100)
        assert await sql.fetchval("SELECT count(*) FROM rolled_day") == 1
        rolled = [repr(await sql.fetch(statement)) for statement in (hours, by_name, called)]
    assert rolled == live
    assert live[2] == live[0]
    assert "count=3 " in live[0]


async def test_days_that_retention_dropped_are_no_longer_rolled_up(plain_database_url: str) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with opened_storage(plain_database_url, **options, pushdown=PushdownMode.AUTO) as rolled:
        await rolled_storage(rolled, "default")
        three_days = MaintenanceService(rolled.maintenance, 3, lambda: NOW_MS)
        report = await three_days.run_once()
        assert report.n_chunks_dropped == 2
        assert report.failures == []
        left = await answer(rolled, "default", "sum(count_over_time(x[1d]))", GRID)
        async with opened_storage(plain_database_url, **options) as raw:
            assert await answer(raw, "default", "sum(count_over_time(x[1d]))", GRID) == left


async def test_all_rows_of_days_that_retention_dropped_are_deleted(
    plain_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a transaction takes, and also while another tenant keeps older days."""
    monkeypatch.setattr(rollup_work, "_DELETED_AT_ONCE", 2)
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with opened_storage(plain_database_url, **options) as storage:

        async def maintain(retention_days: int) -> None:
            service = MaintenanceService(
                storage.maintenance, retention_days, lambda: NOW_MS + 30 * DAY_MS
            )
            assert (await service.run_once()).failures == []

        await storage.store.write_batch("blue", make_batch({make_labels("x"): [(NOW_MS, 1.0)]}))
        assert await set_retention(storage.database, "blue", 1)
        await maintain(1_000)  # It chooses a retention class for the tenant.
        await rolled_storage(storage, "red")
        of_red = await _rollup_rows(plain_database_url)
        await rolled_storage(storage, "blue")
        for retention_days, left in ((1_000, of_red), (1, {})):
            await maintain(retention_days)
            # Rows are deleted by the first run of a process, and once an hour.
            async with opened_storage(plain_database_url, **options) as another:
                assert another.rollups is not None
                assert await another.rollups.run(100)
            assert await _rollup_rows(plain_database_url) == left


async def test_rollups_of_series_whose_last_samples_are_dropped_go_too(
    plain_database_url: str,
) -> None:
    """Days of the tenant are still known: its samples were moved out of another partition."""
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with opened_storage(plain_database_url, **options) as storage:
        await rolled_storage(storage, "red")
        assert await set_retention(storage.database, "red", 1)
        service = MaintenanceService(storage.maintenance, 1_000, lambda: NOW_MS + 30 * DAY_MS)
        for _ in range(2):
            assert (await service.run_once()).failures == []
        assert await _rollup_rows(plain_database_url) == {}
        await MaintenanceService(storage.maintenance, 1_000, lambda: NOW_MS).run_once()
        assert await count_rows(plain_database_url, "SELECT count(*) FROM series") == 0


async def test_samples_are_read_in_place_of_a_damaged_rollup(
    plain_database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"store": StoreKind.BLOCKS, "now_ms": lambda: NOW_MS}
    async with (
        opened_storage(plain_database_url, **options) as raw,
        opened_storage(plain_database_url, **options, pushdown=PushdownMode.AUTO) as storage,
        connected(plain_database_url) as admin,
    ):
        await rolled_storage(storage, "default")
        expected = await answer(raw, "default", "rate(x[1h])", GRID)
        asked = storage, "default", "rate(x[1h])", GRID
        await admin.execute(DAMAGE)
        with caplog.at_level(logging.ERROR):
            assert await answer(*asked) == expected
        assert storage.stats.rollups_unreadable == 1
        (reason,) = [record.__dict__["reason"] for record in caplog.records]
        bucket_seconds, series_id, period = re.findall(r" = (\d+)", reason)
        assert bucket_seconds == "3600"
        assert int(series_id) == await admin.fetchval("SELECT max(id) FROM series")
        caplog.clear()
        repair = RUNBOOK.read_text().rpartition("```text")[2].partition("```")[0]
        for name, number in (
            ("BUCKET_SECONDS", bucket_seconds),
            ("SERIES_ID", series_id),
            ("PERIOD", period),
            ("DAYS", "16"),
        ):
            repair = re.sub(rf"\b{name}\b", number, repair)
        await admin.execute(repair)
        assert await answer(*asked) == expected
        assert storage.rollups is not None
        assert await storage.rollups.run(1_000)
        assert await count_rows(plain_database_url, "SELECT count(*) FROM rollup_mark") == 0
        n_read = storage.stats.samples_selected
        assert await answer(*asked) == expected
        assert storage.stats.samples_selected - n_read < 1_000
        assert caplog.records == []
