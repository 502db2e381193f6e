"""Whatever happens to samples in their life, answers are those of a model in memory.

Samples, floats and native histograms, are written, early and late, drained, merged, rolled up,
deleted, replaced, scaled, moved to other series and forgotten by retention, in any order. After
each step the stored samples are compared with the model to the bit. At the end, so are the answers
of queries that read rollups.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.corrections import (
    CorrectionRequest,
    CorrectionState,
    DeleteSamples,
    RelabelSeries,
    ReplaceSamples,
    SampleChange,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import WriteRejectedError
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    EvalRange,
    Labels,
    SampleBlock,
    WriteBatch,
)
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.histograms.listed_buckets import histogram_texts
from promql.query import Query
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import histogram_samples
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.migrate import migrate
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.corrections import steps as correction_steps
from sql.samples.metric_storage import MetricStorage
from sql.samples.storage_options import StoreKind
from tests.support.factories import make_block, make_matcher, select_name
from tests.support.fakes import InMemoryStore
from tests.support.long_form import examples
from tests.support.numbered_histograms import some_bits
from tests.support.programs.community import running_community
from tests.support.programs.components import require_component
from tests.support.storage.contract_histograms import batch_of, rows_of
from tests.support.storage.repositories import discard, opened_storage
from tests.support.storage.storage_processes import share_one_session
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

HOUR_MS, DAY_MS, BUCKET_MS = 3_600_000, 86_400_000, 300_000
MIDNIGHT = 19_712 * DAY_MS
NOW_MS = MIDNIGHT + 5 * HOUR_MS
EVER = (-(1 << 60), 1 << 60)
SERVICE_DAYS = 6
SERIES = [Labels.of({METRIC_NAME: name, "n": n}) for name in ("x", "y") for n in ("0", "1")]
KEPT_DAYS = {"x": 4, "y": 60}
QUERIES = (
    *("sum_over_time(x[1h])", "count_over_time(y[5m])", "rate(x[1d])", "y"),
    *("histogram_count(y)", "max_over_time(x[1d])"),
)

Points = Mapping[int, int]
"""Bits of values by Unix ms; see `tests.support.numbered_histograms` for histograms."""


@dataclass(frozen=True, slots=True)
class Write:
    series: Labels
    points: Points


@dataclass(frozen=True, slots=True)
class Correct:
    """A correction of the samples of a series from `start_ms` to `end_ms`.

    `points` replace them, `factor` scales them, `target` is where they go; else they are deleted.
    """

    series: Labels
    start_ms: int
    end_ms: int
    points: Points | None = None
    factor: float | None = None
    target: Labels | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """Fewer days of a metric are kept."""

    name: str
    days: int


@dataclass(frozen=True, slots=True)
class Later:
    hours: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a loop of the service does: `drain`, `merge`, `roll up` or `maintain`."""

    name: str


Step = Write | Correct | Keep | Later | Work

SOME_SERIES = st.sampled_from(SERIES)
TIMES = st.builds(
    lambda bucket, within: MIDNIGHT + bucket * BUCKET_MS + within,
    st.integers(-600, 30) | st.integers(0, 12) | st.sampled_from([-288, -864, -5_000, -11_000]),
    st.sampled_from([0, 1, 7_000, BUCKET_MS - 1]),
)
BITS = st.sampled_from([1.0, 2.5, -7.0, 0.0, -0.0, 0.1, 1e17]).map(
    lambda value: int(np.float64(value).view(np.uint64))
) | st.sampled_from([STALE_NAN_BITS, 0xFFF8_0000_DEAD_BEEF])
BITS = some_bits(BITS)
POINTS = st.dictionaries(TIMES, BITS, min_size=1, max_size=30)
SPANS = st.tuples(TIMES, TIMES).map(sorted)
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


WORK = st.sampled_from(["drain", "drain", "merge", "merge", "roll up", "maintain"]).map(Work)
AGEING = st.builds(Later, st.sampled_from([1, 20, 24, 49])) | st.builds(
    Keep, st.sampled_from(["x", "y"]), st.sampled_from([1, 2, 20])
)
STORIES = st.lists(
    st.one_of(WRITES, WRITES, WORK, WORK, corrections(), corrections(), AGEING),
    min_size=3,
    max_size=14,
)


@dataclass(slots=True)
class Model:
    """The samples in memory: the first of a series and time counts, until it is replaced."""

    clock: Clock
    samples: dict[Labels, dict[int, int]] = field(
        default_factory=lambda: {labels: {} for labels in SERIES}
    )
    kept_days: dict[str, int] = field(default_factory=KEPT_DAYS.copy)

    def apply(self, step: Step) -> None:
        match step:
            case Write(series, points):
                self.samples[series] = {**points, **self.samples[series]}
            case Correct():
                self._correct(step)
            case Keep(name, days):
                self.kept_days[name] = min(days, self.kept_days[name])
        for labels, points in self.samples.items():
            kept = self.clock.now_ms - self.kept_days[labels.get(METRIC_NAME)] * DAY_MS
            self.samples[labels] = {at: bits for at, bits in points.items() if at >= kept}

    def _correct(self, step: Correct) -> None:
        points = self.samples[step.series]
        chosen = {at: points[at] for at in points if step.start_ms <= at <= step.end_ms}
        if step.factor is not None:
            points |= {at: scaled(bits, step.factor) for at, bits in chosen.items()}
            return
        if step.target == step.series:
            return
        for at in chosen:
            del points[at]
        if step.points is not None:
            points |= within(step)
        if step.target is not None:
            self.samples[step.target] = chosen | self.samples[step.target]

    def rows(self, name: str) -> dict[Labels, list[tuple[int, int]]]:
        return {
            labels: sorted(points.items())
            for labels, points in self.samples.items()
            if labels.get(METRIC_NAME) == name and points
        }


def scaled(bits: int, factor: float) -> int:
    value = np.uint64(bits).view(np.float64)
    return bits if np.isnan(value) else int((value * factor + 0.0).view(np.uint64))


def within(step: Correct) -> dict[int, int]:
    """The points of a replacement that lie in its range."""
    points = step.points or {}
    return {at: bits for at, bits in points.items() if step.start_ms <= at <= step.end_ms}


def written(series: Mapping[Labels, Points]) -> WriteBatch:
    return batch_of({labels: sorted(points.items()) for labels, points in series.items()})


def block_of(series: Labels, points: Points) -> SampleBlock:
    batch = written({series: points})
    offsets = np.array([0, len(batch)], np.int64)
    return SampleBlock(
        (series,), batch.timestamps, batch.values, offsets, histograms=batch.histograms
    )


def change_of(step: Correct) -> SampleChange:
    labels = step.series.as_dict()
    matchers = tuple(make_matcher(name, "=", value) for name, value in labels.items())
    scope = SampleScope([matchers], step.start_ms, step.end_ms)
    if step.points is not None:
        points = within(step)
        return ReplaceSamples(scope, block_of(step.series, points) if points else make_block({}))
    if step.factor is not None:
        return ScaleSamples(scope, step.factor, 0.0)
    if step.target is not None:
        return RelabelSeries(scope, step.target.as_dict())
    return DeleteSamples(scope)


async def correct(storage: MetricStorage, tenant: str, change: SampleChange) -> None:
    repository = storage.corrections
    correction_id = await repository.begin(tenant, CorrectionRequest(change, "ann", ""))
    while await repository.advance(correction_id):
        pass
    [record], _ = await repository.list(tenant, 1 << 62, 1, correction_id)
    assert record.state is CorrectionState.DONE, record.failure


async def keep(storage: MetricStorage, tenant: str, name: str, days: int) -> None:
    definitions = PostgresDefinitionRepository(storage.database)
    known = await definitions.find(tenant, name)
    if known is None or known.retention_days is None or known.retention_days > days:
        definition = replace(MetricDefinition(name=name), retention_days=days)
        assert await definitions.save(tenant, definition, 0 if known is None else known.version)


async def do_work(storage: MetricStorage, clock: Clock, name: str) -> None:
    match name:
        case "drain":
            await storage.drains.drainer.drain_all()
        case "merge":
            await storage.drains.compact_step()
        case "roll up" if storage.rollups is not None:
            await storage.rollups.run(100)
        case "maintain":
            service = MaintenanceService(storage.maintenance, SERVICE_DAYS, clock)
            assert (await service.run_once()).failures == []


async def carry_out(storage: MetricStorage, tenant: str, clock: Clock, step: Step) -> None:
    match step:
        case Write(series, points):
            # Refused only in part: a sample in the head has another value.
            with suppress(WriteRejectedError):
                await storage.store.write_batch(tenant, written({series: points}))
        case Correct():
            await correct(storage, tenant, change_of(step))
        case Keep(name, days):
            await keep(storage, tenant, name, days)
        case Later(hours):
            clock.now_ms += hours * HOUR_MS
        case Work(name):
            await do_work(storage, clock, name)


async def check_samples(storage: MetricStorage, tenant: str, model: Model, step: Step) -> None:
    selections = [select_name(name, *EVER) for name in KEPT_DAYS]
    blocks = await storage.store.select(tenant, selections)
    for name, block in zip(KEPT_DAYS, blocks, strict=True):
        found = {labels: rows for labels, rows in rows_of(block).items() if rows}
        assert found == model.rows(name), step


async def check_queries(storage: MetricStorage, tenant: str, model: Model) -> None:
    """What engines answer of the storage and of the model, each number by its bits."""
    memory = InMemoryStore()
    for name in KEPT_DAYS:
        rows = model.rows(name)
        if rows:
            await memory.write_batch(tenant, batch_of(rows))
    engines = Engine(storage.store, EngineOptions()), Engine(memory, EngineOptions())
    grid = EvalRange(MIDNIGHT - 2 * DAY_MS, MIDNIGHT + 3 * HOUR_MS, HOUR_MS)
    for text in QUERIES:
        found, expected = [
            answer_bits((await engine.run(Query(tenant, text, grid))).value) for engine in engines
        ]
        assert found == expected, text


def answer_bits(value: object) -> dict[Labels, tuple[bytes, bytes, list[str]]]:
    """Floats by their bits, which samples there are, and the texts of histograms."""
    assert isinstance(value, Matrix)
    texts: defaultdict[int, list[str]] = defaultdict(list)
    if (samples := histogram_samples(value)) is not None:
        shown = histogram_texts(samples.columns)
        for row, number in zip(samples.rows.tolist(), samples.numbers.tolist(), strict=True):
            texts[row].append(shown[number])
    return {
        labels: (np.where(np.isnan(row), np.nan, row)[present].tobytes(), present.tobytes(),
                 texts[number])
        for number, (labels, row, present) in enumerate(
            zip(value.labels, value.values, value.present, strict=True)
        )
    }  # fmt: skip


_TENANTS = itertools.count()


async def play(url: str, store: StoreKind, story: Sequence[Step]) -> None:
    tenant, clock = f"tenant-{next(_TENANTS)}", Clock(NOW_MS)
    model = Model(clock)
    options = {"now_ms": clock, "retention_days": SERVICE_DAYS, "pushdown": PushdownMode.AUTO}
    async with opened_storage(url, store=store, **options) as storage:
        if storage.rollups is not None:
            storage.rollups.n_series = 1
        for name, days in KEPT_DAYS.items():
            await keep(storage, tenant, name, days)
        for step in story:
            await carry_out(storage, tenant, clock, step)
            model.apply(step)
            await check_samples(storage, tenant, model, step)
        await check_queries(storage, tenant, model)


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let corrections take several steps for the few samples of a story."""
    monkeypatch.setattr(correction_steps, "_MAX_SAMPLES", 5)


LENIENT = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=examples(12), suppress_health_check=LENIENT)
@given(STORIES)
def test_samples_of_blocks_are_those_of_the_model(database_url: str, story: list[Step]) -> None:
    asyncio.run(play(database_url, StoreKind.BLOCKS, story))


@pytest.mark.rows
@settings(max_examples=examples(8), suppress_health_check=LENIENT)
@given(STORIES)
def test_samples_of_rows_are_those_of_the_model(database_url: str, story: list[Step]) -> None:
    asyncio.run(play(database_url, StoreKind.ROWS, story))


@pytest.fixture(scope="module")
def community() -> Iterator[str]:
    require_component("TimescaleDB Community")
    with running_community() as url:
        asyncio.run(migrate(url, discard))
        yield f"{url}&search_path=promcompat,public"


@settings(max_examples=examples(3), suppress_health_check=LENIENT)
@given(STORIES)
def test_samples_are_those_of_the_model_on_the_community_edition(
    community: str, monkeypatch: pytest.MonkeyPatch, story: list[Step]
) -> None:
    share_one_session(monkeypatch.setattr)
    asyncio.run(play(community, StoreKind.BLOCKS, story))
