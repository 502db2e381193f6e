"""Every range function, all windows at once, against the same function for one window in Python."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.promql.grids import Grid, Series, run_range

Samples = list[tuple[int, float]]


def add(total: float, compensation: float, x: float) -> tuple[float, float]:
    new = total + x
    if math.isinf(new):
        return new, 0.0
    if abs(total) >= abs(x):
        return new, compensation + ((total - new) + x)
    return new, compensation + ((x - new) + total)


def total_of(values: Sequence[float]) -> tuple[float, float]:
    total = compensation = 0.0
    for x in values:
        total, compensation = add(total, compensation, x)
    return total, compensation


def divide(a: float, b: float) -> float:
    if b:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def extrapolated(
    samples: Samples, start: int, end: int, counter: bool, seconds: float = 1.0
) -> float | None:
    """`seconds` is what a rate is divided by, before the multiplication, which may overflow."""
    if len(samples) < 2:
        return None
    values = [v for _, v in samples]
    result = values[-1] - values[0]
    if counter:
        for before, after in itertools.pairwise(values):
            if after < before:
                result += before
    sampled = (samples[-1][0] - samples[0][0]) / 1000
    average = sampled / (len(samples) - 1)
    to_start, to_end = (samples[0][0] - start) / 1000, (end - samples[-1][0]) / 1000
    if to_start >= average * 1.1:
        to_start = average / 2
    if counter and result > 0 and values[0] >= 0:
        to_start = min(to_start, sampled * divide(values[0], result), key=_nan_last)
    if to_end >= average * 1.1:
        to_end = average / 2
    return result * ((sampled + to_start + to_end) / sampled / seconds)


def _nan_last(x: float) -> float:
    return math.inf if math.isnan(x) else x


def between_last_two(samples: Samples, is_rate: bool) -> float | None:
    if len(samples) < 2:
        return None
    (t0, v0), (t1, v1) = samples[-2:]
    if not is_rate:
        return v1 - v0
    return (v1 if v1 < v0 else v1 - v0) / ((t1 - t0) / 1000)


def average(samples: Samples) -> float:
    values = [v for _, v in samples]
    total, compensation, mean, incremental = values[0], 0.0, 0.0, False
    for count, x in enumerate(values[1:], 2):
        if not incremental:
            new, new_compensation = add(total, compensation, x)
            if not math.isinf(new):
                total, compensation = new, new_compensation
                continue
            incremental = True
            mean, compensation = total / (count - 1), compensation / (count - 1)
        share = (count - 1) / count
        mean, compensation = add(share * mean, share * compensation, x / count)
    n = len(values)
    return mean + compensation if incremental else total / n + compensation / n


def variance(samples: Samples) -> float:
    mean = mean_c = squares = squares_c = 0.0
    for count, (_, x) in enumerate(samples, 1):
        delta = x - (mean + mean_c)
        mean, mean_c = add(mean, mean_c, delta / count)
        squares, squares_c = add(squares, squares_c, delta * (x - (mean + mean_c)))
    return (squares + squares_c) / len(samples)


def quantile(q: float, values: Sequence[float]) -> float:
    if math.isnan(q):
        return math.nan
    if not 0 <= q <= 1:
        return math.copysign(math.inf, q)
    ordered = sorted(values, key=lambda v: (not math.isnan(v), 0.0 if math.isnan(v) else v))
    rank = q * (len(ordered) - 1)
    lower = max(0, math.floor(rank))
    upper = min(len(ordered) - 1, lower + 1)
    weight = rank - math.floor(rank)
    return ordered[lower] * (1 - weight) + ordered[upper] * weight


def median_distance(samples: Samples) -> float:
    values = [v for _, v in samples]
    if any(map(math.isnan, values)):
        return math.nan
    median = quantile(0.5, values)
    return quantile(0.5, [abs(v - median) for v in values])


def extreme(samples: Samples, better: Callable[[float, float], bool]) -> tuple[int, float]:
    best_t, best = samples[0]
    for t, v in samples:
        if better(v, best) or math.isnan(best):
            best_t, best = t, v
    return best_t, best


def regression(samples: Samples, origin: int) -> tuple[float, float]:
    xs, ys = [(t - origin) / 1000 for t, _ in samples], [v for _, v in samples]
    if all(y == ys[0] for y in ys[1:]):
        return (math.nan, math.nan) if math.isinf(ys[0]) else (0.0, ys[0])
    n = len(xs)
    products = [x * y for x, y in zip(xs, ys, strict=True)]
    sum_x, sum_y, sum_xy, sum_xx = (
        sum(total_of(column)) for column in (xs, ys, products, [x * x for x in xs])
    )
    slope = divide(sum_xy - sum_x * sum_y / n, sum_xx - sum_x * sum_x / n)
    return slope, sum_y / n - slope * sum_x / n


def smooth(samples: Samples, smoothing: float, trend: float) -> float | None:
    if len(samples) < 2:
        return None
    values = [v for _, v in samples]
    previous, level, slope = 0.0, values[0], values[1] - values[0]
    for k, x in enumerate(values[1:]):
        if k:
            slope = trend * (level - previous) + (1 - trend) * slope
        previous, level = level, smoothing * x + (1 - smoothing) * (level + slope)
    return level


def sum_over_time(samples: Samples) -> float:
    total, compensation = total_of([v for _, v in samples])
    return total if math.isinf(total) else total + compensation


def square_root(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def pairs(samples: Samples, counts: Callable[[float, float], bool]) -> float:
    values = [v for _, v in samples]
    return float(sum(counts(a, b) for a, b in itertools.pairwise(values)))


REDUCTIONS: dict[str, Callable[[Samples], float]] = {
    "sum_over_time": sum_over_time,
    "avg_over_time": average,
    "stdvar_over_time": variance,
    "stddev_over_time": lambda s: square_root(variance(s)),
    "count_over_time": lambda s: float(len(s)),
    "present_over_time": lambda s: 1.0,
    "last_over_time": lambda s: s[-1][1],
    "ts_of_last_over_time": lambda s: s[-1][0] / 1000,
    "min_over_time": lambda s: extreme(s, lambda v, best: v < best)[1],
    "max_over_time": lambda s: extreme(s, lambda v, best: v > best)[1],
    "ts_of_min_over_time": lambda s: extreme(s, lambda v, best: v <= best)[0] / 1000,
    "ts_of_max_over_time": lambda s: extreme(s, lambda v, best: v >= best)[0] / 1000,
    "mad_over_time": median_distance,
    "changes": lambda s: pairs(s, lambda a, b: a != b and not (math.isnan(a) and math.isnan(b))),
    "resets": lambda s: pairs(s, lambda a, b: b < a),
}

special = st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 1e308, -1e308, 5e-324])
small_numbers = st.integers(0, 30).map(float)
numbers = st.floats(-1e6, 1e6)
samples_of_any_kind = st.one_of(
    st.lists(small_numbers, max_size=30),
    st.lists(numbers, max_size=30),
    st.lists(st.one_of(small_numbers, special), max_size=20),
    st.lists(st.floats(width=64), max_size=20),
)


@st.composite
def series_lists(draw: st.DrawFn) -> list[Series]:
    lists = draw(st.lists(samples_of_any_kind, max_size=4))
    result = []
    for values in lists:
        gaps = draw(st.lists(st.integers(1, 40_000), min_size=len(values), max_size=len(values)))
        time, series = 1_700_000_000_000, []
        for gap, value in zip(gaps, values, strict=True):
            time += gap
            series.append((time, value))
        result.append(series)
    return result


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    step = draw(st.integers(1, 100_000))
    start = 1_700_000_000_000 + draw(st.integers(0, 200_000))
    return Grid(
        [start + step * k for k in range(draw(st.integers(1, 8)))],
        draw(st.integers(1, 400_000)),
        draw(st.sampled_from([0, 0, 30_000, -60_000])),
    )


def same(got: float | None, expected: float | None) -> bool:
    """Equal to the last bit, NaN for NaN, and -0 is not 0."""
    if got is None or expected is None:
        return got is expected
    if math.isnan(got) or math.isnan(expected):
        return math.isnan(got) and math.isnan(expected)
    return got == expected and math.copysign(1, got) == math.copysign(1, expected)


def check(
    grid: Grid,
    series: Sequence[Series],
    got: list[list[float | None]],
    expected: Callable[[Samples, int], float | None],
) -> None:
    for row, samples in zip(got, series, strict=True):
        for step, value in enumerate(row):
            window = grid.window(samples, step)
            wanted = expected(window, step) if window else None
            assert same(value, wanted), (window, step, value, wanted)


@pytest.mark.parametrize("func", sorted(REDUCTIONS))
@given(grid=grids(), series=series_lists())
def test_reduction_equals_the_scalar_reference(func: str, grid: Grid, series: list[Series]) -> None:
    check(grid, series, run_range(func, grid, series), lambda s, _: REDUCTIONS[func](s))


@pytest.mark.parametrize("func", ["rate", "increase", "delta"])
@given(grid=grids(), series=series_lists())
def test_extrapolation_equals_the_scalar_reference(
    func: str, grid: Grid, series: list[Series]
) -> None:
    def expected(samples: Samples, step: int) -> float | None:
        end = grid.step_times_ms[step] - grid.offset_ms
        seconds = grid.range_ms / 1000 if func == "rate" else 1.0
        return extrapolated(samples, end - grid.range_ms, end, func != "delta", seconds)

    got = run_range(func, grid, series)
    if func != "rate":
        check(grid, series, got, expected)
        return
    # Seconds of the range are summed up in another way, which rounds differently.
    for row, samples in zip(got, series, strict=True):
        for step, value in enumerate(row):
            wanted = expected(grid.window(samples, step), step)
            assert (value is None) == (wanted is None)
            if value is not None and wanted is not None:
                assert same(value, wanted) or value == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("func", ["irate", "idelta"])
@given(grid=grids(), series=series_lists())
def test_change_of_last_two_equals_the_scalar_reference(
    func: str, grid: Grid, series: list[Series]
) -> None:
    got = run_range(func, grid, series)
    check(grid, series, got, lambda s, _: between_last_two(s, func == "irate"))


@given(grid=grids(), series=series_lists())
def test_deriv_equals_the_scalar_reference(grid: Grid, series: list[Series]) -> None:
    got = run_range("deriv", grid, series)
    check(grid, series, got, lambda s, _: regression(s, s[0][0])[0] if len(s) > 1 else None)


@given(grid=grids(), series=series_lists(), ahead=st.floats())
def test_predict_linear_equals_the_scalar_reference(
    grid: Grid, series: list[Series], ahead: float
) -> None:
    def expected(samples: Samples, step: int) -> float | None:
        if len(samples) < 2:
            return None
        slope, intercept = regression(samples, grid.step_times_ms[step])
        return slope * ahead + intercept

    check(grid, series, run_range("predict_linear", grid, series, ahead), expected)


@given(grid=grids(), series=series_lists(), data=st.data())
def test_quantile_over_time_equals_the_scalar_reference(
    grid: Grid, series: list[Series], data: st.DataObject
) -> None:
    any_quantile = st.one_of(st.floats(0, 1), st.floats())
    n_steps = len(grid.step_times_ms)
    quantiles = data.draw(st.lists(any_quantile, min_size=n_steps, max_size=n_steps))
    got = run_range("quantile_over_time", grid, series, quantiles)
    # The reference does not keep the order of -0 and 0.
    unsigned = [[None if value is None else value + 0.0 for value in row] for row in got]
    check(
        grid,
        series,
        unsigned,
        lambda s, step: quantile(quantiles[step], [v for _, v in s]) + 0.0,
    )


factors = st.floats(0, 1, exclude_min=True, exclude_max=True)


@given(grid=grids(), series=series_lists(), smoothing=factors, trend=factors)
def test_double_exponential_smoothing_equals_the_scalar_reference(
    grid: Grid, series: list[Series], smoothing: float, trend: float
) -> None:
    got = run_range("double_exponential_smoothing", grid, series, smoothing, trend)
    check(grid, series, got, lambda s, _: smooth(s, smoothing, trend))
