"""topk, bottomk, limitk and limit_ratio: what is chosen at each step, and in which order."""

import heapq
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels
from promql.aggregation.sample_selection import hash_labels, select_samples
from promql.ast import AggregateExpr, PositionRange
from promql.budget import QueryBudget
from promql.values.matrix import Annotations, Matrix
from tests.support.factories import make_labels
from tests.unit.promql.queries import Series, rows, run, run_range, steps, vector


def series(**members: Sequence[float | None]) -> Series:
    return {make_labels("m", n=name): steps(values) for name, values in members.items()}


def names(result_rows: list[tuple[str, float]]) -> list[str]:
    return [labels.split('n="')[1].split('"')[0] for labels, _ in result_rows]


async def test_topk_is_descending_with_nan_last() -> None:
    data = series(a=[1.0], b=[math.nan], c=[3.0], d=[2.0])
    assert names(vector(await run("topk(4, m)", data))) == ["c", "d", "a", "b"]
    assert names(vector(await run("topk(2, m)", data))) == ["c", "d"]


async def test_bottomk_is_ascending_with_nan_last() -> None:
    data = series(a=[1.0], b=[math.nan], c=[3.0], d=[2.0])
    assert names(vector(await run("bottomk(4, m)", data))) == ["a", "d", "c", "b"]
    assert names(vector(await run("bottomk(1, m)", data))) == ["a"]


async def test_number_replaces_nan() -> None:
    assert names(vector(await run("topk(1, m)", series(a=[math.nan], b=[-5.0])))) == ["b"]
    assert names(vector(await run("bottomk(1, m)", series(a=[math.nan], b=[5.0])))) == ["b"]


async def test_heap_decides_between_equal_samples_as_in_prometheus() -> None:
    # Two 1s fill the heap, the 2 replaces its root, which is the 1 that came first.
    assert names(vector(await run("topk(2, m)", series(a=[1.0], b=[1.0], c=[2.0])))) == ["c", "b"]


async def test_topk_chooses_at_each_step() -> None:
    data = series(a=[1.0, 5.0, None], b=[2.0, 4.0, 1.0], c=[3.0, None, 2.0])
    result = await run_range("topk(1, m)", data, 3, lookback_delta_ms=1)
    assert rows(result) == [
        ('{__name__="m", n="a"}', [None, 5.0, None]),
        ('{__name__="m", n="c"}', [3.0, None, 2.0]),
    ]


async def test_parameter_may_differ_from_step_to_step() -> None:
    data = {
        **series(a=[1.0, 1.0, 1.0], b=[2.0, 2.0, 2.0]),
        make_labels("k"): steps([0.0, 1.0, 2.9]),
    }
    assert rows(await run_range("topk(scalar(k), m)", data, 3)) == [
        ('{__name__="m", n="a"}', [None, None, 1.0]),
        ('{__name__="m", n="b"}', [None, 2.0, 2.0]),
    ]
    assert rows(await run_range("count(limitk(scalar(k), m))", data, 3)) == [
        ("{}", [None, 1.0, 2.0])
    ]


@pytest.mark.parametrize("op", ["topk", "bottomk", "limitk"])
async def test_k_below_one_chooses_nothing(op: str) -> None:
    assert vector(await run(f"{op}(0.9, m)", series(a=[1.0]))) == []
    assert vector(await run(f"{op}(-1, m)", series(a=[1.0]))) == []


@pytest.mark.parametrize(
    ("k", "text"),
    [
        ("NaN", "Parameter value is NaN"),
        ("1e30", "Scalar value 1e+30 overflows int64"),
        ("Inf", "Scalar value +Inf overflows int64"),
    ],
)
async def test_a_k_that_is_no_int64_fails(k: str, text: str) -> None:
    for vector_text in ("m", "missing"):
        with pytest.raises(ExecutionError) as caught:
            await run(f"topk({k}, {vector_text})", series(a=[1.0]))
        assert str(caught.value) == text


async def test_limitk_takes_the_first_present_of_each_group() -> None:
    data = {
        make_labels("m", g="x", n="a"): steps([None, 1.0]),
        make_labels("m", g="x", n="b"): steps([2.0, 2.0]),
        make_labels("m", g="y", n="c"): steps([3.0, None]),
    }
    result = await run_range("limitk by (g) (1, m)", data, 2, lookback_delta_ms=1)
    assert rows(result) == [
        ('{__name__="m", g="x", n="a"}', [None, 1.0]),
        ('{__name__="m", g="x", n="b"}', [2.0, None]),
        ('{__name__="m", g="y", n="c"}', [3.0, None]),
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([], 0xEF46DB3751D8E999),
        ([("a", "bc")], 0xA2AB91898938D5FD),
        ([("a", "v" * 300)], 0x9062A6DBF22E4B1C),
        ([("a", "\udcff")], 0x0F20B725E632C881),
    ],
    ids=["empty", "short", "long value", "byte that is not UTF-8"],
)
def test_labels_are_hashed_as_prometheus_stores_them(
    labels: list[tuple[str, str]], expected: int
) -> None:
    assert hash_labels(Labels(labels)) == expected


def fraction(labels: Labels) -> float:
    return hash_labels(labels) / (2**64 - 1)


async def test_limit_ratio_chooses_by_hash_and_its_complement_the_rest() -> None:
    data = {make_labels("m", n=str(n)): steps([float(n)] * 2) for n in range(40)}
    low = {labels.get("n") for labels in data if fraction(labels) < 0.3}
    assert set(names(vector(await run("limit_ratio(0.3, m)", data)))) == low
    rest = await run_range("limit_ratio(-0.7, m)", data, 2)
    assert {labels.split('"')[3] for labels, _ in rows(rest)} == {str(n) for n in range(40)} - low


async def test_limit_ratio_caps_its_ratio() -> None:
    result = await run("limit_ratio(1.5, m)", series(a=[1.0]))
    assert vector(result) == [('{__name__="m", n="a"}', 1.0)]
    assert result.warnings == (
        "PromQL warning: ratio value should be between -1 and 1, got 1.5, capping to 1 (1:13)",
    )


async def test_limit_ratio_of_nan_fails() -> None:
    with pytest.raises(ExecutionError, match=r"^Ratio value is NaN$"):
        await run("limit_ratio(NaN, m)", series(a=[1.0]))


@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=4, max_size=4), min_size=1, max_size=20),
    st.integers(1, 6),
    st.booleans(),
)
def test_heaps_keep_the_best(samples: list[list[int]], limit: int, largest: bool) -> None:
    """The values kept are those `heapq` would keep, step by step, in two groups."""
    values = np.array(samples, np.float64)
    labels = [make_labels("m", n=f"{n:02}", g=str(n % 2)) for n in range(len(samples))]
    op = "topk" if largest else "bottomk"
    expr = AggregateExpr(op, None, None, ("g",), False, PositionRange(0, 0))
    matrix = Matrix.of(labels, values, np.ones(values.shape, bool))
    budget = QueryBudget(math.inf, 10**6)
    chosen = select_samples(expr, matrix, np.full(4, float(limit)), Annotations(), budget)
    best = heapq.nlargest if largest else heapq.nsmallest
    for group in range(min(2, len(samples))):
        for step in range(4):
            kept = chosen.values[group::2, step][chosen.present[group::2, step]]
            assert sorted(kept) == sorted(best(limit, values[group::2, step]))
