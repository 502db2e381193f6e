"""Whatever happens to samples in their life, answers are those of a model in memory.

Samples, floats and native histograms, are written, early and late, near now and far from it,
drained, set aside, merged, rolled up, deleted, replaced, scaled, moved to other series and
forgotten by retention, which becomes shorter and longer, in any order, while the clock goes on or
is set back, by two processes, and while others work. After each step the stored samples are
compared with the model to the bit. At the end, so are the answers of queries that read rollups, and
all merges end. Pages, blocks, layers and steps have few samples here, so that a story of a few
samples has many of them.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.definitions import DuplicatePolicy
from promcompat.core.errors import WriteRejectedError
from promcompat.core.maintenance import StepNotes
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    EvalRange,
    Labels,
)
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.query import Query
from sql.database.connection_pool import acquired
from sql.migrate import migrate
from sql.pushdown.rule_choice import PushdownMode
from sql.repositories.tenant_retention import set_retention
from sql.samples.corrections import steps as correction_steps
from sql.samples.draining import block_retention, compaction, compaction_plan
from sql.samples.draining.class_moves import ClassMoves
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from sql.samples.stores import block_steps
from sql.samples.stores.store_steps import AsideStep
from sql.samples.tables import block_table
from tests.support.answer_bits import answer_bits
from tests.support.factories import select_name
from tests.support.fakes import InMemoryStore
from tests.support.long_form import examples
from tests.support.numbered_histograms import some_bits
from tests.support.programs.community import running_community
from tests.support.programs.components import require_component
from tests.support.storage.contract_histograms import batch_of, rows_of
from tests.support.storage.repositories import discard, opened_storage
from tests.support.storage.sample_lives import (
    OF_TENANT,
    Correct,
    Keep,
    Later,
    Model,
    Prefer,
    Rows,
    Step,
    Together,
    Work,
    Write,
    change_of,
    correct,
    define,
    written,
)
from tests.support.storage.storage_processes import share_one_session
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

HOUR_MS, DAY_MS, BUCKET_MS = 3_600_000, 86_400_000, 300_000
MIDNIGHT = 19_712 * DAY_MS
NOW_MS = MIDNIGHT + 5 * HOUR_MS
EVER = (-(1 << 60), 1 << 60)
SERVICE_DAYS = 6
SERIES = [
    *(Labels.of({METRIC_NAME: name, "n": n}) for name in ("x", "y") for n in ("0", "1")),
    Labels.of({METRIC_NAME: "z", "n": "0"}),
]
KEPT_DAYS = {"x": 4, "y": 60, "z": None, OF_TENANT: SERVICE_DAYS}
METRICS = ["x", "y", "z"]
QUERIES = (
    *("sum_over_time(x[1h])", "count_over_time(y[5m])", "rate(x[1d])", "y", "z"),
    *("histogram_count(y)", "max_over_time(x[1d])", "last_over_time(z[2h])"),
)
MOST_MERGES = 300
"""A story of a few hundred samples needs no more of them, or they do not end."""

SOME_SERIES = st.sampled_from(SERIES)
NEAR_DAYS, FAR_DAYS = [-2, -1, 0, 0], [-45, -38, -17, -7, -4, -3, 3, 5, 12]
TIMES = st.builds(
    lambda day, within: MIDNIGHT + day * DAY_MS + within,
    st.sampled_from([*NEAR_DAYS, *NEAR_DAYS, *FAR_DAYS]),
    st.sampled_from([0, 1, 7_000, BUCKET_MS - 1, BUCKET_MS, 3 * BUCKET_MS, HOUR_MS, DAY_MS - 1]),
)
"""Few different ones, so that samples often have the same."""
BITS = st.sampled_from([1.0, 2.5, -7.0, 0.0, -0.0, 0.1, 1e17]).map(
    lambda value: int(np.float64(value).view(np.uint64))
) | st.sampled_from([STALE_NAN_BITS, 0xFFF8_0000_DEAD_BEEF])
BITS = some_bits(BITS)
POINTS = st.dictionaries(TIMES, BITS, min_size=1, max_size=20)
SPANS = st.tuples(TIMES, TIMES).map(sorted) | st.just(list(EVER))
WRITES = st.builds(Write, SOME_SERIES, POINTS)


@st.composite
def corrections(draw: st.DrawFn) -> Correct:
    start_ms, end_ms = draw(SPANS)
    scope = Correct(draw(SOME_SERIES), start_ms, end_ms)
    match draw(st.sampled_from(["delete", "replace", "scale", "move", "move"])):
        case "replace":
            return replace(scope, points=draw(POINTS))
        case "scale":
            return replace(scope, factor=draw(st.sampled_from([0.0, -1.0, 0.1])))
        case "move":
            return replace(scope, target=draw(SOME_SERIES))
    return scope


WORK = st.sampled_from(
    ["drain", "drain", "merge", "merge all", "roll up", "maintain", "maintain"]
).map(Work)
OF_BLOCKS = st.sampled_from(["set aside", "set aside", "retry", "assign", "assign"]).map(Work)
DAYS = st.sampled_from([1, 2, 4, 8, 20, 50, 100, None])
KEEPS = st.builds(Keep, st.sampled_from(METRICS), DAYS) | st.builds(
    Keep, st.just(OF_TENANT), st.sampled_from([1, 3, 6, 20, 100])
)
PREFERS = st.builds(Prefer, st.sampled_from(METRICS), st.booleans())
AGEING = st.builds(Later, st.sampled_from([1, 20, 24, 49, 49, 240, -30]))
DRAIN, MERGE_ALL, MAINTAIN = Work("drain"), Work("merge all"), Work("maintain")


def dense(series: Labels, start_ms: int, n: int, bits: int) -> Write:
    """So many samples that they become a block."""
    return Write(series, dict.fromkeys(range(start_ms, start_ms + n * 1_000, 1_000), bits))


DENSE = st.builds(dense, SOME_SERIES, TIMES, st.integers(4, 40), BITS)
CHANGES = st.one_of(WRITES, DENSE, corrections(), KEEPS, PREFERS)
TOGETHER = st.builds(Together, CHANGES | WORK, st.lists(WORK, min_size=1, max_size=2).map(tuple))
"""Steps of several processes at once."""


# Scenes: steps that lead to what single ones seldom do.


@st.composite
def imports(draw: st.DrawFn) -> list[Step]:
    """A day comes in several drains, so that it becomes blocks."""
    start_ms, steps = draw(TIMES), list[Step]()
    some = draw(st.lists(SOME_SERIES, min_size=1, max_size=3, unique=True))
    for part in range(draw(st.integers(2, 3))):
        bits, n = draw(BITS), draw(st.integers(4, 20))
        steps += [dense(series, start_ms + part * 5_000, n, bits) for series in some]
        steps.append(DRAIN)
    return [*steps, MERGE_ALL]


@st.composite
def other_classes(draw: st.DrawFn) -> list[Step]:
    """Samples of the same times arrive before and after their metric has got another class."""
    series, points = draw(SOME_SERIES), draw(POINTS)
    name, bits = series.get(METRIC_NAME), draw(BITS)
    return [
        *(Write(series, points), DRAIN, Keep(name, draw(DAYS)), Work("assign")),
        *(Write(series, dict.fromkeys(points, bits)), DRAIN, draw(AGEING), MERGE_ALL),
    ]


@st.composite
def kept_longer(draw: st.DrawFn) -> list[Step]:
    """Something is set aside while a metric is to be kept longer, and time passes."""
    aside = [draw(WRITES), Work("set aside")]
    return [draw(WRITES), DRAIN, *aside, draw(KEEPS), draw(AGEING), draw(AGEING), MAINTAIN]


@st.composite
def forgotten(draw: st.DrawFn) -> list[Step]:
    """Time passes, or less is kept, and maintenance follows."""
    return [draw(AGEING | KEEPS), MAINTAIN]


def stories(
    more: Sequence[st.SearchStrategy[Step]] = (),
    scenes: Sequence[st.SearchStrategy[list[Step]]] = (),
) -> st.SearchStrategy[list[Step]]:
    """Steps and scenes of any kinds, and of some more."""
    steps = (WRITES, DENSE, WORK, WORK, corrections(), KEEPS, PREFERS, AGEING)
    single = st.one_of(*steps, *more).map(lambda step: [step])
    parts = st.one_of(single, single, single, imports(), imports(), forgotten(), *scenes)
    return st.lists(parts, min_size=2, max_size=9).map(lambda found: [*itertools.chain(*found)])


@dataclass(frozen=True, slots=True)
class Stage:
    """The processes of a story, which have one clock, and the tenant that it is about."""

    storages: Sequence[MetricStorage]
    tenant: str
    clock: Clock

    async def carry_out(self, step: Step, number: int) -> None:
        """Let a process carry out a step: each has its turn, by the number of the step."""
        storage = self.storages[number % len(self.storages)]
        match step:
            case Write(series, points):
                # Refused only in part: a sample in the head has another value.
                with suppress(WriteRejectedError):
                    await storage.store.write_batch(self.tenant, written({series: points}))
            case Correct():
                await correct(storage, self.tenant, change_of(step))
            case Keep(name, days) if name == OF_TENANT:
                assert await set_retention(storage.database, self.tenant, days)
            case Keep(name, days):
                await define(storage, self.tenant, name, retention_days=days)
            case Prefer(name, is_last):
                policy = DuplicatePolicy.LAST if is_last else DuplicatePolicy.FIRST
                await define(storage, self.tenant, name, duplicate_policy=policy)
            case Later(hours):
                self.clock.now_ms += hours * HOUR_MS
            case Work(name):
                await do_work(storage, self.clock, name)
            case Together(inner, works):
                others = (self.carry_out(work, number + n + 1) for n, work in enumerate(works))
                await asyncio.gather(self.carry_out(inner, number), *others)

    async def check(self, model: Model, step: Step, number: int) -> None:
        """Compare what a process reads with the model."""
        storage = self.storages[number % len(self.storages)]
        selections = [select_name(name, *EVER) for name in METRICS]
        blocks = await storage.store.select(self.tenant, selections)
        found: list[Rows] = [
            {labels: rows for labels, rows in rows_of(block).items() if rows} for block in blocks
        ]
        model.see({labels: rows for one in found for labels, rows in one.items()})
        for name, rows in zip(METRICS, found, strict=True):
            assert rows == model.rows(name), step


async def do_work(storage: MetricStorage, clock: Clock, name: str) -> None:
    drains = storage.drains
    match name:
        case "drain":
            await drains.drainer.drain_all()
        case "merge":
            await drains.compact_step()
        case "merge all":
            await merge_all(storage)
        case "roll up" if storage.rollups is not None:
            await storage.rollups.run(100)
        case "assign":
            # Maintenance that ends before it has moved anything.
            await ClassMoves(storage.database.write_pool).assign(SERVICE_DAYS)
        case "maintain":
            service = MaintenanceService(storage.maintenance, SERVICE_DAYS, clock)
            assert (await service.run_once()).failures == []
        case "set aside":
            # As if the database had refused it.
            async with acquired(storage.database.write_pool) as connection:
                oldest = await connection.fetchval(OLDEST_UNDRAINED)
            if oldest is not None:
                await drains.drainer.set_aside(oldest)
        case "retry":
            await drains.aside.retry()


OLDEST_UNDRAINED = (
    "SELECT min(id) FROM arrival WHERE id > (SELECT drained_through FROM drain_state)"
)


async def merge_all(storage: MetricStorage) -> None:
    for _ in range(MOST_MERGES):
        if await storage.drains.compact_step():
            return
    pytest.fail("merges do not end")


MISCOUNTED = """
SELECT e.tenant_id, e.slot, e.unmerged_samples, e.unmerged_blocks, e.merged_samples, c.*
FROM drained_extent AS e
CROSS JOIN LATERAL (
    SELECT
        coalesce(sum(b.n_samples) FILTER (WHERE b.level < 100), 0) AS unmerged_samples,
        count(*) FILTER (WHERE b.level < 100) AS unmerged_blocks,
        coalesce(sum(b.n_samples) FILTER (WHERE b.level >= 100), 0) AS merged_samples
    FROM sample_block AS b
    WHERE b.slot = e.slot AND b.tenant_id = e.tenant_id
) AS c
WHERE (e.unmerged_samples, e.unmerged_blocks, e.merged_samples)
    <> (c.unmerged_samples, c.unmerged_blocks, c.merged_samples)
"""


async def check_stored(storage: MetricStorage) -> None:
    """Merges end, none was given up, and blocks are counted as they are."""
    await merge_all(storage)
    stats = storage.drains.stats
    assert (stats.merges_given_up, stats.rollups_given_up, stats.pages_unreadable) == (0, 0, 0)
    async with acquired(storage.database.read_pool) as connection:
        assert await connection.fetch(MISCOUNTED) == []


async def check_queries(storage: MetricStorage, tenant: str, model: Model) -> None:
    """What engines answer of the storage and of the model, each number by its bits."""
    memory = InMemoryStore()
    for name in METRICS:
        rows = model.rows(name)
        if rows:
            await memory.write_batch(tenant, batch_of(rows))
    engines = Engine(storage.store, EngineOptions()), Engine(memory, EngineOptions())
    midnight = model.clock.now_ms // DAY_MS * DAY_MS
    grids = [
        EvalRange(midnight - 2 * DAY_MS, midnight + 3 * HOUR_MS, HOUR_MS),
        EvalRange(MIDNIGHT - 46 * DAY_MS, MIDNIGHT + 13 * DAY_MS, DAY_MS),
    ]
    for text, grid in itertools.product(QUERIES, grids):
        found, expected = [
            answer_bits((await engine.run(Query(tenant, text, grid))).value) for engine in engines
        ]
        assert found == expected, (text, grid)


_TENANTS = itertools.count()


@asynccontextmanager
async def processes(url: str, n: int, **options: object) -> AsyncIterator[list[MetricStorage]]:
    """So many processes with storage on one database."""
    async with AsyncExitStack() as stack:
        storages = [
            await stack.enter_async_context(opened_storage(url, **options)) for _ in range(n)
        ]
        for storage in storages:
            if storage.rollups is not None:
                storage.rollups.n_series = 1
            if storage.drains.compactor is not None:
                storage.drains.compactor.max_samples = 12
        yield storages


async def play(url: str, store: StoreKind, story: Sequence[Step], n_processes: int = 2) -> None:
    clock = Clock(NOW_MS)
    model = Model(clock, SERIES, dict(KEPT_DAYS))
    options = {"now_ms": clock, "retention_days": SERVICE_DAYS, "pushdown": PushdownMode.AUTO}
    async with processes(url, n_processes, store=store, **options) as storages:
        stage = Stage(storages, f"tenant-{next(_TENANTS)}", clock)
        for name in ("x", "y"):
            await define(storages[0], stage.tenant, name, retention_days=KEPT_DAYS[name])
        for number, step in enumerate(story):
            await stage.carry_out(step, number)
            model.apply(step)
            await stage.check(model, step, number // 2)
        for number, storage in enumerate(storages):
            await check_stored(storage)
            await stage.check(model, story[-1], number)
            await check_queries(storage, stage.tenant, model)


async def nothing_to_do(_step: AsideStep, _notes: StepNotes) -> int:
    return 0


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pages, blocks, merges, moves and corrections have few samples, as stories do."""
    for module, name, value in (
        (correction_steps, "_MAX_SAMPLES", 5),
        (block_table, "MAX_PAGE_SAMPLES", 16),
        (block_table, "MIN_BLOCK_SAMPLES", 4),
        (compaction_plan, "_LAYERS_MERGED", 2),
        (compaction_plan, "_FULL_SAMPLES", 32),
        (compaction_plan, "_FULL_FAR_SAMPLES", 8),
        (compaction, "_TAKEOVER_SECONDS", 0.0),
        (block_retention, "_ROWS_AT_ONCE", 3),
        (block_retention, "_PAGES_AT_ONCE", 2),
    ):
        monkeypatch.setattr(module, name, value)
    # What was set aside stays there until a story tries again, as if the database refused it.
    monkeypatch.setattr(AsideStep, "run", nothing_to_do)
    few = partial(ClassMoves, series_at_once=1, samples_at_once=20)
    monkeypatch.setattr(block_steps, "ClassMoves", few)


LENIENT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=examples(10), suppress_health_check=LENIENT)
@given(stories([TOGETHER, OF_BLOCKS], [other_classes(), kept_longer()]))
def test_samples_of_blocks_are_those_of_the_model(database_url: str, story: list[Step]) -> None:
    asyncio.run(play(database_url, StoreKind.BLOCKS, story))


@pytest.mark.rows
@settings(max_examples=examples(6), suppress_health_check=LENIENT)
@given(stories([TOGETHER]))
def test_samples_of_rows_are_those_of_the_model(database_url: str, story: list[Step]) -> None:
    asyncio.run(play(database_url, StoreKind.ROWS, story))


@pytest.fixture(scope="module")
def community() -> Iterator[str]:
    require_component("TimescaleDB Community")
    with running_community() as url:
        asyncio.run(migrate(url, discard))
        yield f"{url}&search_path=promcompat,public"


@settings(max_examples=examples(3), suppress_health_check=LENIENT)
@given(stories())
def test_samples_are_those_of_the_model_on_the_community_edition(
    community: str, monkeypatch: pytest.MonkeyPatch, story: list[Step]
) -> None:
    share_one_session(monkeypatch.setattr)
    asyncio.run(play(community, StoreKind.BLOCKS, story, n_processes=1))
