"""Powers: Go's bits where they differ from C's, C's special cases everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promql.numbers.go_power import go_power


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (100.0, 100.0, 1.0000000000000005e200),  # Prometheus 3.5.3: `vector(100) ^ 100`.
        (10.0, 6.5, 3162277.6601683795),
        (7.14, 0.35, 1.9897310358213287),
        (18.77, -3.48, 3.7012151508746945e-05),
        (0.4, 2.7, 0.08424846107739122),
        (20.14, -3.49, 2.8108162970397e-05),
        (-2.0, 3.0, -8.0),
        (4.0, -0.5, 0.5),
        (2.0, -1074.0, 5e-324),
        (1e300, 2.0, math.inf),
        (1e-300, 2.0, 0.0),
        (2.0, 1e300, math.inf),
        (0.5, 2e9, 0.0),
        (-2.0, 2e9 + 1, -math.inf),
        (-0.0, -3.0, -math.inf),
        (0.0, 0.0, 1.0),
        (math.nan, 0.0, 1.0),
        (-1.0, math.inf, 1.0),
    ],
)
def test_power(x: float, y: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        assert float(go_power(x, y)) == expected


def test_power_of_a_negative_base_to_a_fraction_is_nan() -> None:
    with np.errstate(all="ignore"):
        assert math.isnan(float(go_power(-2.0, 0.5)))


@given(st.floats(0.01, 100), st.floats(-20, 20))
def test_power_agrees_with_c_within_rounding(x: float, y: float) -> None:
    with np.errstate(all="ignore"):
        assert float(go_power(x, y)) == pytest.approx(x**y, rel=1e-13)


def test_power_broadcasts() -> None:
    with np.errstate(all="ignore"):
        result = go_power(np.array([[1.0], [2.0]]), np.array([1.0, 2.0, 3.0]))
    assert result.tolist() == [[1.0, 1.0, 1.0], [2.0, 4.0, 8.0]]
