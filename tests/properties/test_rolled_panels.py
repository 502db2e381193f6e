"""Panels answered from rollups are those of the samples, to the bit.

Series of several days, regular and not, with resets, gaps, stale markers, infinities, negative
zeros and histograms, are written, drained, merged and rolled up; samples come late, are corrected,
deleted and forgotten by retention afterwards. Meanwhile any panels are asked of a process that
reads rollups, and of one that reads all samples.
"""

import asyncio
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import PromcompatError, WriteRejectedError
from promcompat.core.histograms.columns import HISTOGRAM_BITS
from promcompat.core.model import METRIC_NAME, STALE_NAN_BITS, EvalRange, FloatArray, Labels
from promcompat.metrics.maintenance_service import MaintenanceService
from promql.engine import Engine, EngineOptions
from promql.query import Query
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from sql.samples.reading.rollups import days as rollup_days
from sql.samples.storage_options import StoreKind
from tests.support.answer_bits import answer_bits
from tests.support.long_form import examples
from tests.support.storage.repositories import opened_storage
from tests.support.storage.sample_lives import (
    Correct,
    Later,
    Work,
    Write,
    change_of,
    correct,
    define,
    written,
)
from tests.support.storage.stored_blocks import Clock

pytestmark = pytest.mark.integration

DAY_MS, HOUR_MS, BUCKET_MS = 86_400_000, 3_600_000, 300_000
MIDNIGHT = 19_712 * DAY_MS
"""The first day of a period of 128 days: later days are in other rows than earlier ones."""
NOW_MS = MIDNIGHT + 3 * DAY_MS + 5 * HOUR_MS
SERIES = [Labels.of({METRIC_NAME: "x", "n": n}) for n in ("0", "1", "2")]
_TENANTS = itertools.count()


# -- series ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A series of so many samples, which `seed` decides."""

    series: Labels
    shape: str
    start_ms: int
    interval_ms: int
    n_samples: int
    jitter_ms: int
    n_gaps: int
    n_odd: int
    seed: int

    def points(self) -> dict[int, int]:
        """Bits by time."""
        rng = np.random.default_rng(self.seed)
        times = self.start_ms + np.arange(self.n_samples, dtype=np.int64) * self.interval_ms
        times += rng.integers(0, self.jitter_ms + 1, self.n_samples)
        bits = _VALUES[self.shape](self.n_samples, rng).view(np.uint64).copy()
        odd = rng.integers(0, self.n_samples, self.n_odd)
        bits[odd] = rng.choice(_ODD_BITS, self.n_odd)
        is_there = np.ones(self.n_samples, np.bool_)
        for _ in range(self.n_gaps):
            first = int(rng.integers(0, self.n_samples))
            is_there[first : first + int(rng.integers(1, 60))] = False
        return dict(zip(times[is_there].tolist(), bits[is_there].tolist(), strict=True))


_ODD_BITS = np.array(
    [
        *(STALE_NAN_BITS, STALE_NAN_BITS, 0x7FF8_0000_0000_0001, 0xFFF8_0000_DEAD_BEEF),
        *(0x7FF0 << 48, 0xFFF0 << 48, 1 << 63, 0, 1, 0x7FEF_FFFF_FFFF_FFFF),
        *(HISTOGRAM_BITS | 3, HISTOGRAM_BITS | 4),
    ],
    np.uint64,
)
_NO_HISTOGRAMS = 10


_VALUES: Mapping[str, Callable[[int, np.random.Generator], FloatArray]] = {
    "counter": lambda n, rng: np.cumsum(rng.integers(0, 9, n)) * 1.0,
    "resets": lambda n, rng: np.cumsum(rng.integers(0, 9, n)) % rng.integers(20, 2_000) * 1.0,
    "seconds": lambda n, rng: np.cumsum(rng.random(n)),
    "gauge": lambda n, rng: np.cumsum(rng.normal(size=n)),
    "tenths": lambda n, rng: rng.integers(-50, 5_000, n) / 10,
    "quarters": lambda n, rng: rng.integers(-50, 5_000, n) / 4,
    "zeros": lambda n, rng: rng.choice([0.0, -0.0, -0.0, 1.0], n),
    "cancelling": lambda n, rng: rng.choice([-1e17, 1e17], n) + rng.integers(0, 3, n) * 16.0,
    "alike": lambda n, rng: 1 + rng.random(n),
    "wide": lambda n, rng: rng.choice([-1.0, 1.0], n) * 2.0 ** rng.integers(-1074, 1024, n),
    "constant": lambda n, _: np.full(n, 2.5),
}
SHAPES = st.sampled_from(list(_VALUES))
SOME_SERIES = st.sampled_from(SERIES)
OFFSETS = st.sampled_from([0, 0, 1, 7_000, 60_000, 150_000, BUCKET_MS - 1])
TIMES = st.builds(
    lambda bucket, within: MIDNIGHT + bucket * BUCKET_MS + within,
    st.integers(-300, 600) | st.integers(0, 15) | st.sampled_from([-288, 0, 288, 576, 12, 300]),
    OFFSETS,
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Of some hours or days, which most of the panels look at."""
    interval_ms = draw(st.sampled_from([60_000, 15_000, 59_999, BUCKET_MS, 7 * 60_000, HOUR_MS]))
    start_ms = MIDNIGHT + draw(st.sampled_from([-24, -1, 0, 0, 5, 30])) * HOUR_MS + draw(OFFSETS)
    n_hours = draw(st.sampled_from([80, 50, 30, 26, 24, 3]))
    return Record(
        series=draw(SOME_SERIES),
        shape=draw(SHAPES),
        start_ms=start_ms,
        interval_ms=interval_ms,
        n_samples=min(n_hours * HOUR_MS // interval_ms, 5_000),
        jitter_ms=draw(st.sampled_from([0, 0, 1, 9_000])),
        n_gaps=draw(st.sampled_from([0, 0, 1, 5])),
        n_odd=draw(st.sampled_from([0, 0, 0, 1, 7])),
        seed=draw(st.integers(0, 1 << 32)),
    )


FLOATS = [0.0, -0.0, 1.0, 2.0, 3.0, 7.0, -7.0, 0.1, 0.3, 2.7, 1e17, 1e300, 5e-324]
BITS = st.sampled_from(
    [*np.array(FLOATS).view(np.uint64).tolist(), *_ODD_BITS[:_NO_HISTOGRAMS].tolist()]
) | st.sampled_from(_ODD_BITS.tolist())
POINTS = st.dictionaries(TIMES, BITS, min_size=1, max_size=40)
SPANS = st.tuples(TIMES, TIMES).map(sorted) | st.tuples(TIMES, st.just(1 << 60)).map(sorted)


@st.composite
def corrections(draw: st.DrawFn) -> Correct:
    """Of any kind."""
    start_ms, end_ms = draw(SPANS)
    series, kind = draw(SOME_SERIES), draw(st.sampled_from(["delete", "replace", "scale", "move"]))
    return Correct(
        series,
        start_ms,
        end_ms,
        points=draw(POINTS) if kind == "replace" else None,
        factor=draw(st.sampled_from([0.0, -1.0, 0.1, 8.0])) if kind == "scale" else None,
        target=draw(SOME_SERIES) if kind == "move" else None,
    )


WORK = st.sampled_from(
    ["drain", "drain", "merge", "roll up a bit", "roll up", "roll up", "roll up", "maintain"]
).map(Work)


@dataclass(frozen=True, slots=True)
class KeepDays:
    """The metric is kept for so many days."""

    days: int


Step = Record | Write | Correct | Later | KeepDays | Work
STORIES = st.tuples(
    st.lists(records(), min_size=1, max_size=3),
    st.lists(
        st.one_of(
            *(records(), st.builds(Write, SOME_SERIES, POINTS), corrections(), corrections()),
            *(WORK, WORK),
            st.builds(Later, st.sampled_from([1, 7, 20, 24])),
            st.builds(KeepDays, st.sampled_from([1, 2, 3, 30])),
        ),
        min_size=1,
        max_size=8,
    ),
).map(lambda parts: [*parts[0], Work("drain"), Work("roll up"), *parts[1]])
"""Days are rolled up, and then anything happens to them."""


# -- panels ------------------------------------------------------------------------------------

OF_WINDOWS = st.sampled_from(
    [
        *("changes", "deriv", "first_over_time", "idelta", "irate", "mad_over_time"),
        *("present_over_time", "stddev_over_time", "ts_of_last_over_time", "ts_of_max_over_time"),
    ]
)
ROLLED = st.sampled_from(
    [
        *("avg_over_time", "count_over_time", "delta", "increase", "last_over_time"),
        *("max_over_time", "min_over_time", "rate", "resets", "sum_over_time"),
    ]
)
FITTING_WINDOWS = st.sampled_from(["5m", "10m", "1h", "1h", "2h", "1d", "2d", "25h"])
ODD_WINDOWS = st.sampled_from(["7m", "1ms", "299999ms", "300001ms", "1h30s", "1m", "15s"])
FITTING_MODIFIERS = st.sampled_from(
    [
        *("", "", "", "", " offset 1d", " offset 5m", " offset -5m", " offset -1h"),
        *(" @ start()", " @ end()", " @ start() offset 1h", " offset 1d @ end()"),
    ]
)
AT = st.sampled_from([0, 1, -1, BUCKET_MS, 7 * HOUR_MS, 2 * DAY_MS, 2 * DAY_MS - 1])
ODD_MODIFIERS = st.sampled_from([" offset 7m", " offset 1ms", " offset 300001ms"]) | AT.map(
    lambda at: f" @ {(MIDNIGHT + at) / 1_000:.3f}"
)
SELECTORS = st.sampled_from(["x", "x", "x", "x", "x", 'x{n="0"}', 'x{n=~"1|2"}', 'x{n!="1"}'])
RARE = [
    "quantile_over_time(0.9, W)",
    "predict_linear(W, 3600)",
    "histogram_count(rate(W))",
    "absent_over_time(W)",
]


def mostly(usual: st.SearchStrategy[str], other: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """The other one now and then."""
    return st.integers(0, 5).flatmap(lambda number: other if number == 5 else usual)


@st.composite
def leaves(draw: st.DrawFn) -> str:
    """A selector, or a function of its windows."""
    selector, modifier = draw(SELECTORS), draw(mostly(FITTING_MODIFIERS, ODD_MODIFIERS))
    form = draw(mostly(ROLLED.map("{}(W)".format), OF_WINDOWS.map("{}(W)".format)))
    form = draw(mostly(st.just(form), st.just("S") | st.sampled_from(RARE)))
    window = f"{selector}[{draw(mostly(FITTING_WINDOWS, ODD_WINDOWS))}]{modifier}"
    return form.replace("W", window).replace("S", f"{selector}{modifier}")


SHELLS = st.sampled_from(
    [
        *("E", "E", "E", "E", "sum(E)", "count by (n) (E)", "topk(1, E)", "avg(E)", "-E"),
        *("max_over_time((E)[1h:5m])", "sum_over_time((E)[1d:1h])", "rate((E)[2h:10m] offset 1h)"),
        *("last_over_time((E)[1h:7m])", "E / F", "E and F", "E or F", "E > bool F", "E unless F"),
        *("timestamp(E)", "absent(E)", "histogram_sum(E)", "stddev_over_time((E)[1d:1h] @ end())"),
    ]
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """One or two leaves in a shell."""
    shell = draw(SHELLS)
    parts = re.split("([EF])", shell)
    return "".join(draw(leaves()) if part in ("E", "F") else part for part in parts)


@st.composite
def grids(draw: st.DrawFn) -> EvalRange:
    """Most of them are those of buckets; instants, tiny steps and odd ones are there too."""
    start_ms = MIDNIGHT + draw(st.sampled_from([-1, 0, 1, 2, 12, 24, 48])) * HOUR_MS
    start_ms += draw(st.sampled_from([0, 0, 0, 0, 0, BUCKET_MS, -1, 1, 60_000]))
    step_ms = draw(
        st.sampled_from([BUCKET_MS, 2 * BUCKET_MS, HOUR_MS, HOUR_MS, DAY_MS, 6 * HOUR_MS])
        | st.sampled_from([BUCKET_MS, HOUR_MS, 7, 59_999, BUCKET_MS + 1, 90 * 60_000, 25 * HOUR_MS])
    )
    if draw(st.integers(0, 5)) == 0:
        return EvalRange.instant(start_ms)
    return EvalRange(start_ms, start_ms + draw(st.integers(1, 60)) * step_ms, step_ms)


LOOKBACKS = st.sampled_from([None, None, None, None, HOUR_MS, DAY_MS, 1_000, BUCKET_MS + 1])
Panel = tuple[str, EvalRange, int | None]
PANELS = st.lists(st.tuples(expressions(), grids(), LOOKBACKS), min_size=4, max_size=12)


# -- both answers ------------------------------------------------------------------------------


async def answer(storage: MetricStorage, tenant: str, panel: Panel) -> object:
    """Everything of an answer."""
    text, grid, lookback_ms = panel
    engine = Engine(storage.store, EngineOptions())
    try:
        result = await engine.run(Query(tenant, text, grid, lookback_ms=lookback_ms))
    except PromcompatError as exc:
        return str(exc)
    return answer_bits(result.value), result.warnings, result.infos


async def compare(
    raw: MetricStorage, rolled: MetricStorage, tenant: str, panels: Sequence[Panel]
) -> None:
    for panel in panels:
        assert await answer(rolled, tenant, panel) == await answer(raw, tenant, panel), panel


async def take_step(storage: MetricStorage, tenant: str, clock: Clock, step: Step) -> None:
    match step:
        case Record() | Write():
            points = step.points() if isinstance(step, Record) else step.points
            # Refused only in part: a sample in the head has another value.
            with suppress(WriteRejectedError):
                await storage.store.write_batch(tenant, written({step.series: points}))
        case Correct():
            await correct(storage, tenant, change_of(step))
        case Later(hours):
            clock.now_ms += hours * HOUR_MS
        case KeepDays(days):
            await define(storage, tenant, "x", retention_days=days)
        case Work(name):
            await do_work(storage, clock, name)


async def do_work(storage: MetricStorage, clock: Clock, name: str) -> None:
    assert storage.rollups is not None
    match name:
        case "drain":
            await storage.drains.drainer.drain_all()
        case "merge":
            await storage.drains.compact_step()
        case "roll up a bit":
            await storage.rollups.run(1)
        case "roll up":
            await storage.rollups.run(100)
        case "maintain":
            service = MaintenanceService(storage.maintenance, 1_000, clock)
            assert (await service.run_once()).failures == []


async def play(url: str, story: Sequence[Step], panels: Sequence[Panel]) -> None:
    tenant, clock = f"panels-{next(_TENANTS)}", Clock(NOW_MS)
    options = {"store": StoreKind.BLOCKS, "now_ms": clock, "retention_days": 1_000}
    async with (
        opened_storage(url, **options) as raw,
        opened_storage(url, **options, pushdown=PushdownMode.AUTO) as rolled,
    ):
        # Steps of few series, so that days are rolled up in several.
        assert rolled.rollups is not None
        rolled.rollups.n_series = 1
        for step in story:
            await take_step(rolled, tenant, clock, step)
            # What is asked again and again is kept in memory for as long as it holds.
            await compare(raw, rolled, tenant, panels[:2])
        await compare(raw, rolled, tenant, panels)
        await rolled.rollups.run(1_000)
        await compare(raw, rolled, tenant, panels)
        stats = rolled.drains.stats
        assert (stats.rollups_given_up, rolled.stats.rollups_unreadable) == (0, 0)


@pytest.fixture(autouse=True)
def _few_pages_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rollups of three series come in several answers, by either pool."""
    monkeypatch.setattr(rollup_days, "_MOST_PAGES", 40)
    monkeypatch.setattr(rollup_days, "_FEW_PAGES", 8)


@settings(
    max_examples=examples(10),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=STORIES, panels=PANELS)
def test_panels_of_rollups_are_those_of_the_samples(
    database_url: str, story: list[Step], panels: list[Panel]
) -> None:
    asyncio.run(play(database_url, story, panels))
