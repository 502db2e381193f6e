"""Sorting as Go does: an order of the values, and the places of equals that Prometheus shows."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promql.numbers.go_sort import _Sorting, go_sorted
from promql.numbers.value_order import Less, larger_first, smaller_first, sorted_by_value

# fmt: off
SHOWN = [
    20, 10, 35, 30, 0, 5, 25, 15, 14, 24, 39, 11, 36, 34, 19, 31, 16, 29, 1, 26,
    6, 21, 4, 9, 23, 7, 18, 27, 28, 17, 3, 22, 32, 33, 13, 2, 12, 37, 38, 8,
]
# fmt: on
"""What Prometheus 3.5.3 makes of `sort(m)` over the series 0 … 39, whose values are n * n % 5."""


def order_of(values: Sequence[float]) -> list[int]:
    return go_sorted(len(values), lambda a, b: values[a] < values[b])


_FEW = st.lists(st.integers(0, 3), max_size=200)
_MANY = st.lists(st.integers(0, 1_000), max_size=200)
_RUNS = st.builds(lambda a, b: [*a, *range(60), *b, *range(60, 0, -1)], _FEW, _FEW)


@given(st.one_of(_FEW, _MANY, _RUNS))
def test_the_order_is_one_of_the_values(values: list[int]) -> None:
    order = order_of(values)
    assert sorted(order) == list(range(len(values)))
    assert [values[place] for place in order] == sorted(values)


def test_many_bad_pivots_end_in_a_heap_sort() -> None:
    values = [n * n % 101 for n in range(300)]
    sorting = _Sorting(300, lambda a, b: values[a] < values[b])
    sorting.sort(0, 300, 0)
    assert [values[place] for place in sorting.order] == sorted(values)


def test_equals_stand_where_prometheus_shows_them() -> None:
    values = np.array([float(n * n % 5) for n in range(40)])
    assert sorted_by_value(values, larger_first) == SHOWN


@pytest.mark.parametrize(
    ("less", "shown"), [(smaller_first, [4, 1, 3, 5, 2, 0]), (larger_first, [1, 3, 4, 5, 2, 0])]
)
def test_nan_come_last_and_a_few_of_them_in_reverse(less: Less, shown: list[int]) -> None:
    values = np.array([math.nan, 1.0, math.nan, 1.0, math.inf, math.nan])
    assert sorted_by_value(values, less) == shown
