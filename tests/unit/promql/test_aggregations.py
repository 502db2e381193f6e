"""Aggregations against a plain loop over steps and members, and where floats are delicate."""

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import ExecutionError
from promql.aggregation.aggregations import aggregate
from promql.ast import AggregateExpr, PositionRange
from promql.values.matrix import Annotations, Matrix
from tests.support.factories import make_labels
from tests.unit.promql.queries import Series, rows, run, run_range, steps, vector
from tests.unit.promql.test_range_functions_match_reference import (
    average,
    extreme,
    quantile,
    same,
    total_of,
)

POS = PositionRange(0, 0)


def series(*members: Sequence[float | None]) -> Series:
    return {make_labels("m", n=f"{n:04}"): steps(values) for n, values in enumerate(members)}


async def instant(text: str, *values: float) -> float:
    ((_, value),) = vector(await run(text, series(*([value] for value in values))))
    return value


@pytest.mark.parametrize(
    ("op", "values", "expected"),
    [
        ("sum", [1e100, 1.0, -1e100], 1.0),
        ("sum", [-0.0], 0.0),
        ("sum", [math.inf, 1.0], math.inf),
        ("sum", [math.inf, -math.inf], math.nan),
        ("sum", [1e308, 1e308], math.inf),
        ("avg", [1e308, 1e308, 1e308], 1e308),
        ("avg", [1e308, -1e308, 3.0], 1.0),
        ("avg", [math.inf], math.inf),
        ("avg", [math.inf, 5.0], math.inf),
        ("avg", [math.inf, -math.inf], math.nan),
        ("avg", [1.0, math.nan], math.nan),
        ("min", [math.nan, 2.0, 1.0], 1.0),
        ("max", [math.nan, 2.0, 1.0], 2.0),
        ("max", [math.nan, math.nan], math.nan),
        ("count", [math.nan, 2.0], 2.0),
        ("group", [5.0, 2.0], 1.0),
        ("stdvar", [1.0, 2.0, 3.0, 4.0], 1.25),
        ("stddev", [1.33, 1.33, 1.33], 0.0),
        ("stdvar", [math.inf], math.nan),
        ("stdvar", [1.0, math.inf], math.nan),
    ],
)
async def test_aggregation(op: str, values: list[float], expected: float) -> None:
    assert await instant(f"{op}(m)", *values) == pytest.approx(expected, nan_ok=True, rel=1e-15)


@pytest.mark.parametrize(
    ("op", "values", "is_negative"),
    [
        ("min", [0.0, -0.0], False),
        ("min", [-0.0, 0.0], True),
        ("max", [0.0, -0.0], False),
        ("max", [-0.0, 0.0], True),
        ("min", [5.0, -0.0, 0.0], True),
    ],
)
async def test_first_of_equal_zeros_stays(op: str, values: list[float], is_negative: bool) -> None:
    assert np.signbit(await instant(f"{op}(m)", *values)) == is_negative


@pytest.mark.parametrize(
    ("quantile", "values", "expected"),
    [
        ("0.5", [1.0, 2.0, 4.0], 2.0),
        ("0.9", [0.0, 10.0], 9.0),
        ("0", [3.0, 1.0], 1.0),
        ("1", [3.0, 1.0], 3.0),
        ("0", [3.0, math.nan], math.nan),
        ("1", [3.0, math.nan], 3.0),
        ("0.5", [math.nan, 1.0, 2.0], 1.0),
        ("-0.1", [1.0], -math.inf),
        ("1.1", [1.0], math.inf),
        ("NaN", [1.0], math.nan),
    ],
)
async def test_quantile(quantile: str, values: list[float], expected: float) -> None:
    value = await instant(f"quantile({quantile}, m)", *values)
    assert value == pytest.approx(expected, nan_ok=True)


async def test_quantile_out_of_range_warns() -> None:
    result = await run_range(
        "quantile(scalar(q), m)",
        {make_labels("q"): steps([2.0, -1.0, 0.5]), make_labels("m"): steps([1.0, 1.0, 1.0])},
        3,
    )
    assert result.warnings == (
        "PromQL warning: quantile value should be between 0 and 1, got 2 (1:10)",
        "PromQL warning: quantile value should be between 0 and 1, got -1 (1:10)",
    )
    assert rows(result) == [("{}", [math.inf, -math.inf, 1.0])]


@pytest.mark.parametrize(
    ("quantiles", "got"),
    [
        ([math.nan, math.inf, 0.5, -math.inf], ["NaN", "+Inf", "-Inf"]),
        ([math.inf, math.nan], ["NaN", "+Inf"]),
        ([2.0, math.nan, -1.0], ["NaN"]),
    ],
)
async def test_infinite_quantiles_are_named_beside_nan(
    quantiles: list[float], got: list[str]
) -> None:
    series = {make_labels("q"): steps(quantiles), make_labels("m"): steps([1.0] * len(quantiles))}
    result = await run_range("quantile(scalar(q), m)", series, len(quantiles))
    text = "PromQL warning: quantile value should be between 0 and 1, got"
    assert result.warnings == tuple(f"{text} {each} (1:10)" for each in got)


async def test_groups_come_in_the_order_they_are_met() -> None:
    data = {
        make_labels("m", n="1", g="b"): steps([1.0]),
        make_labels("m", n="2", g="a"): steps([2.0]),
    }
    assert vector(await run("sum by (g) (sort(m))", data)) == [('{g="b"}', 1.0), ('{g="a"}', 2.0)]


async def test_without_drops_the_metric_name_and_by_may_keep_it() -> None:
    data = {make_labels("m", a="1", b="2"): steps([3.0])}
    assert vector(await run("sum without (a) (m)", data)) == [('{b="2"}', 3.0)]
    assert vector(await run("sum by (__name__, a) (m)", data)) == [('{__name__="m", a="1"}', 3.0)]
    assert vector(await run("sum by (missing) (m)", data)) == [("{}", 3.0)]


async def test_group_is_present_only_where_a_member_is() -> None:
    result = await run_range(
        "sum(m)", series([1.0, None, 3.0], [None, None, 4.0]), 3, lookback_delta_ms=1
    )
    assert rows(result) == [("{}", [1.0, None, 7.0])]


async def test_count_values() -> None:
    data = series([6.0], [6.0], [8.5], [math.nan], [math.nan], [-0.0], [1e21])
    result = await run('count_values("v", m)', data)
    assert sorted(vector(result)) == [
        ('{v="-0"}', 1.0),
        ('{v="1000000000000000000000"}', 1.0),
        ('{v="6"}', 2.0),
        ('{v="8.5"}', 1.0),
        ('{v="NaN"}', 2.0),
    ]


async def test_count_values_overrides_a_label_of_that_name() -> None:
    data = {
        make_labels("m", v="x", g="1"): steps([1.0]),
        make_labels("m", v="y", g="1"): steps([1.0]),
    }
    assert vector(await run('count_values without () ("v", m)', data)) == [('{g="1", v="1"}', 2.0)]
    assert vector(await run('count_values by (g) ("g", m)', data)) == [('{g="1"}', 2.0)]


@pytest.mark.parametrize("label", ["v", "g", "n", "__name__"])
@pytest.mark.parametrize(
    "clause",
    [
        "",
        "by ()",
        "by (g)",
        "by (g, v)",
        "by (__name__)",
        "without ()",
        "without (g)",
        "without (n)",
        "without (g, n, v)",
    ],
)
async def test_count_values_counts_after_the_label_is_set(label: str, clause: str) -> None:
    """As Prometheus does: the value is set in each member's labels, which are then grouped."""
    members = [make_labels("m", n=f"{n}", g=f"{n % 2}") for n in range(6)]
    values = dict(zip(members, [1.0, 1.0, 2.5, 1.0, 2.5, 2.5], strict=True))
    names = frozenset(clause.partition("(")[2].rstrip(")").replace(",", " ").split())
    expected: dict[str, float] = {}
    for labels, value in sorted(values.items()):
        changed = labels.with_label(label, f"{value:g}")
        if clause.startswith("without"):
            key = str(changed.without({*names, "__name__"}))
        else:
            key = str(changed.only({*names, label}))
        expected[key] = expected.get(key, 0.0) + 1.0
    data = {labels: steps([value]) for labels, value in values.items()}
    result = await run(f'count_values {clause} ("{label}", m)', data)
    assert vector(result) == list(expected.items())


async def test_count_values_over_steps() -> None:
    result = await run_range('count_values("v", m)', series([1.0, 2.0], [1.0, 1.0]), 2)
    assert rows(result) == [('{v="1"}', [2.0, 1.0]), ('{v="2"}', [None, 1.0])]


async def test_count_values_needs_a_usable_label_name() -> None:
    with pytest.raises(ExecutionError, match=r'^invalid label name "a\\xc5z"$'):
        await run('count_values("a\\xc5z", m)', series([1.0]))


GROUPED = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.none() | st.integers(-4, 4), min_size=3, max_size=3)),
    min_size=1,
    max_size=12,
)
REFERENCE: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "avg": lambda xs: sum(xs) / len(xs),
    "min": min,
    "max": max,
    "count": len,
    "stdvar": lambda xs: sum((x - sum(xs) / len(xs)) ** 2 for x in xs) / len(xs),
}


@given(st.sampled_from(sorted(REFERENCE)), GROUPED)
def test_folds_agree_with_a_loop(op: str, members: list[tuple[int, list[int | None]]]) -> None:
    labels = [make_labels("m", g=str(g), n=str(n)) for n, (g, _) in enumerate(members)]
    values = np.array([[float(v or 0) for v in row] for _, row in members])
    present = np.array([[v is not None for v in row] for _, row in members])
    matrix = Matrix.of(labels, values, present)
    expr = AggregateExpr(op, None, None, ("g",), False, POS)  # type: ignore[arg-type]
    result = aggregate(expr, matrix, None, Annotations())
    for row, group in enumerate(result.labels):
        for step in range(3):
            xs = [
                float(v[step])
                for g, v in members
                if str(g) == group.get("g") and v[step] is not None
            ]
            assert result.present[row, step] == bool(xs)
            if xs:
                assert result.values[row, step] == pytest.approx(REFERENCE[op](xs), abs=1e-12)


def exact_sum(xs: list[float]) -> float:
    total, compensation = total_of(xs)
    return total if math.isinf(total) else total + compensation


def exact_variance(xs: list[float]) -> float:
    mean, squares = xs[0], xs[0] - xs[0]
    for count, x in enumerate(xs[1:], 2):
        delta = x - mean
        mean += delta / count
        squares += delta * (x - mean)
    return squares / len(xs)


EXACT: dict[str, Callable[[list[float]], float]] = {
    "sum": exact_sum,
    "avg": lambda xs: average([(0, x) for x in xs]),
    "min": lambda xs: extreme([(0, x) for x in xs], operator.lt)[1],
    "max": lambda xs: extreme([(0, x) for x in xs], operator.gt)[1],
    "stdvar": exact_variance,
    "quantile": lambda xs: quantile(0.3, xs),
}
any_floats = st.one_of(st.floats(-1e6, 1e6), st.floats(width=64), st.just(-0.0))


@given(
    st.sampled_from(sorted(EXACT)),
    st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.none() | any_floats, min_size=2, max_size=2)),
        min_size=1,
        max_size=40,
    ),
)
def test_folds_equal_a_loop_to_the_last_bit(
    op: str, members: list[tuple[int, list[float | None]]]
) -> None:
    labels = [make_labels("m", g=str(g), n=str(n)) for n, (g, _) in enumerate(members)]
    values = np.array([[0.0 if v is None else v for v in row] for _, row in members])
    present = np.array([[v is not None for v in row] for _, row in members])
    expr = AggregateExpr(op, None, None, ("g",), False, POS)  # type: ignore[arg-type]
    param = np.full(2, 0.3) if op == "quantile" else None
    result = aggregate(expr, Matrix.of(labels, values, present), param, Annotations())
    for row, group in enumerate(result.labels):
        for step in range(2):
            rows = [v[step] for g, v in members if str(g) == group.get("g")]
            xs = [x for x in rows if x is not None]
            if xs:
                assert same(result.values[row, step] + 0.0, EXACT[op](xs) + 0.0)
