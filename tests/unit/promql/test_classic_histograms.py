"""`histogram_quantile` and `histogram_fraction` against a one-step reference, and their texts."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import ExecutionError
from promcompat.core.model import Labels
from promql.values.annotation_texts import annotation_texts
from promql.values.forced_monotonicity import ForcedMonotonicity
from promql.values.matrix import Annotations
from tests.support.factories import make_labels
from tests.unit.promql.grids import POSITIONS, matrix, rows_of, run_instant

Buckets = list[tuple[float, float]]


def almost_equal(a: float, b: float) -> bool:
    if a == b or (math.isnan(a) and math.isnan(b)):
        return True
    smallest = 2.2250738585072014e-308
    if a == 0 or b == 0 or abs(a) + abs(b) < smallest:
        return abs(a - b) < 1e-12 * smallest
    return abs(a - b) / min(abs(a) + abs(b), 1.7976931348623157e308) < 1e-12


def quantile_of(q: float, buckets: Buckets) -> tuple[float, bool]:
    if math.isnan(q) or not 0 <= q <= 1:
        return (q if math.isnan(q) else math.copysign(math.inf, q)), False
    if buckets[-1][0] != math.inf:
        return math.nan, False
    counts, forced, previous = [buckets[0][1]], False, buckets[0][1]
    for _, count in buckets[1:]:
        if not almost_equal(previous, count):
            if count < previous:
                forced = True
            else:
                previous = count
        counts.append(previous)
    if len(counts) < 2 or counts[-1] == 0:
        return math.nan, False
    rank = q * counts[-1]
    low, high = 0, len(counts) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if counts[middle] >= rank else (middle + 1, high)
    if low == len(counts) - 1:
        return buckets[-2][0], forced
    if low == 0 and buckets[0][0] <= 0:
        return buckets[0][0], forced
    start, before = (buckets[low - 1][0], counts[low - 1]) if low else (0.0, 0.0)
    share = divide(rank - before, counts[low] - before)
    return start + (buckets[low][0] - start) * share, forced


def divide(a: float, b: float) -> float:
    if b:
        return a / b
    if a == 0 or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1, b)


def fraction_of(lower: float, upper: float, buckets: Buckets) -> float:
    total = buckets[-1][1]
    if buckets[-1][0] != math.inf or total == 0 or math.isnan(lower) or math.isnan(upper):
        return math.nan
    if lower >= upper:
        return 0.0
    return divide(rank_of(upper, buckets) - rank_of(lower, buckets), total)


def rank_of(bound: float, buckets: Buckets) -> float:
    rank, total = 0.0, buckets[-1][1]
    start = 0.0 if buckets[0][0] > 0 else -math.inf
    for end, count in buckets:
        if start >= bound:
            found = rank
            break
        if end > bound:
            share = divide((count - rank) * (bound - start), end - start)
            found = count if start == -math.inf else rank + share
            break
        rank, start = count, end
    else:
        return total
    return total if found > total else found


def histogram(
    rows: dict[str, Sequence[float | None]], **labels: str
) -> dict[Labels, Sequence[float | None]]:
    return {make_labels("h_bucket", le=le, **labels): row for le, row in rows.items()}


def one_step(rows: dict[str, float]) -> dict[Labels, Sequence[float | None]]:
    return histogram({le: [count] for le, count in rows.items()})


def quantile(q: float, rows: dict[str, float]) -> float:
    result = rows_of(run_instant("histogram_quantile", q, matrix(one_step(rows))))
    ((value,),) = result.values()
    return value


counts = st.one_of(
    st.integers(0, 20).map(float), st.floats(0, 1e9), st.sampled_from([math.nan, math.inf, 1e15])
)
bounds = st.sampled_from(["-5", "-1", "0", "0.1", "1", "1.0", "2.5", "10", "+Inf", "Inf"])


@st.composite
def histograms(draw: st.DrawFn) -> dict[Labels, Sequence[float | None]]:
    n_steps, rows = 3, {}
    for job in ("a", "b", "c"):
        for le in draw(st.lists(bounds, unique=True, max_size=8)):
            cell = st.one_of(counts, counts, counts, st.none())
            row = draw(st.lists(cell, min_size=n_steps, max_size=n_steps))
            rows.update(histogram({le: row}, job=job))
    return rows


def buckets_at(rows: dict[Labels, Sequence[float | None]], step: int) -> dict[str, Buckets]:
    merged: dict[str, dict[float, float]] = {}
    for labels, row in rows.items():
        count = row[step]
        if count is not None:
            group = merged.setdefault(labels.get("job"), {})
            bound = float(labels.get("le"))
            group[bound] = group[bound] + count if bound in group else count
    return {job: sorted(group.items(), key=lambda b: b[0]) for job, group in merged.items()}


def same(got: float | None, expected: float | None) -> bool:
    if got is None or expected is None:
        return got is expected
    return got == expected or (math.isnan(got) and math.isnan(expected))


@given(
    rows=histograms(), q=st.lists(st.one_of(st.floats(0, 1), st.floats()), min_size=3, max_size=3)
)
def test_quantile_equals_the_reference(rows: dict[Labels, Sequence[float | None]], q: list[float]):
    annotations = Annotations()
    grid = matrix(rows) if rows else matrix([[None] * 3])
    result = rows_of(
        run_instant("histogram_quantile", q, grid, step_times_ms=(0, 1, 2), annotations=annotations)
    )
    any_forced = False
    for step in range(3):
        expected = buckets_at(rows, step)
        for labels, row in result.items():
            job = labels.get("job")
            wanted, forced = (
                quantile_of(q[step], expected[job]) if job in expected else (None, False)
            )
            assert same(row[step], wanted), (step, labels, row[step], wanted)
            any_forced |= forced
    assert bool(annotations.infos) == any_forced


@given(rows=histograms(), lower=st.floats(-10, 20), upper=st.floats())
def test_fraction_equals_the_reference(
    rows: dict[Labels, Sequence[float | None]], lower: float, upper: float
):
    grid = matrix(rows) if rows else matrix([[None] * 3])
    result = rows_of(run_instant("histogram_fraction", lower, upper, grid, step_times_ms=(0, 1, 2)))
    for step in range(3):
        expected = buckets_at(rows, step)
        for labels, row in result.items():
            job = labels.get("job")
            wanted = fraction_of(lower, upper, expected[job]) if job in expected else None
            assert same(row[step], wanted), (step, labels, row[step], wanted)


@pytest.mark.parametrize(
    ("q", "rows", "expected"),
    [
        (0.5, {"1": 10.0, "2": 20.0, "+Inf": 20.0}, 1.0),
        (0.75, {"1": 10.0, "2": 20.0, "+Inf": 20.0}, 1.5),
        (0.25, {"1": 10.0, "2": 20.0, "+Inf": 20.0}, 0.5),
        (0.99, {"1": 10.0, "2": 11.0, "+Inf": 20.0}, 2.0),
        (0.1, {"-1": 10.0, "2": 11.0, "+Inf": 20.0}, -1.0),
        (0.1, {"0": 10.0, "2": 11.0, "+Inf": 20.0}, 0.0),
        (0.0, {"1": 0.0, "2": 5.0, "+Inf": 5.0}, math.nan),
        (0.5, {"1": 10.0, "2": 20.0}, math.nan),
        (0.5, {"+Inf": 20.0}, math.nan),
        (0.5, {"1": 0.0, "+Inf": 0.0}, math.nan),
        (0.5, {"1": 5.0, "1.0": 5.0, "2": 20.0, "inf": 20.0}, 1.0),
        (0.5, {"0x1p0": 10.0, "2": 20.0, "+Inf": 20.0}, 1.0),
    ],
)
def test_quantile_in_special_cases(q: float, rows: dict[str, float], expected: float):
    assert quantile(q, rows) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("q", "formatted", "expected"),
    [(1.01, "1.01", math.inf), (-1.0, "-1", -math.inf), (math.nan, "NaN", math.nan)],
)
def test_a_quantile_outside_zero_to_one_warns_even_without_data(
    q: float, formatted: str, expected: float
):
    assert quantile(q, {"1": 10.0, "+Inf": 20.0}) == pytest.approx(expected, nan_ok=True)
    annotations = Annotations()
    run_instant("histogram_quantile", q, matrix({}), annotations=annotations)
    text = f"quantile value should be between 0 and 1, got {formatted}"
    assert annotations.warnings == [(text, POSITIONS[0])]


@pytest.mark.parametrize(
    ("func", "args", "position"),
    [("histogram_quantile", (0.5,), 1), ("histogram_fraction", (0.0, 1.0), 2)],
)
def test_a_bucket_without_a_usable_bound_is_left_out_with_a_warning(
    func: str, args: tuple[float, ...], position: int
):
    rows = one_step({"1": 10.0, "+Inf": 20.0, "x": 5.0}) | {make_labels("h_bucket"): [3.0]}
    rows[make_labels("h_bucket", le="bad", job="gone")] = [None]
    annotations = Annotations()
    result = run_instant(func, *args, matrix(rows), annotations=annotations)
    assert list(rows_of(result)) == [Labels()]
    texts = [f'bucket label "le" is missing or has a malformed value of "{le}"' for le in ("x", "")]
    assert annotations.warnings == [(text, POSITIONS[position]) for text in texts]
    delayed = Annotations()
    run_instant(func, *args, matrix(rows), annotations=delayed, delayed=True)
    named = [f'{text} for metric name "h_bucket"' for text in texts]
    assert delayed.warnings == [(text, POSITIONS[position]) for text in named]


def forced_text(rows: dict[str, Sequence[float | None]], *, delayed: bool) -> str:
    annotations = Annotations()
    run_instant(
        "histogram_quantile",
        0.5,
        matrix(histogram(rows)),
        step_times_ms=range(0, 60_000 * len(rows["1"]), 60_000),
        annotations=annotations,
        delayed=delayed,
    )
    assert {pos for _, pos in annotations.infos} <= {POSITIONS[1]}
    _, infos = annotation_texts(annotations, "histogram_quantile(0.5, h)")
    return "".join(infos)


def test_counts_that_fall_are_forced_up_with_an_info():
    annotations = Annotations()
    grid = matrix(one_step({"1": 10.0, "2": 5.0, "+Inf": 20.0}))
    run_instant("histogram_quantile", 0.9, grid, annotations=annotations)
    text = (
        "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io"
        "/docs/prometheus/latest/querying/functions/#histogram_quantile)"
    )
    assert annotations.infos == [(text, POSITIONS[1])]
    assert quantile(0.9, {"1": 10.0, "2": 5.0, "+Inf": 20.0}) == 2.0


def test_rounding_differences_are_taken_out_without_an_info():
    rows = {"1": [10.0], "2": [10.0 - 1e-13], "+Inf": [20.0]}
    assert forced_text(rows, delayed=False) == ""


def test_forced_counts_are_told_once_with_their_extent():
    rows = {
        "1": [10.0, 10.0, 4.0],
        "2": [5.0, 9.5, 5.0],
        "5": [8.0, 10.0, 6.0],
        "+Inf": [20.0, 20.0, 20.0],
    }
    text = forced_text(rows, delayed=True)
    assert 'for metric name "h_bucket", from buckets 2 to 5, with a max diff of 5, over 2 ' in text
    assert "samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:" in text
    assert "for metric name" not in forced_text(rows, delayed=False)


def test_times_of_forced_counts_are_rounded_towards_1970():
    told = ForcedMonotonicity(2, -1_500, 1_500, 1.0, 2.0, 5.0)
    assert "samples from 1969-12-31T23:59:59Z to 1970-01-01T00:00:01Z" in told.text()


def test_histograms_of_two_names_with_equal_labels_merge_or_are_refused():
    rows = {
        make_labels(name, le=le): row
        for name, row in (("a", [1.0, None]), ("b", [None, 1.0]))
        for le in ("1", "+Inf")
    }
    result = run_instant("histogram_quantile", 0.5, matrix(rows), step_times_ms=(0, 1))
    assert rows_of(result) == {Labels(): [0.5, 0.5]}
    both = {labels: [1.0] for labels in rows}
    with pytest.raises(ExecutionError):
        run_instant("histogram_quantile", 0.5, matrix(both))
    delayed = run_instant("histogram_quantile", 0.5, matrix(both), delayed=True)
    assert set(rows_of(delayed)) == {make_labels("a"), make_labels("b")}


@pytest.mark.parametrize(
    "func",
    [f"histogram_{part}" for part in ("avg", "count", "stddev", "stdvar", "sum")],
)
def test_functions_of_native_histograms_skip_floats(func: str):
    assert rows_of(run_instant(func, matrix([[1.0]]))) == {}
