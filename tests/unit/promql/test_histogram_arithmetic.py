"""Sums, differences, averages and comparisons of native histograms."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promql.histograms.arithmetic import (
    add,
    are_equal,
    average,
    compact,
    divide,
    scale,
    subtract,
    total,
    were_reset,
)
from promql.values.histogram_columns import (
    GAUGE,
    NO_RESET,
    RESET,
    UNKNOWN,
    Buckets,
    HistogramColumns,
)
from tests.support.histograms import histogram

Fields = dict[str, object]


def buckets_of(buckets: Buckets, row: int = 0) -> dict[int, float]:
    own = slice(buckets.offsets[row], buckets.offsets[row + 1])
    return dict(zip(buckets.indices[own].tolist(), buckets.counts[own].tolist(), strict=True))


def fields(columns: HistogramColumns, row: int = 0) -> Fields:
    place = int(columns.bounds[row])
    return {
        "schema": int(columns.schemas[row]),
        "count": float(columns.counts[row]),
        "total": float(columns.sums[row]),
        "zero": (float(columns.zero_thresholds[row]), float(columns.zero_counts[row])),
        "positive": buckets_of(columns.positive, row),
        "negative": buckets_of(columns.negative, row),
        "bounds": columns.bound_sets[place] if place >= 0 else None,
    }


def join(parts: Sequence[HistogramColumns]) -> HistogramColumns:
    return HistogramColumns.joined(parts)


def of_all(columns: HistogramColumns) -> tuple[np.ndarray, np.ndarray]:
    """The terms of one result that has all rows."""
    return np.array([0, len(columns)]), np.arange(len(columns))


side = st.dictionaries(st.integers(-40, 40), st.integers(0, 9), max_size=8)


@st.composite
def exponential(draw: st.DrawFn) -> HistogramColumns:
    """Without a zero bucket's threshold."""
    positive, negative = sorted(draw(side).items()), sorted(draw(side).items())
    zero = draw(st.integers(0, 5))
    return histogram(
        draw(st.integers(-4, 8)),
        count=zero + sum(count for _, count in positive + negative),
        total=draw(st.integers(-9, 9)),
        positive=positive,
        negative=negative,
        zero=(0, zero),
    )


@given(exponential(), st.lists(st.integers(0, 9), min_size=20, max_size=20), st.integers(0, 2))
def test_one_layout_gives_what_reconciled_layouts_give(
    one: HistogramColumns, numbers: list[int], width: int
) -> None:
    """Terms of one layout are added as they are; an empty bucket more, and they are merged."""

    def with_counts(counts: list[int], *more: int) -> HistogramColumns:
        sides = ([int(i) for i in side.indices] for side in (one.positive, one.negative))
        positive, negative = (
            [(index, counts[at]) for at, index in enumerate(indices)] for indices in sides
        )
        return histogram(
            int(one.schemas[0]),
            count=sum(counts),
            total=0.1 * counts[0],
            positive=positive + [(index, 0) for index in more],
            negative=negative,
            zero=(2.0**-width, counts[1]),
        )

    left, right = with_counts(numbers[:10]), with_counts(numbers[10:])
    wider = with_counts(numbers[10:], 1000)
    for combine in (add, subtract):
        found, merged = combine(left, right).histograms, combine(left, wider).histograms
        assert are_equal(join([found, merged]), np.array([0]), np.array([1])).all()
    terms = join([left, right, left])
    offsets, rows = of_all(terms)
    found, merged = (
        total(join([left, term, left]), offsets, rows).histograms for term in (right, wider)
    )
    assert are_equal(join([found, merged]), np.array([0]), np.array([1])).all()
    pair = join([left, right, wider])
    first, second = were_reset(pair, np.array([1, 2]), np.array([0, 0]))
    assert first == second


def reduced(buckets: dict[int, float], shift: int) -> dict[int, float]:
    merged: dict[int, float] = {}
    for index, count in buckets.items():
        target = ((index - 1) >> shift) + 1
        merged[target] = merged.get(target, 0) + count
    return merged


@given(st.lists(exponential(), min_size=1, max_size=5))
def test_a_sum_has_the_least_schema_and_the_buckets_of_all_terms(
    terms: list[HistogramColumns],
) -> None:
    result = total(join(terms), *of_all(join(terms))).histograms
    schema = min(int(term.schemas[0]) for term in terms)
    expected: dict[str, dict[int, float]] = {"positive": {}, "negative": {}}
    for term in terms:
        for name, merged in expected.items():
            shift = int(term.schemas[0]) - schema
            for index, count in reduced(buckets_of(getattr(term, name)), shift).items():
                merged[index] = merged.get(index, 0) + count
    populated = {
        name: {index: merged[index] for index in sorted(merged) if merged[index]}
        for name, merged in expected.items()
    }
    found = fields(result)
    assert found["schema"] == schema
    assert {name: found[name] for name in populated} == populated
    assert found["count"] == sum(float(term.counts[0]) for term in terms)
    assert found["zero"] == (0, sum(float(term.zero_counts[0]) for term in terms))


@given(exponential(), exponential())
def test_what_is_added_can_be_subtracted(left: HistogramColumns, right: HistogramColumns) -> None:
    both = add(left, right).histograms
    rest = subtract(both, right).histograms
    assert rest.hints.tolist() == [GAUGE]
    known = compact(add(left, scale(right, np.zeros(1))).histograms)
    assert fields(rest) == fields(known)


def test_compensation_keeps_what_a_plain_sum_loses() -> None:
    parts = [
        histogram(count=x, total=x, positive=[(1, x)], zero=(0, x)) for x in (1e100, 1, -1e100, 1)
    ]
    joined = join(parts)
    result = fields(total(joined, *of_all(joined)).histograms)
    assert result["count"] == result["total"] == 2
    assert result["positive"] == {1: 2}
    assert result["zero"] == (0, 2)
    assert fields(average(joined, *of_all(joined)).histograms)["positive"] == {1: 0.5}


def test_an_average_survives_a_sum_that_overflows() -> None:
    large = 1.5e308
    parts = [histogram(count=large, total=large, positive=[(3, large)], zero=(0, 8))] * 3
    result = fields(average(join(parts), *of_all(join(parts))).histograms)
    assert result["count"] == result["total"] == pytest.approx(large)
    assert result["positive"] == {3: pytest.approx(large)}
    assert result["zero"] == (0, pytest.approx(8))


def test_a_zero_bucket_widens_to_the_bounds_of_populated_buckets() -> None:
    # Bucket 1 of schema 0 is (1, 2], so the threshold 1.5 of the other moves to 2; on the negative
    # side bucket 2, which is [-4, -2), stays.
    left = histogram(positive=[(0, 1), (1, 2), (2, 3)], negative=[(1, 5), (2, 4)], zero=(0.1, 1))
    right = histogram(positive=[(2, 10), (3, 20)], zero=(1.5, 7))
    for one, other in ((left, right), (right, left)):
        result = fields(add(one, other).histograms)
        assert result["zero"] == (2, 1 + 1 + 2 + 5 + 7)
        assert result["positive"] == {2: 13, 3: 20}
        assert result["negative"] == {2: 4}


def test_a_threshold_inside_an_empty_bucket_stays() -> None:
    left = histogram(positive=[(1, 0), (2, 3)], zero=(0, 1))
    result = fields(add(left, histogram(zero=(1.5, 1))).histograms)
    assert result["zero"] == (1.5, 2)
    assert result["positive"] == {2: 3}


def test_custom_bounds_become_those_that_both_have() -> None:
    left = histogram(positive=[(0, 1), (1, 2), (2, 4)], bounds=[1, 2])
    right = histogram(positive=[(0, 10), (1, 20), (3, 40)], bounds=[0.5, 1, 3])
    added = add(left, right)
    assert added.was_reconciled.tolist() == [True]
    assert fields(added.histograms)["bounds"] == (1,)
    assert fields(added.histograms)["positive"] == {0: 31, 1: 46}
    less = subtract(left, right)
    assert less.was_reconciled.tolist() == [True]
    assert less.reconciled_additions.tolist() == [False]
    assert fields(less.histograms)["positive"] == {0: -29, 1: -34}
    nothing_shared = add(left, histogram(positive=[(0, 5)], bounds=[7])).histograms
    assert fields(nothing_shared)["bounds"] == ()
    assert fields(nothing_shared)["positive"] == {0: 12}


def test_buckets_of_reconciled_bounds_are_added_one_after_the_other() -> None:
    left = histogram(positive=[(0, 4), (1, 0.1)], bounds=[1, 2])
    right = histogram(positive=[(1, 0.2), (2, 0.3)], bounds=[1, 3])
    added = add(left, right).histograms
    # As in Prometheus; `0.1 + (0.2 + 0.3)` is 0.6.
    assert fields(added)["positive"] == {0: 4.0, 1: (0.1 + 0.2) + 0.3}


def test_equal_bounds_are_not_reconciled() -> None:
    left = histogram(positive=[(0, 1)], bounds=[1, 2])
    added = add(left, histogram(positive=[(2, 1)], bounds=[1, 2]))
    assert added.was_reconciled.tolist() == [False]
    assert fields(added.histograms)["positive"] == {0: 1, 2: 1}
    assert fields(added.histograms)["bounds"] == (1, 2)


def test_exponential_and_custom_buckets_have_no_sum() -> None:
    left = join([histogram(positive=[(0, 1)]), histogram(positive=[(0, 2)])])
    right = join([histogram(positive=[(0, 1)], bounds=[1]), histogram(positive=[(0, 3)])])
    added = add(left, right)
    assert added.is_mixed.tolist() == [True, False]
    assert buckets_of(added.histograms.positive, 0) == {}
    assert buckets_of(added.histograms.positive, 1) == {0: 5}


@pytest.mark.parametrize(
    ("hints", "hint", "collides"),
    [
        ((RESET, RESET), RESET, False),
        ((NO_RESET, GAUGE), GAUGE, False),
        ((NO_RESET, UNKNOWN), UNKNOWN, False),
        ((NO_RESET, RESET), UNKNOWN, True),
    ],
)
def test_hints_of_a_sum(hints: tuple[int, int], hint: int, collides: bool) -> None:
    left, right = (histogram(hint=one) for one in hints)
    added = add(left, right)
    assert added.histograms.hints.tolist() == [hint]
    assert added.has_collision.tolist() == [collides]


def test_a_factor_scales_everything_and_a_negative_one_makes_gauges() -> None:
    columns = histogram(count=3, total=4, positive=[(1, 2)], negative=[(1, 1)], zero=(0.5, 6))
    result = scale(columns, np.array([-2.0]))
    assert result.hints.tolist() == [GAUGE]
    assert fields(result) == fields(columns) | {
        "count": -6,
        "total": -8,
        "positive": {1: -4},
        "negative": {1: -2},
        "zero": (0.5, -12),
    }


def test_division_by_zero_leaves_no_buckets() -> None:
    columns = join([histogram(count=3, positive=[(1, 3)])] * 2)
    result = divide(columns, np.array([0.0, 2.0]))
    assert result.counts.tolist() == [np.inf, 1.5]
    assert np.isnan(result.sums[0])
    assert buckets_of(result.positive, 0) == {}
    assert buckets_of(result.positive, 1) == {1: 1.5}


def test_equality_is_to_the_bit_and_ignores_hints() -> None:
    one = histogram(count=1, total=np.nan, positive=[(1, 1)], hint=RESET)
    others = [
        histogram(count=1, total=np.nan, positive=[(1, 1)]),
        histogram(count=1, total=np.nan, positive=[(2, 1)]),
        histogram(count=1, total=np.nan, positive=[(1, 1), (2, 1)]),
        histogram(count=1, total=1, positive=[(1, 1)]),
        histogram(count=1, total=np.nan, positive=[(1, 1)], bounds=[3]),
        histogram(count=1, total=np.nan, positive=[(1, 1)], zero=(1, 0)),
    ]
    equal = are_equal(join([one, *others]), np.zeros(6, np.int64), np.arange(1, 7))
    assert equal.tolist() == [True] + 5 * [False]


OLD = {"count": 9, "positive": [(1, 3), (2, 4)], "negative": [(1, 1)], "zero": (0.1, 1)}


@pytest.mark.parametrize(
    ("changes", "is_reset"),
    [
        ({}, False),
        ({"total": -100}, False),
        ({"hint": RESET, "count": 100}, True),
        ({"hint": NO_RESET, "count": 0}, False),
        ({"hint": GAUGE, "count": 8}, True),
        ({"count": 8}, True),
        ({"schema": 1}, True),
        ({"schema": -1, "positive": [(1, 7)]}, False),
        ({"schema": -1, "positive": [(1, 6)]}, True),
        ({"positive": [(1, 3)]}, True),
        ({"positive": [(0, 1), (1, 3), (2, 5)]}, False),
        ({"negative": []}, True),
        ({"zero": (0.05, 1)}, True),
        ({"zero": (0.1, 0)}, True),
        ({"zero": (0.5, 1)}, False),
        # The threshold is inside of the populated (1, 2].
        ({"zero": (1.5, 9)}, True),
        # It is at the bound, with all that is below it, or with less.
        ({"zero": (2, 5), "positive": [(2, 4)], "negative": []}, False),
        ({"zero": (2, 4), "positive": [(2, 4)], "negative": []}, True),
        ({"bounds": [1, 2], "negative": [], "zero": (0, 0)}, True),
    ],
)
def test_counter_resets(changes: dict[str, object], is_reset: bool) -> None:
    pair = join([histogram(**OLD), histogram(**(OLD | changes))])  # type: ignore[arg-type]
    assert were_reset(pair, np.array([1]), np.array([0])).tolist() == [is_reset]


def test_counter_resets_of_custom_buckets_compare_between_shared_bounds() -> None:
    old = histogram(positive=[(0, 1), (1, 2), (2, 3)], bounds=[1, 2])
    more = histogram(positive=[(0, 3), (1, 3)], bounds=[2])
    fewer = histogram(positive=[(0, 2), (1, 9)], bounds=[2])
    same = histogram(positive=[(0, 1), (1, 2), (2, 2)], bounds=[1, 2])
    columns = join([old, more, fewer, same])
    resets = were_reset(columns, np.array([1, 2, 3]), np.zeros(3, np.int64))
    assert resets.tolist() == [False, True, True]


def test_a_histogram_counts_as_many_samples() -> None:
    columns = join(
        [
            histogram(),
            histogram(positive=[(1, 1), (2, 1), (4, 1)], negative=[(3, 1)]),
            histogram(positive=[(0, 1)], bounds=[1, 2, 3]),
            histogram(positive=[(0, 1)]),
        ]
    )
    assert columns.n_samples_like().tolist() == [
        11,
        (176 + 8 * (3 + 4)) // 16,
        (176 + 8 * (1 + 1 + 3)) // 16,
        (176 + 8 * 2) // 16,
    ]
