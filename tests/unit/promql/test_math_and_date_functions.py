"""Functions of one sample: special cases as a real Prometheus 3.5.3 on amd64 gives them."""

import calendar
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.model import EMPTY_LABELS
from promql.values.matrix import ScalarGrid
from tests.support.factories import make_labels
from tests.unit.promql.grids import matrix, rows_of, run_instant

# fmt: off
SAMPLE_FUNCTIONS = [
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "deg", "exp",
    "floor", "ln", "log10", "log2", "rad", "round", "sgn", "sin", "sinh", "sqrt", "tan", "tanh",
]
# fmt: on
NAMED, UNNAMED = make_labels("x", job="a"), make_labels(job="a")


def of_sample(func: str, sample: float, *scalars: float) -> float | None:
    """The function of one sample; None when it gives no result."""
    result = run_instant(func, matrix({NAMED: [sample]}), *scalars)
    return rows_of(result)[UNNAMED][0]


def same(got: float | None, expected: float | None) -> bool:
    if got is None or expected is None:
        return got is expected
    both_nan = math.isnan(got) and math.isnan(expected)
    return both_nan or (got == expected and math.copysign(1, got) == math.copysign(1, expected))


@pytest.mark.parametrize(
    ("func", "sample", "expected"),
    [
        ("abs", -3.0, 3.0),
        ("abs", -0.0, 0.0),
        ("ceil", -0.5, -0.0),
        ("floor", -0.5, -1.0),
        ("sgn", -7.0, -1.0),
        ("sgn", -0.0, -0.0),
        ("sgn", math.nan, math.nan),
        ("sgn", math.inf, 1.0),
        ("sqrt", -1.0, math.nan),
        ("ln", 0.0, -math.inf),
        ("ln", -1.0, math.nan),
        ("log2", 8.0, 3.0),
        ("log2", 5e-324, -1074.0),
        ("log10", 1000.0, 3.0),
        ("exp", 1000.0, math.inf),
        ("exp", -746.0, 0.0),
        ("exp", -math.inf, 0.0),
        ("atanh", 1.0, math.inf),
        ("acosh", 0.5, math.nan),
        ("asin", 2.0, math.nan),
        ("sin", math.inf, math.nan),
        ("tanh", -math.inf, -1.0),
        ("deg", math.pi, 180.0),
        ("rad", 180.0, math.pi),
    ],
)
def test_sample_functions_in_special_cases(func: str, sample: float, expected: float):
    assert same(of_sample(func, sample), expected)


@pytest.mark.parametrize("func", ["asinh", "asin", "atan", "atanh", "sin", "sinh", "tan", "tanh"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_odd_functions_keep_the_sign_of_zero(func: str, zero: float):
    assert same(of_sample(func, zero), zero)


@pytest.mark.parametrize(
    ("func", "sample", "expected"),
    [
        ("acos", -0.7, 2.3461938234056494),
        ("acosh", 1.25, 0.6931471805599453),
        ("asinh", 89756710421.0, 25.913515810001766),
        ("asinh", -0.44, -0.42691345412611653),
        ("asin", -0.44, -0.4555986733958234),
        ("atan", -333.4, -1.567796935669474),
        ("atanh", -0.75, -0.9729550745276566),
        ("cos", 5744376150.0, -0.010623567503976469),
        ("cosh", 128.0, 1.9438542029972974e55),
        ("exp", -493.6, 4.287890957337654e-215),
        ("exp", -741.51, 9.4e-323),
        ("ln", 19.35, 2.9626924194757907),
        ("log10", 0.416, -0.38090666937325723),
        ("log2", 11.12, 3.4750848829487824),
        ("sin", 1700000000.0, 0.9992359103362585),
        ("sin", 1e300, -0.8178819121159087),
        ("sinh", -493.6, -1.1660744290718842e214),
        ("tan", 89756710421.0, 1.8185613733467936),
        ("tanh", 0.49, 0.4542164326822591),
    ],
)
def test_sample_functions_agree_with_prometheus(func: str, sample: float, expected: float):
    assert of_sample(func, sample) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("func", SAMPLE_FUNCTIONS)
def test_sample_functions_keep_gaps_and_drop_the_name(func: str):
    result = rows_of(run_instant(func, matrix({NAMED: [0.25, None]}), step_times_ms=(0, 1)))
    assert list(result) == [UNNAMED]
    assert result[UNNAMED][0] is not None
    assert result[UNNAMED][1] is None


@pytest.mark.parametrize("func", ["abs", "round", "year", "clamp_min", "timestamp"])
def test_delayed_name_removal_leaves_the_name_and_marks_the_row(func: str):
    scalars = (1.0,) if func == "clamp_min" else ()
    result = run_instant(func, matrix({NAMED: [1.0]}), *scalars, delayed=True)
    assert list(rows_of(result)) == [NAMED]
    assert result.drop_name.tolist() == [True]


@pytest.mark.parametrize(
    ("sample", "to_nearest", "expected"),
    [
        (2.5, 1.0, 3.0),
        (-2.5, 1.0, -2.0),
        (5.125, 0.25, 5.25),
        (7.0, 5.0, 5.0),
        (7.5, 5.0, 10.0),
        (1.0, 0.0, math.nan),
        (math.inf, 5.0, math.inf),
    ],
)
def test_round_ties_up_to_the_nearest_multiple(sample: float, to_nearest: float, expected: float):
    assert same(of_sample("round", sample, to_nearest), expected)


def test_round_rounds_to_one_by_default():
    assert of_sample("round", 0.5) == 1.0


@pytest.mark.parametrize(
    ("sample", "least", "most", "expected"),
    [
        (5.0, 0.0, 1.0, 1.0),
        (-5.0, 0.0, 1.0, 0.0),
        (0.5, 1.0, 0.0, None),
        (0.5, math.nan, 1.0, math.nan),
        (math.nan, 0.0, 1.0, math.nan),
        (math.nan, math.inf, math.inf, math.inf),
        (-0.0, 0.0, 1.0, 0.0),
        (0.0, -1.0, -0.0, -0.0),
    ],
)
def test_clamp_follows_gos_min_and_max(
    sample: float, least: float, most: float, expected: float | None
):
    assert same(of_sample("clamp", sample, least, most), expected)


def test_clamp_min_and_clamp_max_have_infinity_beat_nan():
    assert of_sample("clamp_min", math.nan, math.inf) == math.inf
    assert of_sample("clamp_max", math.nan, -math.inf) == -math.inf
    assert of_sample("clamp_min", -3.0, -1.0) == -1.0
    assert of_sample("clamp_max", 3.0, -1.0) == -1.0


def test_clamp_bounds_may_differ_from_step_to_step():
    result = run_instant(
        "clamp", matrix({NAMED: [5.0, 5.0, 5.0]}), [0, 0, 9], [1, 9, 0], step_times_ms=(0, 1, 2)
    )
    assert rows_of(result) == {UNNAMED: [1.0, 5.0, None]}


NOT_A_DATE = {
    "year": 292277026596,
    "month": 12,
    "day_of_month": 4,
    "day_of_week": 0,
    "day_of_year": 339,
    "days_in_month": 31,
    "hour": 15,
    "minute": 30,
}


@pytest.mark.parametrize("func", sorted(NOT_A_DATE))
@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf, 1e300, -9.3e18])
def test_dates_outside_int64_wrap_around_as_in_prometheus(func: str, sample: float):
    assert of_sample(func, sample) == NOT_A_DATE[func]


@pytest.mark.parametrize(
    ("func", "sample", "expected"),
    [
        ("year", -9e18, -285198644592),
        ("month", -9e18, 9),
        ("day_of_month", -9e18, 12),
        ("day_of_week", -9e18, 1),
        ("day_of_year", -9e18, 256),
        ("year", -62135596801.0, 0),
        ("day_of_year", -62135596801.0, 366),
        ("year", -63135596801.0, -31),
        ("year", -1.5, 1969),
        ("minute", -0.5, 0),
        ("hour", -1.0, 23),
    ],
)
def test_dates_far_from_now(func: str, sample: float, expected: int):
    assert of_sample(func, sample) == expected


@given(st.lists(st.integers(-62135596800, 253402300799), min_size=1, max_size=20))
def test_dates_of_years_1_to_9999_equal_the_standard_librarys(seconds: list[int]):
    dates = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=s) for s in seconds]
    expected: dict[str, Sequence[int]] = {
        "year": [d.year for d in dates],
        "month": [d.month for d in dates],
        "day_of_month": [d.day for d in dates],
        "day_of_week": [d.isoweekday() % 7 for d in dates],
        "day_of_year": [d.timetuple().tm_yday for d in dates],
        "days_in_month": [calendar.monthrange(d.year, d.month)[1] for d in dates],
        "hour": [d.hour for d in dates],
        "minute": [d.minute for d in dates],
    }
    times = matrix({NAMED: [float(s) for s in seconds]})
    for func, parts in expected.items():
        result = run_instant(func, times, step_times_ms=range(len(seconds)))
        assert rows_of(result) == {UNNAMED: [float(part) for part in parts]}


def test_dates_without_an_argument_are_of_the_eval_step():
    result = run_instant("minute", step_times_ms=(0, 59_999, 60_000, -1_500, -61_000))
    assert rows_of(result) == {EMPTY_LABELS: [0.0, 0.0, 1.0, 59.0, 58.0]}


def test_time_and_pi_are_scalars_and_timestamp_is_the_eval_time():
    steps = (1_500, 2_000)
    time, pi = run_instant("time", step_times_ms=steps), run_instant("pi", step_times_ms=steps)
    assert isinstance(time, ScalarGrid)
    assert isinstance(pi, ScalarGrid)
    assert time.values.tolist() == [1.5, 2.0]
    assert pi.values.tolist() == [math.pi, math.pi]
    stamps = run_instant("timestamp", matrix({NAMED: [7.0, None]}), step_times_ms=steps)
    assert rows_of(stamps) == {UNNAMED: [1.5, None]}


def test_vector_and_scalar_are_inverses_where_there_is_one_sample():
    vector = run_instant("vector", [1.0, math.nan], step_times_ms=(0, 1))
    assert rows_of(vector) == {EMPTY_LABELS: [1.0, pytest.approx(math.nan, nan_ok=True)]}
    rows = matrix({NAMED: [1.0, 2.0, None, None], UNNAMED: [None, 5.0, 3.0, None]})
    scalar = run_instant("scalar", rows, step_times_ms=range(4))
    assert isinstance(scalar, ScalarGrid)
    np.testing.assert_array_equal(scalar.values, [1.0, math.nan, 3.0, math.nan])
    empty = run_instant("scalar", matrix({}), step_times_ms=(0,))
    assert isinstance(empty, ScalarGrid)
    np.testing.assert_array_equal(empty.values, [math.nan])
