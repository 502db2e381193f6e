"""The order of samples by value: equal ones keep their order, NaN comes last."""

import math

import numpy as np
import pytest

from promql.functions.window_value_kernels import stable_sort
from promql.numbers.value_order import order_by_value
from tests.support.factories import make_labels
from tests.unit.promql.queries import run, vector


@pytest.mark.parametrize(
    ("descending", "expected"), [(True, [4, 1, 3, 0, 2, 5]), (False, [1, 3, 4, 0, 2, 5])]
)
def test_equal_values_keep_their_order_and_nan_come_last(
    descending: bool, expected: list[int]
) -> None:
    values = np.array([math.nan, 1.0, math.nan, 1.0, math.inf, math.nan])
    assert order_by_value(values, descending=descending) == expected


def test_groups_come_before_values() -> None:
    values, groups = np.array([1.0, 5.0, 9.0, 7.0]), np.array([1, 0, 1, 0])
    assert order_by_value(values, descending=True, groups=groups) == [3, 1, 2, 0]


def test_many_equal_values_keep_their_order() -> None:
    values = np.array([float(n % 3) for n in range(300)])
    assert order_by_value(values, descending=False) == sorted(range(300), key=lambda n: n % 3)


def test_zeros_keep_their_order() -> None:
    samples = np.array([1.0, -0.0, 0.0, -0.0, -1.0] * 50)
    stable_sort(samples, np.empty(250), 250)
    assert np.signbit(samples[50:200]).tolist() == [True, False, True] * 50
    assert (np.diff(samples) >= 0).all()


@pytest.mark.parametrize(("quantile", "sign"), [(0, -1), (0.25, 1), (0.75, 1), (1, -1)])
async def test_quantile_has_the_sign_of_the_zero_it_picks(quantile: float, sign: int) -> None:
    zeros = [-0.0, -0.0, 0.0, 0.0, -0.0]
    over_time = {make_labels("m"): [(1_000 * n, zero) for n, zero in enumerate(zeros)]}
    side_by_side = {make_labels("m", n=f"{n:02}"): [(0, z)] for n, z in enumerate(zeros)}
    for text, series in (
        ("quantile_over_time({}, m[1m])", over_time),
        ("quantile({}, m)", side_by_side),
    ):
        ((_, value),) = vector(await run(text.format(quantile), series, 5_000))
        assert math.copysign(1, value) == sign, text
