"""What stands for the samples of buckets: sums that no order of adding changes, and pages of it."""

import math
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.model import SelectHints, SeriesSelection
from sql.samples.columns.series_samples import SeriesSamples, joined_samples
from sql.samples.reading.rollups.choice import RollupUse, Stand, judge_rollups
from sql.samples.reading.rollups.reader import _inexact_series, _joined
from sql.samples.reading.rollups.rolled_samples import rolled_samples
from sql.samples.rollups import rollup_pages
from sql.samples.rollups.outlived import Deleted, Outlived, counted
from sql.samples.rollups.rollup_pages import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    LEVELS,
    PAYLOADS,
    Column,
    decoded,
    rolled_up,
    rollup_rows,
)
from sql.times import MS_PER_DAY
from tests.support.storage.sample_columns import series_samples

START_MS: Final = 19_712 * MS_PER_DAY
FLOATS = st.floats(-1e6, 1e6) | st.sampled_from([0.1, -0.1, 1e16, 1.0, 1e-9, 0.0])


def selection(start_ms: int, end_ms: int, **hints: object) -> SeriesSelection:
    hints.setdefault("reach_ms", hints.get("range_ms", 300_000))
    return SeriesSelection(
        matchers=(), start_ms=start_ms, end_ms=end_ms, hints=SelectHints(**hints)
    )


def sum_and_compensation(values: list[float]) -> tuple[float, float]:
    """The sum of a window and what it lost by rounding, as Prometheus computes them."""
    total = lost = 0.0
    for x in values:
        new = total + x
        lost += (total - new) + x if abs(total) >= abs(x) else (x - new) + total
        total = new
    return total, lost


def compensated_sum(values: list[float]) -> float:
    """The sum of a window as Prometheus computes it."""
    return sum(sum_and_compensation(values))


def mean(values: list[float]) -> float:
    """The mean of a window as Prometheus computes it, as long as nothing overflows."""
    total, lost = sum_and_compensation(values)
    return total / len(values) + lost / len(values)


@given(values=st.lists(FLOATS, min_size=1, max_size=200))
def test_sums_that_are_certain_do_not_depend_on_rollups(values: list[float]) -> None:
    times = START_MS + 7 + np.arange(len(values)) * 60_000
    samples = SeriesSamples(
        np.array([5]), np.array([0, len(values)]), times, np.array(values, np.float64)
    )
    question = selection(
        START_MS, START_MS + MS_PER_DAY, range_ms=MS_PER_DAY, function="sum_over_time"
    )
    found = judge_rollups(question).use
    assert found is not None
    use = RollupUse(HOUR, Stand.SUM, found.grid)
    rolled = rolled_samples(rolled_up(samples, HOUR), use)
    inexact = _inexact_series(rolled, use)
    if not len(inexact):
        assert compensated_sum(rolled.samples.values.tolist()) == compensated_sum(values)
    assert rolled.samples.counts is not None
    assert rolled.samples.counts.sum() == len(values)


def test_sums_of_random_numbers_are_certain_and_those_that_cancel_are_not() -> None:
    random = np.random.default_rng(1).random(1_440)
    times = START_MS + 7 + np.arange(1_440) * 60_000
    cancelling = np.where(np.arange(1_440) < 720, random, -np.roll(random, 720))
    samples = SeriesSamples(
        np.array([1, 2]),
        np.array([0, 1_440, 2_880]),
        np.tile(times, 2),
        np.concatenate([random, cancelling]),
    )
    use = judge_rollups(
        selection(START_MS, START_MS + MS_PER_DAY, range_ms=MS_PER_DAY, function="sum_over_time")
    ).use
    assert use is not None
    assert use.level is DAY
    inexact = _inexact_series(rolled_samples(rolled_up(samples, FIVE_MINUTES), use), use)
    assert inexact.tolist() == [2]


WHOLE_AND_PARTS = st.integers(-(2**40), 2**40).flatmap(
    lambda number: st.integers(-30, 30).map(lambda exponent: math.ldexp(number, exponent))
)


@given(values=st.lists(FLOATS | WHOLE_AND_PARTS | st.integers(0, 9).map(float), min_size=1))
def test_means_that_are_certain_are_those_of_prometheus(values: list[float]) -> None:
    times = START_MS + 7 + np.arange(len(values)) * 60_000
    samples = SeriesSamples(
        np.array([5]), np.array([0, len(values)]), times, np.array(values, np.float64)
    )
    use = judge_rollups(
        selection(START_MS, START_MS + MS_PER_DAY, range_ms=MS_PER_DAY, function="avg_over_time")
    ).use
    assert use is not None
    rolled = rolled_samples(rolled_up(samples, HOUR), use)
    if not len(_inexact_series(rolled, use)):
        assert rolled.samples.values.sum() / len(values) == mean(values)


@pytest.mark.parametrize(
    ("values", "is_certain"),
    [
        ([0.0, -0.0], True),
        ([1.0, 2.0, 4.0], True),
        ([0.25, -1024.5], True),
        ([0.1, 0.2], False),
        ([2.0**53, 1.0], False),
        ([5e-324, 1.0], False),
        ([1.0, math.nan], False),
        ([1e308, 1e308], False),
    ],
)
def test_means_are_certain_where_nothing_is_rounded(values: list[float], is_certain: bool) -> None:
    """Each hour has a value twice, and is rolled up; the same values are read raw of others."""
    times = START_MS + 7 + np.arange(len(values)) * 3_600_000
    samples = SeriesSamples(np.array([5]), np.array([0, len(values)]), times, np.array(values))
    use = judge_rollups(
        selection(START_MS, START_MS + MS_PER_DAY, range_ms=MS_PER_DAY, function="avg_over_time")
    ).use
    assert use is not None
    doubled = joined_samples([samples, replace(samples, timestamps=times + 60_000)])
    rolled = rolled_samples(rolled_up(doubled, HOUR), use)
    raw = replace(samples, timestamps=times + 9 * 3_600_000)
    for joined in (rolled, _joined(rolled, [raw])):
        assert (not len(_inexact_series(joined, use))) == is_certain


def stored_samples() -> st.SearchStrategy[SeriesSamples]:
    """Samples with ids as a database gives them."""
    return series_samples(max_series=4, max_samples=60).map(
        lambda samples: replace(samples, ids=np.arange(1, len(samples.ids) + 1))
    )


@settings(max_examples=30)
@given(samples=stored_samples())
def test_columns_are_read_back_from_their_rows(samples: SeriesSamples) -> None:
    for level in LEVELS:
        columns = rolled_up(samples, level)
        rows = rollup_rows(columns, level)
        for number, names in enumerate(PAYLOADS.values()):
            payloads = [row.payloads[number] for row in rows]
            found = decoded(payloads, samples.ids, names, level, EVER)
            for name in names:
                assert_equal(found[name], columns[name])


EVER = -(1 << 22), 1 << 22


def test_samples_at_the_starts_of_buckets_are_read_from_pages_of_any_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = START_MS + np.arange(-600, 600) * 60_000
    numbers = np.arange(1_200) * 7.25
    samples = SeriesSamples(np.array([5]), np.array([0, len(times)]), times, numbers)
    columns = rolled_up(samples, FIVE_MINUTES)
    rows = rollup_rows(columns, FIVE_MINUTES)
    monkeypatch.setattr(rollup_pages, "_to_middle", lambda column, _width_ms: column)
    earlier = rollup_rows(columns, FIVE_MINUTES)
    names = PAYLOADS["sums"]
    for some in (rows, earlier, [rows[0], *earlier[1:]]):
        payloads = [row.payloads[2] for row in some]
        found = decoded(payloads, samples.ids, names, FIVE_MINUTES, EVER)
        for name in names:
            assert_equal(found[name], columns[name])
    lengths = [sum(len(row.payloads[2]) for row in some) for some in (rows, earlier)]
    assert lengths[0] < 0.8 * lengths[1]


@settings(max_examples=30)
@given(samples=stored_samples(), days=st.sets(st.integers(19_000, 20_000), max_size=3))
def test_days_are_replaced_by_what_is_new(samples: SeriesSamples, days: set[int]) -> None:
    present = np.unique(samples.timestamps // MS_PER_DAY)
    again = np.array(sorted({*days, int(present[0])}), np.int64)
    columns = rolled_up(samples, HOUR)
    is_again = np.isin(samples.timestamps // MS_PER_DAY, again)
    nothing_stays = Outlived(samples.ids, again, np.zeros((len(samples.ids), len(again)), np.bool_))
    changed = nothing_stays.merged(columns, rolled_up(samples.where(is_again), HOUR), HOUR)
    for name in Column:
        assert_equal(changed[name], columns[name])


@settings(max_examples=30)
@given(samples=stored_samples(), there=st.data())
def test_what_is_gone_keeps_its_rollups_but_for_deleted_buckets(
    samples: SeriesSamples, there: st.DataObject
) -> None:
    days = np.unique(samples.timestamps // MS_PER_DAY)
    is_there = np.array(
        there.draw(st.lists(st.booleans(), min_size=len(samples), max_size=len(samples)))
    )
    left = samples.where(is_there)
    old, new = rolled_up(samples, HOUR), rolled_up(left, HOUR)
    first_ms = int(there.draw(st.sampled_from(samples.timestamps.tolist())))
    last_ms = there.draw(
        st.integers(first_ms, first_ms // MS_PER_DAY * MS_PER_DAY + MS_PER_DAY - 1)
    )
    series = int(samples.ids[0])
    deletion = Deleted(series, series, first_ms, last_ms)
    counts = counted(old, samples.ids, days), counted(new, samples.ids, days)
    # All of these days are past the retention.
    first_whole = np.full(len(samples.ids), days[-1] + 1)
    outlived = Outlived.of(counts, first_whole, samples.ids, days, [deletion])
    found = outlived.merged(old, new, HOUR)
    ids = np.repeat(old[Column.SUM].ids, np.diff(old[Column.SUM].offsets))
    hours = old[Column.SUM].timestamps // HOUR.width_ms
    first_hour, last_hour = first_ms // HOUR.width_ms, last_ms // HOUR.width_ms
    is_gone = (ids == series) & (hours >= first_hour) & (hours <= last_hour)
    # A day of a series that had nothing but stale markers has no sum, and is computed.
    has_sum = np.isin(
        ids * 100_000 + hours // 24, (ids * 100_000 + hours // 24)[old[Column.COUNT].values > 0]
    )
    expected = old[Column.SUM].where(~is_gone & has_sum)
    got = found[Column.SUM].where(_in_rows(found[Column.SUM], expected))
    assert_equal(got, expected)
    removed = zip(*(part.tolist() for part in outlived.left_hours()), strict=True)
    assert {hour for one, hour in removed if one == series} <= set(range(first_hour, last_hour + 1))


def _in_rows(samples: SeriesSamples, wanted: SeriesSamples) -> np.ndarray:
    """Which samples have a series and time that `wanted` has."""

    def keys(one: SeriesSamples) -> list[tuple[int, int]]:
        ids = np.repeat(one.ids, np.diff(one.offsets))
        return list(zip(ids.tolist(), one.timestamps.tolist(), strict=True))

    known = set(keys(wanted))
    return np.array([key in known for key in keys(samples)], np.bool_)


def assert_equal(found: SeriesSamples, expected: SeriesSamples) -> None:
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.offsets.tolist() == expected.offsets.tolist()
    assert found.timestamps.tolist() == expected.timestamps.tolist()
    assert found.values.view(np.int64).tolist() == expected.values.view(np.int64).tolist()


def test_the_widest_buckets_that_windows_are_made_of_are_read() -> None:
    def level(start_ms: int, **hints: object) -> object:
        use = judge_rollups(selection(start_ms, START_MS + 7 * MS_PER_DAY, **hints)).use
        return None if use is None else use.level

    assert level(START_MS, range_ms=MS_PER_DAY, step_ms=MS_PER_DAY, function="rate") is DAY
    assert level(START_MS, range_ms=MS_PER_DAY, step_ms=3_600_000, function="rate") is HOUR
    assert level(START_MS - 1, range_ms=3_600_000, step_ms=3_600_000, function="delta") is HOUR
    assert level(START_MS, range_ms=300_000, step_ms=3_600_000, function="increase") is FIVE_MINUTES
    assert level(START_MS, step_ms=3_600_000) is FIVE_MINUTES
    assert level(START_MS + 1, step_ms=3_600_000) is None
    assert level(START_MS, range_ms=420_000, step_ms=3_600_000, function="rate") is None
    assert level(START_MS, range_ms=3_600_000, step_ms=3_600_000, function="deriv") is None
    assert level(START_MS, range_ms=3_600_000, reach_ms=0, function="rate") is None
