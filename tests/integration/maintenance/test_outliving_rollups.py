"""Rollups that are kept longer than their samples: what is answered, listed, shown and dropped."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from promcompat.core.definitions import DuplicatePolicy, MetricDefinition
from promcompat.core.explanations import ExplanationDepth
from promcompat.core.model import EvalRange
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from sql.samples.tables.damaged_pages import StoredPageError
from tests.support.factories import STALE_NAN, make_batch, make_labels, select_name
from tests.support.storage.repositories import connected, delete_samples, opened_storage
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

DAY_MS, HOUR_MS, MINUTE_MS = 86_400_000, 3_600_000, 60_000
SAMPLE_DAYS, ROLLUP_DAYS = 2, 5
REPLACED_GAUGE = replace(MetricDefinition(name="g"), duplicate_policy=DuplicatePolicy.LAST)
COUNTER, GAUGE = make_labels("c", n="1"), make_labels("g", n="1")


@dataclass
class Life:
    """A database whose samples of six days were written, and whose clock tests set."""

    url: str
    storage: MetricStorage
    clock: Clock
    first_day: int
    points: Mapping[str, tuple[np.ndarray, np.ndarray]]

    def at(self, day: int, ms: int = 0) -> int:
        """A time, Unix ms, of a day counted from the first one."""
        return (self.first_day + day) * DAY_MS + ms

    async def maintain(self, at_ms: int) -> None:
        """Let this time come, and do maintenance."""
        self.clock.now_ms = at_ms
        service = MaintenanceService(self.storage.maintenance, SAMPLE_DAYS, self.clock)
        report = await service.run_once()
        assert report.failures == []

    async def ask(self, text: str, first_ms: int, last_ms: int, step_ms: int) -> QueryResult:
        engine = Engine(self.storage.store, EngineOptions())
        return await engine.run(Query("default", text, EvalRange(first_ms, last_ms, step_ms)))

    async def shown(
        self, text: str, first_ms: int, last_ms: int, step_ms: int = HOUR_MS
    ) -> dict[int, float]:
        """The values of the only series of an answer by time; nothing if there is no series."""
        result = await self.ask(text, first_ms, last_ms, step_ms)
        assert isinstance(result.value, Matrix)
        times = EvalRange(first_ms, last_ms, step_ms).timestamps()
        if not len(result.value.labels):
            return {}
        present = result.value.present[0]
        values = result.value.values[0][present].tolist()
        return dict(zip(times[present].tolist(), values, strict=True))

    async def rollup_rule(self, text: str, first_ms: int, last_ms: int, step_ms: int) -> str:
        """What `explain` says about rollups."""
        query = Query("default", text, EvalRange(first_ms, last_ms, step_ms))
        plan = await Engine(self.storage.store, EngineOptions()).plan(query)
        depth = ExplanationDepth(analyze=False)
        (leaf,) = await self.storage.store.explain_select("default", plan.selections, depth)
        (rule,) = [rule for rule in leaf.rules if rule.rule == "rollups"]
        return rule.reason


def retained(name: str, days: int) -> MetricDefinition:
    return replace(MetricDefinition(name=name), retention_days=days)


def values_of(times: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A counter that resets at midnight, and a gauge of quarters: their means are exact."""
    minutes = times // MINUTE_MS
    return {
        "c": (times, (minutes % 1_440) * 3.0),
        "g": (times, ((minutes * 7) % 97) / 4),
    }


@pytest.fixture
async def life(plain_database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Life]:
    """Six days of a sample a minute, drained and rolled up.

    `request.param` may have `coarse` (answers), and `definitions` of metrics.
    """
    asked = getattr(request, "param", {})
    clock = Clock()
    first_day = clock.now_ms // DAY_MS - 6
    options = {
        "store": StoreKind.BLOCKS,
        "now_ms": clock,
        "pushdown": PushdownMode.AUTO,
        "retention_days": SAMPLE_DAYS,
        "rollup_retention_days": ROLLUP_DAYS,
        "coarse_rollups": asked.get("coarse", False),
    }
    times = np.arange(first_day * DAY_MS + 3_000, (first_day + 6) * DAY_MS, MINUTE_MS)
    async with opened_storage(plain_database_url, **options) as storage:
        life = Life(plain_database_url, storage, clock, first_day, values_of(times))
        clock.now_ms = life.at(6, 2 * HOUR_MS)
        for definition in asked.get("definitions", ()):
            await PostgresDefinitionRepository(storage.database).save("default", definition, 0)
        batch = {
            labels: list(zip(times.tolist(), values.tolist(), strict=True))
            for labels, (_, values) in zip((COUNTER, GAUGE), life.points.values(), strict=True)
        }
        await storage.store.write_batch("default", make_batch(batch))
        await storage.drains.drainer.drain_all()
        await life.maintain(clock.now_ms)
        yield life


def window(life: Life, name: str, end_ms: int, range_ms: int) -> np.ndarray:
    """The values in `(end - range, end]`."""
    times, values = life.points[name]
    return values[(times > end_ms - range_ms) & (times <= end_ms)]


async def test_days_without_samples_are_answered_exactly_from_rollups(life: Life) -> None:
    # It is 2:00 of day 6: samples from 2:00 of day 4 on, rollups of whole days from day 2 on.
    grid = life.at(1), life.at(6)
    for function, model in (
        ("sum_over_time", np.sum),
        ("avg_over_time", np.mean),
        ("max_over_time", np.max),
        ("min_over_time", np.min),
        ("count_over_time", len),
    ):
        shown = await life.shown(f"{function}(g[1h])", *grid)
        expected = {
            end: float(model(window(life, "g", end, HOUR_MS)))
            for end in range(life.at(2, HOUR_MS), grid[1] + 1, HOUR_MS)
        }
        assert shown == expected, function
    last = await life.shown("g", *grid)
    ends = range(life.at(2, HOUR_MS), grid[1] + 1, HOUR_MS)
    assert last == {end: float(window(life, "g", end, HOUR_MS)[-1]) for end in ends}
    async with connected(life.url) as sql:
        oldest = await sql.fetchval("SELECT min(first_ms) FROM drained_extent")
    assert oldest >= life.at(4)


async def test_what_rollups_cannot_answer_exactly_stays_empty_and_is_explained(life: Life) -> None:
    grid = life.at(2), life.at(6)
    shown = await life.shown("stddev_over_time(g[1h])", *grid)
    # Samples are kept from 2:00 of day 4 on.
    assert min(shown) == life.at(4, 3 * HOUR_MS)
    result = await life.ask("stddev_over_time(g[1h])", *grid, HOUR_MS)
    assert result.infos == ()
    reason = await life.rollup_rule("stddev_over_time(g[1h])", *grid, HOUR_MS)
    assert "days have rollups only" in reason
    assert "PROMCOMPAT_COARSE_ROLLUPS is off" in reason


@pytest.mark.parametrize("life", [{"coarse": True}], indirect=True)
async def test_a_coarse_answer_takes_a_bucket_where_it_ends_and_says_so(life: Life) -> None:
    """The model: buckets of 5 minutes, `(start, end)`, at their last millisecond."""
    shift_ms = 2 * MINUTE_MS + 17
    first_ms, last_ms = life.at(2, shift_ms + HOUR_MS), life.at(4, 0)
    times, values = life.points["g"]
    ends = times // 300_000 * 300_000 + 299_999
    for function, model in (("sum_over_time", np.sum), ("max_over_time", np.max)):
        shown = await life.shown(f"{function}(g[1h])", first_ms, last_ms)
        expected = {
            end: float(model(values[(ends > end - HOUR_MS) & (ends <= end)]))
            for end in range(first_ms, last_ms + 1, HOUR_MS)
        }
        assert shown == expected, function
    # Functions that look at every sample see the first and the last one of a counter's buckets.
    is_end = np.append(np.diff(ends) > 0, True) | np.append(True, np.diff(ends) > 0)
    seen_times, seen = times[is_end], life.points["c"][1][is_end]
    shown = await life.shown("stddev_over_time(c[1h])", first_ms, last_ms)
    for end in range(first_ms, last_ms + 1, HOUR_MS):
        some = seen[(seen_times > end - HOUR_MS) & (seen_times <= end)]
        assert shown[end] == pytest.approx(float(np.std(some)), rel=1e-12)
    result = await life.ask("stddev_over_time(g[1h])", first_ms, last_ms, HOUR_MS)
    (info,) = result.infos
    assert "the answer there is a coarse one, of buckets of 5 minutes" in info
    reason = await life.rollup_rule("stddev_over_time(g[1h])", first_ms, last_ms, HOUR_MS)
    assert "a coarse answer: buckets of 5 minutes" in reason


@pytest.mark.parametrize("life", [{"coarse": True}], indirect=True)
async def test_coarse_answers_end_where_samples_begin(life: Life) -> None:
    """From the first whole day of samples on, the answer is the one of samples."""
    first_ms = life.at(5, HOUR_MS + 77_000)
    shown = await life.shown("stddev_over_time(g[1h])", first_ms, life.at(6))
    for end, value in shown.items():
        assert value == pytest.approx(float(np.std(window(life, "g", end, HOUR_MS))), rel=1e-12)
    short = await life.ask("rate(c[1m])", life.at(3), life.at(4), HOUR_MS)
    assert "its windows are shorter than 5 minutes" in short.infos[0]
    assert isinstance(short.value, Matrix)
    assert not len(short.value.labels)


async def test_a_series_with_nothing_but_rollups_is_listed_until_these_go(life: Life) -> None:
    async def listed(first_ms: int, last_ms: int) -> set[str]:
        found = await life.storage.catalogue.series("default", ((),), first_ms, last_ms, 10)
        return {labels.as_dict()["__name__"] for labels in found}

    # Another metric goes on, so that days are dropped.
    await life.maintain(life.at(9, 2 * HOUR_MS))
    async with connected(life.url) as sql:
        assert await sql.fetchval("SELECT count(*) FROM drained_extent") == 0
        assert await sql.fetchval("SELECT count(*) FROM series") == 2
    assert await listed(life.at(0), life.at(9)) == {"c", "g"}
    assert await listed(life.at(5), life.at(6)) == {"c", "g"}
    assert await listed(life.at(2), life.at(3)) == set()
    assert await listed(life.at(7), life.at(9)) == set()
    assert set(await life.shown("count_over_time(g[1d])", life.at(0), life.at(9), DAY_MS)) == {
        life.at(6)
    }
    await life.maintain(life.at(11, 2 * HOUR_MS))
    async with connected(life.url) as sql:
        left = await sql.fetchrow(
            "SELECT (SELECT count(*) FROM series), (SELECT count(*) FROM sample_hour), "
            "(SELECT count(*) FROM rollup_day), (SELECT count(*) FROM rollup_mark)"
        )
    assert list(left) == [0, 0, 0, 0]


async def test_a_dry_run_counts_the_rollups_that_go(life: Life) -> None:
    life.clock.now_ms = life.at(8, 2 * HOUR_MS)
    service = MaintenanceService(life.storage.maintenance, SAMPLE_DAYS, life.clock)
    planned = {step.name: step.amount for step in (await service.plan()).steps}
    # Days 2 and 3 of two series: 24 hours each, and a row of 5 minutes a day.
    assert planned["retain rollups"] == 2 * 2 * (24 + 1)
    report = await service.run_once()
    assert report.amount_of("retain rollups") == 2 * 2 * (24 + 1)


@pytest.mark.parametrize(
    "life", [{"coarse": True, "definitions": [retained("c", 6), retained("g", 3)]}], indirect=True
)
async def test_days_that_a_series_does_not_keep_hide_none_of_its_other_days(life: Life) -> None:
    """One question asks series of three retentions: c keeps rollups from day 1 on, g from day 2."""
    await life.storage.store.write_batch(
        "default", make_batch({make_labels("d", n="1"): [(life.at(6, HOUR_MS), 1.0)]})
    )
    text = 'count(last_over_time({__name__=~"c|g|d"}[1h]))'
    ends = range(life.at(2, HOUR_MS), life.at(6) + 1, HOUR_MS)
    shifted = range(ends.start + 137_000, life.at(5), HOUR_MS)
    result = await life.ask(text, life.at(1), shifted[-1], 2 * HOUR_MS + 137_000)
    assert result.infos
    assert await life.shown(text, shifted[0], shifted[-1]) == dict.fromkeys(shifted, 2.0)
    late = {GAUGE: [(life.at(5, 5 * HOUR_MS + 1), 1e6)]}
    await life.storage.store.write_batch("default", make_batch(late))
    assert await life.shown(text, ends[0], ends[-1]) == dict.fromkeys(ends, 2.0)
    assert set(await life.shown(text, life.at(1, HOUR_MS), life.at(2))) == set(
        range(life.at(1, HOUR_MS), life.at(2) + 1, HOUR_MS)
    )


@pytest.mark.parametrize("life", [{"definitions": [retained("g", 2)]}], indirect=True)
async def test_rollups_go_of_one_metric_where_all_others_are_kept_forever(life: Life) -> None:
    async with connected(life.url) as sql:
        await sql.execute("UPDATE tenant SET retention_days = 0 WHERE name = 'default'")
    life.clock.now_ms = life.at(8, 2 * HOUR_MS)
    service = MaintenanceService(life.storage.maintenance, SAMPLE_DAYS, life.clock)
    report = await service.run_once()
    assert report.failures == []
    # Days 2 and 3 of g: 24 hours each, and a row of 5 minutes a day.
    assert report.amount_of("retain rollups") == 2 * (24 + 1)
    first_hours = (
        "SELECT s.metric_name, min(h.bucket) FROM sample_hour AS h "
        "JOIN series AS s ON s.id = h.series_id GROUP BY s.metric_name"
    )
    async with connected(life.url) as sql:
        first = dict(await sql.fetch(first_hours))
    assert first == {"c": _moment(life.at(2)), "g": _moment(life.at(4))}


async def test_a_late_sample_changes_no_rollup_whose_samples_are_gone(life: Life) -> None:
    before = await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6))
    hours = "SELECT * FROM sample_hour ORDER BY series_id, bucket"
    async with connected(life.url) as sql:
        stored = await sql.fetch(hours)
    late = {GAUGE: [(life.at(3, 5 * HOUR_MS + 1), 1e6)], COUNTER: [(life.at(2, 1), 5.0)]}
    await life.storage.store.write_batch("default", make_batch(late))
    assert await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6)) == before
    await life.storage.drains.drainer.drain_all()
    assert await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6)) == before
    await life.maintain(life.at(6, 2 * HOUR_MS + 1))
    assert await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6)) == before
    async with connected(life.url) as sql:
        assert await sql.fetch(hours) == stored
        assert await sql.fetchval("SELECT count(*) FROM rollup_mark") == 0


async def test_a_deletion_takes_the_buckets_that_it_touches(life: Life) -> None:
    first_ms = life.at(3, 5 * HOUR_MS + 10 * MINUTE_MS)
    await delete_samples(life.storage, "default", select_name("g", first_ms, first_ms + 60_000))
    await life.storage.drains.drainer.drain_all()
    await life.maintain(life.at(6, 2 * HOUR_MS + 1))
    shown = await life.shown("count_over_time(g[1h])", life.at(3), life.at(4))
    gone = life.at(3, 6 * HOUR_MS)
    assert set(shown) == set(range(life.at(3), life.at(4) + 1, HOUR_MS)) - {gone}
    minutes = await life.shown("count_over_time(g[5m])", gone - HOUR_MS, gone, 300_000)
    # Two buckets have some of what was deleted, `(10:00, 11:00]`.
    assert set(range(gone - HOUR_MS, gone + 1, 300_000)) - set(minutes) == {
        gone - HOUR_MS + 15 * MINUTE_MS
    }
    hours = "SELECT count(*) FROM metrics_hourly WHERE name = 'g'"
    async with connected(life.url) as sql:
        assert await sql.fetchval(f"{hours} AND bucket = $1", _moment(gone - HOUR_MS)) == 0
    whole = await life.shown("count_over_time(c[1h])", life.at(3), life.at(4))
    assert len(whole) == 25


async def test_a_longer_retention_of_samples_does_not_lose_rollups(life: Life) -> None:
    """What was dropped under the shorter retention stays rolled up, whatever comes later."""
    async with connected(life.url) as sql:
        await sql.execute("UPDATE tenant SET retention_days = 5 WHERE name = 'default'")
    late = {GAUGE: [(life.at(3, 5 * HOUR_MS + 1), 1e6)]}
    before = await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6))
    await life.storage.store.write_batch("default", make_batch(late))
    await life.storage.drains.drainer.drain_all()
    await life.maintain(life.at(6, 2 * HOUR_MS + 1))
    assert await life.shown("sum_over_time(g[1h])", life.at(2), life.at(6)) == before


@pytest.mark.parametrize("life", [{"definitions": [REPLACED_GAUGE]}], indirect=True)
async def test_a_stale_marker_in_the_place_of_a_sample_changes_its_rollup(life: Life) -> None:
    """There is a sample less then, and none was lost."""
    times, values = life.points["g"]
    at = int(np.searchsorted(times, life.at(5, 5 * HOUR_MS + 10 * MINUTE_MS)))
    marker = {GAUGE: [(int(times[at]), STALE_NAN)]}
    await life.storage.store.write_batch("default", make_batch(marker))
    await life.storage.drains.drainer.drain_all()
    await life.maintain(life.at(6, 2 * HOUR_MS + 1))
    ends = range(life.at(5, HOUR_MS), life.at(6) + 1, HOUR_MS)
    values[at] = 0.0
    assert await life.shown("sum_over_time(g[1h])", ends[0], ends[-1]) == {
        end: float(np.sum(window(life, "g", end, HOUR_MS))) for end in ends
    }


async def test_a_deletion_of_many_series_leaves_the_rollups_of_those_between(life: Life) -> None:
    """Their ids are between those of the deleted ones, of a day whose samples are gone."""
    at_ms = life.at(3, 5 * HOUR_MS + 1)
    for number in range(40):
        for name in ("deleted", "left"):
            one = {make_labels(name, n=str(number)): [(at_ms, 1.0)]}
            await life.storage.store.write_batch("default", make_batch(one))
    await life.storage.drains.drainer.drain_all()
    await life.maintain(life.at(6, 2 * HOUR_MS + 1))
    ends = (life.at(3, 6 * HOUR_MS),) * 2
    left, deleted = (f"sum(count_over_time({name}[1h]))" for name in ("left", "deleted"))
    assert await life.shown(deleted, *ends) == {ends[0]: 40.0}
    await delete_samples(life.storage, "default", select_name("deleted", at_ms - 1, at_ms))
    await life.storage.drains.drainer.drain_all()
    await life.maintain(life.at(6, 2 * HOUR_MS + 2))
    assert await life.shown(deleted, *ends) == {}
    assert await life.shown(left, *ends) == {ends[0]: 40.0}
    async with connected(life.url) as sql:
        assert await sql.fetchval("SELECT count(*) FROM rollup_deletion") == 0


async def test_the_hours_of_sql_are_whole_where_samples_were_cut(database_url: str) -> None:
    """SQL goes by the clock of the database, so these samples are of the last days."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    today = now_ms // DAY_MS
    options = {
        "store": StoreKind.BLOCKS,
        "retention_days": 1,
        "rollup_retention_days": 3,
    }
    first_ms = (today - 4) * DAY_MS
    points = [(time_ms, 1.0) for time_ms in range(first_ms, today * DAY_MS, 10 * MINUTE_MS)]
    async with opened_storage(database_url, **options) as storage:
        await storage.store.write_batch("default", make_batch({GAUGE: points}))
        await storage.drains.drainer.drain_all()
        assert storage.rollups is not None
        async with connected(database_url) as sql:
            rows = "SELECT bucket, count FROM metrics_hourly ORDER BY bucket"
            live = await sql.fetch(rows)
            # Nothing is rolled up: samples as far as they are kept, the first hour in part.
            shown = sum(row["count"] for row in live)
            asked_ms = int(datetime.now(UTC).timestamp() * 1000)
            kept_then = [
                sum(time_ms >= now - DAY_MS for time_ms, _ in points) for now in (now_ms, asked_ms)
            ]
            assert kept_then[1] <= shown <= kept_then[0]
            while not await storage.rollups.run(100):
                pass
            service = MaintenanceService(storage.maintenance, 1)
            assert (await service.run_once()).failures == []
            kept = await sql.fetch(rows)
            called = (
                "SELECT bucket, sum(count)::bigint AS count FROM hours(NULL, '-infinity')"
                " GROUP BY bucket ORDER BY bucket"
            )
            assert await sql.fetch(called) == kept
            first_day = -(-(now_ms - 3 * DAY_MS) // DAY_MS)
            assert kept[0]["bucket"] == _moment(first_day * DAY_MS)
            counts = {row["bucket"]: row["count"] for row in kept}
            if (now_ms - HOUR_MS) // DAY_MS < today:
                # Yesterday ended less than an hour ago and is not rolled up: its first hour is cut.
                counts[_moment((today - 1) * DAY_MS)] = 6
            assert list(counts.values()) == [6] * (today - first_day) * 24


async def test_a_deletion_hides_the_hours_of_its_series_and_day_only(database_url: str) -> None:
    """In SQL, until rollups are computed again; before and after the deletion is drained."""
    today = int(datetime.now(UTC).timestamp() * 1000) // DAY_MS
    options = {"store": StoreKind.BLOCKS, "retention_days": 1, "rollup_retention_days": 5}
    times = range((today - 4) * DAY_MS, today * DAY_MS, HOUR_MS // 2)
    batch = {one: [(time_ms, 1.0) for time_ms in times] for one in (COUNTER, GAUGE)}
    rows = "SELECT name, bucket FROM metrics_hourly"
    async with opened_storage(database_url, **options) as storage, connected(database_url) as sql:
        await storage.store.write_batch("default", make_batch(batch))
        await storage.drains.drainer.drain_all()
        assert storage.rollups is not None
        while not await storage.rollups.run(100):
            pass
        whole = {tuple(row) for row in await sql.fetch(rows)}
        noon = (today - 3) * DAY_MS + 12 * HOUR_MS
        await delete_samples(storage, "default", select_name("c", noon, noon + 1))
        day = {_moment((today - 3) * DAY_MS + hour * HOUR_MS) for hour in range(24)}
        left = {row for row in whole if row[0] == "g" or row[1] not in day}
        assert len(left) == len(whole) - 24
        assert {tuple(row) for row in await sql.fetch(rows)} == left
        await storage.drains.drainer.drain_all()
        assert await sql.fetchval("SELECT count(*) FROM rollup_mark WHERE is_deletion") == 1
        assert {tuple(row) for row in await sql.fetch(rows)} == left


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, UTC)


async def test_a_damaged_rollup_is_named_where_its_samples_are_gone(life: Life) -> None:
    """An answer without it would be wrong, and nobody would notice."""
    async with connected(life.url) as admin:
        await admin.execute(
            "UPDATE sample_rollup SET ends = set_byte(ends, 9, get_byte(ends, 9) # 1)"
        )
    recent = life.at(5), life.at(6)
    assert len(await life.shown("max_over_time(g[1h])", *recent)) == 25
    assert len(await life.shown("last_over_time(g[1h])", *recent)) == 25
    with pytest.raises(StoredPageError, match=r"bucket_seconds = 3600, series_id = \d+ and period"):
        await life.shown("last_over_time(g[1h])", life.at(3), life.at(4))
