"""Range functions: hand-computed values, special cases and annotations."""

import math
import random

import pytest

from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels
from promql.functions.registry import FUNCTIONS, RangeFunction
from promql.values.matrix import Annotations
from tests.support.factories import make_labels
from tests.unit.promql.grids import POSITIONS, Grid, run_range

ONE_STEP = Grid([300_000], 300_000)


def regular(values: list[float], step_ms: int = 15_000, start_ms: int = 15_000):
    return [(start_ms + step_ms * k, value) for k, value in enumerate(values)]


def single(func: str, values: list[float], *scalars: float, grid: Grid = ONE_STEP) -> float | None:
    ((result,),) = run_range(func, grid, [regular(values)], *scalars)
    return result


@pytest.mark.parametrize(
    "func", [name for name, function in FUNCTIONS.items() if isinstance(function, RangeFunction)]
)
def test_no_series_and_no_samples_give_no_result(func: str):
    scalars = {
        "quantile_over_time": (0.5,),
        "predict_linear": (60.0,),
        "double_exponential_smoothing": (0.5, 0.5),
    }.get(func, ())
    assert run_range(func, ONE_STEP, [], *scalars) == []
    assert run_range(func, ONE_STEP, [[]], *scalars) == [[None]]
    assert run_range(func, ONE_STEP, [[], [(1_000_000, 5.0)]], *scalars) == [[None], [None]]


@pytest.mark.parametrize(
    "func",
    ["rate", "increase", "delta", "irate", "idelta", "deriv"],
)
def test_a_single_sample_has_no_slope(func: str):
    assert single(func, [5.0]) is None


# rate


def test_rate_extrapolates_to_both_ends_when_samples_reach_near_them():
    # 20 samples of a window of 300 s, the first 15 s after its start: it covers all of it.
    values = [100.0 + 10 * k for k in range(20)]
    assert single("increase", values) == pytest.approx(190 * 300 / 285, rel=1e-15)
    assert single("rate", values) == pytest.approx(190 / 285, rel=1e-15)


def test_rate_adds_half_a_distance_where_the_series_starts_within_the_window():
    # Samples from 150 s to 300 s: 135 s before the first one is more than 1.1 distances.
    series = regular([50.0 + k for k in range(11)], 15_000, 150_000)
    assert run_range("increase", ONE_STEP, [series]) == [[pytest.approx(10 * 157.5 / 150)]]


def test_a_counter_is_not_extrapolated_below_zero_but_a_gauge_is():
    series = regular([1.0 + 10 * k for k in range(19)], 15_000, 30_000)
    # Zero is reached 1.5 s before the first sample, the window starts 30 s before: half of 15 s.
    assert run_range("increase", ONE_STEP, [series]) == [[pytest.approx(180 * (270 + 1.5) / 270)]]
    assert run_range("delta", ONE_STEP, [series]) == [[pytest.approx(180 * (270 + 7.5) / 270)]]


def test_rate_counts_what_a_counter_had_before_each_reset():
    values = [100.0, 110.0, 5.0, 15.0, 0.0, 10.0] + [10.0] * 14
    total = (10 - 100) + 110 + 15
    zero_point = 285 * 100 / total
    assert zero_point > 15
    assert single("increase", values) == pytest.approx(total * 300 / 285, rel=1e-15)


def test_one_huge_counter_does_not_blur_the_resets_of_another():
    huge = regular([1e300, 2e300, 1e300, math.inf, 0.0, math.nan, 1.0])
    small = regular([3.0, 4.0, 1.0, 2.0] + [2.0] * 16)
    both = run_range("increase", ONE_STEP, [huge, small])
    assert both[1] == run_range("increase", ONE_STEP, [small])[0]
    assert both[1][0] == pytest.approx(3 * 300 / 285)


def test_nan_is_no_reset():
    values = [1.0, 2.0, math.nan, 1.0] + [1.0] * 16
    assert single("increase", values) == 0.0
    assert single("resets", values) == 0.0
    assert single("changes", values) == 3.0


def test_many_resets_in_few_windows_equal_the_same_in_many_windows():
    values = [float(k % 2) + k / 1024 for k in range(4000)]
    series = regular(values, 1000)
    end = series[-1][0]
    few = run_range("increase", Grid([end], end), [series])[0][0]
    many = run_range("increase", Grid([end] * 3000, end), [series])[0]
    assert set(many) == {few}


def test_irate_takes_the_last_two_samples_and_restarts_after_a_reset():
    assert single("irate", [1.0, 5.0, 35.0]) == 2.0
    assert single("irate", [1.0, 50.0, 30.0]) == 2.0
    assert single("idelta", [1.0, 50.0, 30.0]) == -20.0


def test_rate_and_increase_inform_once_of_each_metric_not_named_like_a_counter():
    series = {
        make_labels("memory", a="1"): regular([1.0, 2.0]),
        make_labels("memory", a="2"): regular([1.0, 2.0]),
        make_labels("alone"): regular([1.0]),
        Labels(): regular([1.0, 2.0]),
        make_labels("http_requests_total"): regular([1.0, 2.0]),
        make_labels("x_bucket"): regular([1.0, 2.0]),
    }
    for func in ("rate", "increase"):
        annotations = Annotations()
        run_range(func, ONE_STEP, series, annotations=annotations)
        text = (
            "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "
            '"memory"'
        )
        assert annotations.infos == [(text, POSITIONS[0])]
        assert annotations.warnings == []
    for func in ("delta", "irate", "resets"):
        annotations = Annotations()
        run_range(func, ONE_STEP, series, annotations=annotations)
        assert annotations.infos == []


# sums and means


def test_sum_over_time_keeps_what_large_samples_that_cancel_would_lose():
    assert single("sum_over_time", [1.0, 1e100, 1.0, -1e100]) == 2.0
    assert single("avg_over_time", [1.0, 1e100, 1.0, -1e100]) == 0.5
    assert single("sum_over_time", [0.1] * 10) == 1.0


def test_avg_over_time_survives_a_sum_that_overflows():
    largest = 1.7976931348623157e308
    assert single("sum_over_time", [largest, largest]) == math.inf
    assert single("avg_over_time", [largest, largest]) == largest
    assert single("avg_over_time", [-largest] * 3) == pytest.approx(-largest, rel=1e-15)
    assert single("avg_over_time", [largest, largest, -math.inf]) == -math.inf
    assert single("avg_over_time", [5.0, math.inf, 5.0]) == math.inf
    assert math.isnan(single("avg_over_time", [-math.inf, math.inf]))


def test_variance_of_samples_far_from_zero_keeps_its_digits():
    values = [1e9 + x for x in (1.0, 2.0, 3.0, 4.0)]
    assert single("stdvar_over_time", values) == pytest.approx(1.25, rel=1e-12)
    assert single("stddev_over_time", values) == pytest.approx(math.sqrt(1.25), rel=1e-12)
    assert single("stdvar_over_time", [7.0]) == 0.0
    assert math.isnan(single("stdvar_over_time", [1.0, math.inf]))


@pytest.mark.parametrize(
    "func", ["sum_over_time", "avg_over_time", "stdvar_over_time", "stddev_over_time", "deriv"]
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_few_long_windows_agree_with_many_of_them(func: str, seed: int):
    generator = random.Random(seed)
    series = regular([generator.uniform(0, 1000) for _ in range(3000)], 1000)
    end = series[-1][0]
    few = run_range(func, Grid([end, end - 1000], end), [series])[0]
    # A thousand windows and more are never cut.
    many = run_range(func, Grid([end, end - 1000] * 600, end), [series])[0]
    assert few == pytest.approx(many[:2], rel=1e-12)


@pytest.mark.parametrize(
    ("spoiler", "total"), [(math.inf, math.inf), (-math.inf, -math.inf), (math.nan, math.nan)]
)
def test_a_long_window_with_an_infinity_or_nan_has_that_sum(spoiler: float, total: float):
    series = regular([1.0] * 1000 + [spoiler] + [1.0] * 1000, 1000)
    end = series[-1][0]
    for func in ("sum_over_time", "avg_over_time"):
        assert run_range(func, Grid([end], end), [series]) == [[pytest.approx(total, nan_ok=True)]]
    ((variance,),) = run_range("stdvar_over_time", Grid([end], end), [series])
    assert math.isnan(variance)


def test_a_long_window_whose_sum_overflows_is_taken_in_order():
    series = regular([1e308] * 700 + [-1e308] * 700, 1000)
    end = series[-1][0]
    assert run_range("sum_over_time", Grid([end], end), [series]) == [[math.inf]]
    ((mean,),) = run_range("avg_over_time", Grid([end], end), [series])
    assert abs(mean) < 1e295


# order


def test_extremes_ignore_nan_unless_there_is_nothing_else():
    assert single("max_over_time", [math.nan, 3.0, 1.0, math.nan]) == 3.0
    assert single("min_over_time", [math.nan, 3.0, 1.0, math.nan]) == 1.0
    assert math.isnan(single("max_over_time", [math.nan]))


def test_the_first_of_zero_and_minus_zero_is_the_extreme():
    assert math.copysign(1, single("max_over_time", [-0.0, 0.0])) == -1
    assert math.copysign(1, single("min_over_time", [0.0, -0.0])) == 1
    assert math.copysign(1, single("max_over_time", [-5.0, 0.0, -0.0])) == 1


def test_times_of_extremes_are_of_the_last_of_equal_samples():
    assert single("ts_of_max_over_time", [1.0, 3.0, 3.0, 2.0]) == 45.0
    assert single("ts_of_min_over_time", [1.0, 1.0, 3.0]) == 30.0
    assert single("ts_of_max_over_time", [math.nan, math.nan]) == 30.0
    assert single("ts_of_max_over_time", [math.nan, 1.0, math.nan]) == 30.0
    assert single("ts_of_last_over_time", [1.0, 1.0, 1.0]) == 45.0


def test_quantile_over_time_interpolates_and_sorts_nan_first():
    assert single("quantile_over_time", [4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert single("quantile_over_time", [math.nan, 1.0, 2.0], 0.5) == 1.0
    assert math.isnan(single("quantile_over_time", [math.nan, 1.0, 2.0], 0.1))
    assert single("quantile_over_time", [7.0], 0.3) == 7.0


@pytest.mark.parametrize(
    ("quantile", "formatted", "result"),
    [
        (1.5, "1.5", math.inf),
        (-0.1, "-0.1", -math.inf),
        (math.nan, "NaN", math.nan),
        (math.inf, "+Inf", math.inf),
        (1234567.0, "1.234567e+06", math.inf),
    ],
)
def test_quantile_over_time_warns_of_a_quantile_outside_zero_to_one(
    quantile: float, formatted: str, result: float
):
    annotations = Annotations()
    got = run_range(
        "quantile_over_time", ONE_STEP, [regular([1.0])], quantile, annotations=annotations
    )
    assert got == [[pytest.approx(result, nan_ok=True)]]
    text = f"quantile value should be between 0 and 1, got {formatted}"
    assert annotations.warnings == [(text, POSITIONS[0])]


def test_quantile_over_time_of_no_sample_does_not_warn():
    annotations = Annotations()
    run_range("quantile_over_time", ONE_STEP, [[]], 2.0, annotations=annotations)
    assert annotations.warnings == []


def test_mad_over_time_is_the_median_distance_from_the_median():
    assert single("mad_over_time", [4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]) == 1.0


# lines and smoothing


def test_deriv_of_a_constant_is_exactly_zero_and_of_infinity_nan():
    jittered = [(1_493_712_816_939 + 30_000 * k + 12 * k % 2, 1.0) for k in range(15)]
    end = jittered[-1][0]
    assert run_range("deriv", Grid([end], 1_800_000), [jittered]) == [[0.0]]
    assert math.isnan(single("deriv", [math.inf, math.inf]))
    assert math.isnan(single("predict_linear", [math.inf, math.inf], 60.0))


def test_predict_linear_counts_from_the_eval_step_and_not_from_the_moved_window():
    line = regular([float(k) for k in range(1, 21)])
    assert run_range("predict_linear", ONE_STEP, [line], 150.0) == [[pytest.approx(30.0)]]
    moved = Grid([600_000], 300_000, 300_000)
    assert run_range("predict_linear", moved, [line], 150.0) == [[pytest.approx(50.0)]]


def test_double_exponential_smoothing_follows_a_line():
    assert single("double_exponential_smoothing", [0.0, 10.0, 20.0, 30.0], 0.5, 0.5) == 30.0
    assert single("double_exponential_smoothing", [1.0], 0.5, 0.5) is None


def test_smoothing_many_windows_equals_smoothing_few():
    series = regular([float(k * k % 17) for k in range(30)], 1000)
    few = run_range("double_exponential_smoothing", Grid([30_000], 20_000), [series], 0.3, 0.7)
    grid = Grid([30_000] * 50, 20_000)
    many = run_range("double_exponential_smoothing", grid, [series], 0.3, 0.7)
    assert set(many[0]) == {few[0][0]}


@pytest.mark.parametrize(
    ("smoothing", "trend", "message"),
    [
        (0.0, 0.5, "invalid smoothing factor. Expected: 0 < sf < 1, got: 0.000000"),
        (1.0, 7.0, "invalid smoothing factor. Expected: 0 < sf < 1, got: 1.000000"),
        (math.inf, 0.5, "invalid smoothing factor. Expected: 0 < sf < 1, got: +Inf"),
        (0.5, -0.25, "invalid trend factor. Expected: 0 < tf < 1, got: -0.250000"),
    ],
)
def test_double_exponential_smoothing_refuses_factors_outside_zero_to_one(
    smoothing: float, trend: float, message: str
):
    with pytest.raises(ExecutionError) as error:
        single("double_exponential_smoothing", [1.0], smoothing, trend)
    assert str(error.value) == message
    assert run_range("double_exponential_smoothing", ONE_STEP, [[]], smoothing, trend) == [[None]]


# equal windows


@pytest.mark.parametrize(
    ("func", "scalars"),
    [
        ("sum_over_time", ()),
        ("avg_over_time", ()),
        ("stdvar_over_time", ()),
        ("increase", ()),
        ("deriv", ()),
        ("mad_over_time", ()),
        ("quantile_over_time", (0.9,)),
        ("ts_of_max_over_time", ()),
        ("double_exponential_smoothing", (0.3, 0.6)),
    ],
)
def test_windows_with_the_same_samples_have_the_results_of_one(
    func: str, scalars: tuple[float, ...]
):
    series = regular([float(k * k % 23) for k in range(90)], 1000)
    ends = [20_000, 61_500, 75_000, 90_000, 100_000, 140_000, 500_000]
    few = run_range(func, Grid(ends, 60_000), [series], *scalars)[0]
    many = run_range(func, Grid(sorted(ends * 3000), 60_000), [series], *scalars)[0]
    assert few[0] is not None
    assert few[-1] is None
    assert many == [value for value in few for _ in range(3000)]
