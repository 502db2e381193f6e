"""Sorting as Go does: an order of the values, and the places of equals that Prometheus shows."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promql.numbers.go_sort import _Sorting, go_sorted
from promql.numbers.value_order import Less, larger_first, smaller_first, sorted_by_value
from tests.factories import make_labels
from tests.unit.promql.queries import run, vector

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


ZEROS = [-0.0 if n * n % 7 < 3 else 0.0 for n in range(25)]
SHOWN_SIGNS = "-++-++--++-++--++-++--++-"
"""Of `quantile(k / 24, m)` and of the same over time in Prometheus 3.5.3, for k from 0 to 24."""


async def test_quantiles_take_the_zeros_that_go_sorts_there() -> None:
    over_time = {make_labels("m"): [(1_000 * n, zero) for n, zero in enumerate(ZEROS)]}
    side_by_side = {make_labels("m", n=f"{n:02}"): [(0, z)] for n, z in enumerate(ZEROS)}
    for text, series in (
        ("quantile_over_time({}, m[1m])", over_time),
        ("quantile({}, m)", side_by_side),
    ):
        signs = ""
        for rank in range(25):
            ((_, value),) = vector(await run(text.format(rank / 24), series, 24_000))
            signs += "-" if math.copysign(1, value) < 0 else "+"
        assert signs == SHOWN_SIGNS, text
