"""Binary operators on floats: the special cases are those of a real Prometheus 3.5.3."""

import math

import numpy as np
import pytest

from promql.numbers.float_arithmetic import apply_arithmetic


@pytest.mark.parametrize(
    ("lhs", "op", "rhs", "expected"),
    [
        (100.0, "^", 100.0, 1e200),
        (10.0, "^", 6.5, 3162277.6601683795),
        (18.77, "^", -3.48, 3.7012151508746945e-05),
        (-2.0, "^", 3.0, -8.0),
        (4.0, "^", -0.5, 0.5),
        (2.0, "^", -1074.0, 5e-324),
        (1e300, "^", 2.0, math.inf),
        (1e-300, "^", 2.0, 0.0),
        (2.0, "^", 1e300, math.inf),
        (0.5, "^", 2e9, 0.0),
        (-2.0, "^", 2e9 + 1, -math.inf),
        (-2.0, "^", 0.5, math.nan),
        (2.0, "^", 0.5, math.sqrt(2)),
        (-math.inf, "^", 0.5, math.inf),
        (-math.inf, "^", -0.5, 0.0),
        (-0.0, "^", 0.5, 0.0),
        (-0.0, "^", 3.0, -0.0),
        (-0.0, "^", -3.0, -math.inf),
        (0.0, "^", 0.0, 1.0),
        (math.nan, "^", 0.0, 1.0),
        (-1.0, "^", math.inf, 1.0),
        (5.0, "%", 3.0, 2.0),
        (-5.0, "%", 3.0, -2.0),
        (5.0, "%", 0.0, math.nan),
        (5.0, "%", math.inf, 5.0),
        (1.0, "/", 0.0, math.inf),
        (0.0, "/", 0.0, math.nan),
        (1.0, "atan2", 3.0, 0.3217505543966422),
        (-2.5, "atan2", 0.7, -1.297787623708186),
        (-1.0, "atan2", -7.0, -2.999695598985629),
        (-0.0, "atan2", -1.0, -math.pi),
        (math.inf, "atan2", -math.inf, 3 * math.pi / 4),
    ],
)
def test_arithmetic(lhs: float, op: str, rhs: float, expected: float) -> None:
    # NumPy takes other paths through many elements than through one, and for a single exponent.
    for n_lhs, n_rhs in ((9, 9), (9, 1), (1, 9), (1, 1)):
        result = apply_arithmetic(op, np.full(n_lhs, lhs), np.full(n_rhs, rhs))
        wanted = np.full(max(n_lhs, n_rhs), expected)
        np.testing.assert_allclose(result, wanted, rtol=1e-12)
        assert (np.signbit(result) == np.signbit(wanted))[~np.isnan(wanted)].all()


def test_operands_are_broadcast() -> None:
    result = apply_arithmetic("^", np.array([[1.0], [2.0]]), np.array([1.0, 2.0, 3.0]))
    assert result.tolist() == [[1.0, 1.0, 1.0], [2.0, 4.0, 8.0]]
