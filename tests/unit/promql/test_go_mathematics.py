"""Mathematics with Go's bits: the expected digits are the answers of Prometheus 3.5.3 on amd64.

C's functions, and so NumPy's, end in another digit for most of them.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promql.functions.math_functions import SAMPLE_FUNCTIONS
from promql.numbers.go_exponential import _halves, _multiply_add
from promql.numbers.go_trigonometry import go_atan2


@pytest.mark.parametrize(
    ("func", "sample", "expected"),
    [
        ("acos", 0.49, 1.0587065738607486),
        ("acos", -0.7, 2.3461938234056494),
        ("acosh", 3.0, 1.7627471740390859),
        ("acosh", 1.25, 0.6931471805599453),
        ("asin", -0.44, -0.4555986733958234),
        ("asinh", 89756710421.0, 25.913515810001766),
        ("asinh", 11.46, 3.1339080577316754),
        ("asinh", -0.44, -0.42691345412611653),
        ("atan", 19.91, 1.5206124801749699),
        ("atan", 0.895, 0.730045792886918),
        ("atan", -333.4, -1.567796935669474),
        ("atanh", 0.17, 0.17166666350057913),
        ("atanh", -0.75, -0.9729550745276566),
        ("cos", 5744376150.0, -0.010623567503976469),
        ("cos", -1.64, -0.06914844865406196),
        ("cosh", 128.0, 1.9438542029972974e55),
        ("cosh", 0.43, 1.0938833091357991),
        ("exp", 12.1, 179871.86225375105),
        ("exp", -493.6, 4.287890957337654e-215),
        ("exp", -741.51, 9.4e-323),
        ("exp", 709.44, math.inf),
        ("exp", -746.0, 0.0),
        ("ln", 19.35, 2.9626924194757907),
        ("ln", 5e-324, -709.0895657128241),
        ("log10", 3.0, 0.4771212547196624),
        ("log10", 0.416, -0.38090666937325723),
        ("log2", 11.12, 3.4750848829487824),
        ("sin", 44008873.0, -0.8990023714732107),
        ("sin", 1700000000.0, 0.9992359103362585),
        ("sin", 1e300, -0.8178819121159087),
        ("sin", -11.24, 0.97027646206729),
        ("sinh", -493.6, -1.1660744290718842e214),
        ("sinh", 2.0, 3.626860407847019),
        ("sinh", 0.416, 0.42810279919308997),
        ("tan", 89756710421.0, 1.8185613733467936),
        ("tan", -1.64, 14.427024766817697),
        ("tan", 1e-09, 1e-09),
        ("tanh", 9.0, 0.999999969540041),
        ("tanh", 0.49, 0.4542164326822591),
        ("tanh", -45.0, -1.0),
    ],
)
def test_function_has_the_bits_of_go(func: str, sample: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        assert SAMPLE_FUNCTIONS[func](np.array([sample])).tolist() == [expected]


@pytest.mark.parametrize("func", ["asinh", "asin", "atan", "atanh", "sin", "sinh", "tan", "tanh"])
def test_odd_functions_keep_the_sign_of_zero(func: str) -> None:
    with np.errstate(all="ignore"):
        values = SAMPLE_FUNCTIONS[func](np.array([0.0, -0.0]))
    assert values.tolist() == [0.0, 0.0]
    assert np.signbit(values).tolist() == [False, True]


@pytest.mark.parametrize(
    ("y", "x", "expected"),
    [
        (1.0, 3.0, 0.3217505543966422),
        (-2.5, 0.7, -1.297787623708186),
        (0.3, -0.9, 2.819842099193151),
        (-1.0, -7.0, -2.999695598985629),
        (1000000000.0, 0.416, 1.5707963263788967),
        (-0.0, -1.0, -math.pi),
        (math.inf, -math.inf, 3 * math.pi / 4),
    ],
)
def test_angle_of_a_point_has_the_bits_of_go(y: float, x: float, expected: float) -> None:
    with np.errstate(all="ignore"):
        assert float(go_atan2(y, x)) == expected


_FACTORS = st.floats(-1e3, 1e3).filter(lambda x: x == 0 or abs(x) > 1e-30)


@given(_FACTORS, _FACTORS, _FACTORS)
def test_multiplying_and_adding_rounds_once(a: float, b: float, c: float) -> None:
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    result = _multiply_add(np.array([a]), _halves(np.array([b])), np.array([c]))
    assert result.tolist() == [float(exact)]
