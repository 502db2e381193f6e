"""With pushdown and without it, the same answer, bit for bit, on every edition."""

import asyncio
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import PromcompatError
from promcompat.core.model import EvalRange, Labels, WriteBatch
from promql.budget import TOO_MANY_SAMPLES
from promql.engine import Engine, EngineOptions
from promql.query import Query
from promql.values.matrix import Matrix, QueryResult
from sql.pushdown.rule_choice import PushdownMode
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import STALE_NAN, Points, make_batch, make_labels
from tests.support.storage.repositories import drained_rows, opened_storage

pytestmark = [pytest.mark.integration, pytest.mark.rows]

MIDNIGHT = 19_700 * 86_400_000
VALUES = st.sampled_from(
    [
        *(0.0, -0.0, 1.0, 2.0, 3.5, -7.0, 1e300, 5e-324),
        *(float("nan"), STALE_NAN, STALE_NAN, float("inf"), float("-inf")),
    ]
)
SAMPLES = st.dictionaries(st.integers(-400, 400), VALUES, max_size=60)
SELECTORS = st.sampled_from(
    ["x", "x offset 7s", "x offset -40s", "x @ AT", "x @ AT offset -9s", 'x{n="1"}']
)
RANGES = st.sampled_from(["1s", "7s", "20s", "30s", "2m"])
FUNCTIONS = st.sampled_from(
    [
        *("absent_over_time", "avg_over_time", "changes", "count_over_time", "delta", "idelta"),
        *("increase", "irate", "last_over_time", "max_over_time", "min_over_time"),
        *("present_over_time", "rate", "resets", "stddev_over_time", "sum_over_time"),
        "ts_of_last_over_time",
    ]
)
SHELLS = st.sampled_from(
    [
        *("E", "sum(E)", "count by (n) (E)", "timestamp(E)", "E + E", "-E", "topk(1, E)"),
        *("max_over_time((E)[40s:7s])", "last_over_time((E)[9s:20s] offset 3s)", "absent(E)"),
    ]
)


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """A selector or a function of a range, inside of something that looks at other times."""
    selector = draw(SELECTORS)
    at_seconds = MIDNIGHT // 1000 + draw(st.integers(-300, 300))
    selector = selector.replace("AT", str(at_seconds))
    if draw(st.booleans()):
        name, _, modifiers = selector.partition(" ")
        selector = f"{draw(FUNCTIONS)}({name}[{draw(RANGES)}] {modifiers})"
    return draw(SHELLS).replace("E", selector)


@st.composite
def grids(draw: st.DrawFn) -> EvalRange:
    start_ms = MIDNIGHT + draw(st.integers(-300_000, 300_000))
    step_ms = draw(st.sampled_from([1_000, 7_000, 10_000, 30_000, 61_000]))
    return EvalRange(start_ms, start_ms + draw(st.integers(0, 20)) * step_ms, step_ms)


def bits(result: QueryResult) -> object:
    """Everything of an answer, floats by their bits (any NaN as one)."""
    value = result.value
    if not isinstance(value, Matrix):
        return value
    rows = {}
    for labels, row, present in zip(value.labels, value.values, value.present, strict=True):
        shown = np.where(np.isnan(row), np.nan, row)[present]
        rows[labels] = (present.tobytes(), struct.pack(f"{len(shown)}d", *shown))
    return rows, result.warnings, result.infos


async def answer(
    storage: MetricStorage, tenant: str, text: str, grid: EvalRange, instant: bool
) -> object:
    engine = Engine(storage.store, EngineOptions(lookback_delta_ms=25_000))
    try:
        asked = EvalRange.instant(grid.end_ms) if instant else grid
        return bits(await engine.run(Query(tenant, text, asked)))
    except PromcompatError as exc:
        return str(exc)


@dataclass(frozen=True)
class Case:
    """The samples of a few series, by seconds from midnight, and what to ask of them.

    Those of the seconds `undrained` are in the head, the others are rows.
    """

    rows: list[dict[int, float]]
    undrained: range
    queries: list[tuple[str, EvalRange, bool]]


EVERY_SECOND = range(-400, 401)
CUTS = st.integers(EVERY_SECOND.start, EVERY_SECOND.stop)
CASES = st.builds(
    Case,
    st.lists(SAMPLES, min_size=1, max_size=3),
    st.just(range(0))
    | CUTS.map(lambda cut: range(cut, EVERY_SECOND.stop))
    | st.tuples(CUTS, CUTS).map(lambda cuts: range(*cuts)),
    st.lists(st.tuples(expressions(), grids(), st.booleans()), min_size=5, max_size=15),
)


def batch_of(rows: list[dict[int, float]], seconds: Callable[[int], bool]) -> WriteBatch:
    """The samples of the seconds that are asked for."""
    series: dict[Labels, Points] = {
        make_labels("x", n=str(n)): [
            (MIDNIGHT + 1_000 * t, v) for t, v in sorted(row.items()) if seconds(t)
        ]
        for n, row in enumerate(rows)
        if any(map(seconds, row))
    }
    return make_batch(series)


async def compare(url: str, case: Case) -> None:
    tenant = uuid.uuid4().hex
    async with (
        opened_storage(url) as raw,
        opened_storage(url, pushdown=PushdownMode.FORCED) as forced,
    ):
        drained = batch_of(case.rows, lambda second: second not in case.undrained)
        await raw.store.write_batch(tenant, drained)
        await raw.drains.drainer.drain_all()
        undrained = batch_of(case.rows, lambda second: second in case.undrained)
        await raw.store.write_batch(tenant, undrained)
        for text, grid, instant in case.queries:
            expected = await answer(raw, tenant, text, grid, instant)
            assert await answer(forced, tenant, text, grid, instant) == expected, text


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=CASES)
def test_pushdown_changes_no_answer(database_url: str, case: Case) -> None:
    asyncio.run(compare(database_url, case))


async def test_long_range_is_read_by_the_rule_that_saves_time(database_url: str) -> None:
    times = range(0, 4 * 3_600_000, 2_000)
    dense = {
        make_labels("x", n=str(n)): [(MIDNIGHT + t, float(t)) for t in times] for n in range(10)
    }
    grid = EvalRange(MIDNIGHT + 1_800_000, MIDNIGHT + 4 * 3_600_000, 1_800_000)
    async with (
        drained_rows(database_url) as raw,
        drained_rows(database_url, pushdown=PushdownMode.AUTO) as chosen,
    ):
        await raw.store.write_batch("default", make_batch(dense))
        for text, most in (("x", 200), ("rate(x[1m])", 2_500), ("rate(x[1h])", 80_000)):
            before = chosen.stats.samples_selected
            expected = await answer(raw, "default", text, grid, False)
            assert await answer(chosen, "default", text, grid, False) == expected
            fetched = chosen.stats.samples_selected - before
            assert most / 5 < fetched <= most


async def test_partial_results_are_read_where_they_save_time(database_url: str) -> None:
    times = range(0, 4 * 3_600_000, 2_000)
    dense = {
        make_labels("x", n=str(n)): [(MIDNIGHT + t, float(t % 7)) for t in times] for n in range(10)
    }
    # One series is not of whole numbers at first, which nobody looks at, and is read as it is for
    # sums.
    dense[make_labels("x", n="10")] = [
        (MIDNIGHT + t, t / 7 if t < 3 * 3_600_000 else float(t)) for t in times
    ]
    grid = EvalRange(MIDNIGHT + 2 * 3_600_000, MIDNIGHT + 4 * 3_600_000, 1_800_000)
    async with (
        drained_rows(database_url) as raw,
        drained_rows(database_url, pushdown=PushdownMode.AUTO) as chosen,
    ):
        await raw.store.write_batch("default", make_batch(dense))
        for text, most in (("max_over_time(x[1h])", 100), ("avg_over_time(x[1h])", 5_500)):
            before = chosen.stats.samples_selected
            expected = await answer(raw, "default", text, grid, False)
            assert await answer(chosen, "default", text, grid, False) == expected
            assert most / 5 < chosen.stats.samples_selected - before <= most


async def test_increase_over_more_samples_than_a_query_may_read_is_answered(
    database_url: str,
) -> None:
    times = range(0, 4 * 3_600_000, 1_000)
    points = [(MIDNIGHT + t, float(t % 1_000_000)) for t in times]
    counters = {make_labels("x_total", n=str(n)): points for n in range(6)}
    grid = EvalRange(MIDNIGHT, MIDNIGHT + 4 * 3_600_000, 1_800_000)
    async with (
        drained_rows(database_url) as raw,
        drained_rows(database_url, pushdown=PushdownMode.AUTO, max_samples=80_000) as limited,
    ):
        await raw.store.write_batch("default", make_batch(counters))
        text = "increase(x_total[4h])"
        expected = await answer(raw, "default", text, grid, True)
        assert await answer(limited, "default", text, grid, True) == expected
        refused = await answer(
            limited, "default", "quantile_over_time(0.5, x_total[4h])", grid, True
        )
        assert refused == TOO_MANY_SAMPLES
