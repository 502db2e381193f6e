"""Functions of native histograms: the values follow the distribution that the buckets describe."""

import math

import numpy as np
import pytest

from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Annotations, Matrix
from promql.values.matrix_histograms import joined_values
from tests.support.factories import make_labels
from tests.support.histograms import histogram, histogram_vector
from tests.unit.promql.grids import POSITIONS, matrix, rows_of, run_instant

POSITIVE = histogram(count=12, total=100, positive=[(0, 1), (1, 2), (2, 6), (3, 3)])
NEGATIVE = histogram(count=12, total=-100, negative=[(0, 1), (1, 2), (2, 6), (3, 3)])
ZERO = histogram(count=16, total=4, zero=(0.5, 4), positive=[(1, 12)])
CUSTOM = histogram(bounds=[1, 2, 5], count=10, total=20, positive=[(0, 2), (1, 4), (3, 4)])
WITH_NAN = histogram(count=15, total=math.nan, positive=[(0, 12)])
EMPTY = histogram()


def results(func: str, *args: object, annotations: Annotations | None = None) -> list[float]:
    value = run_instant(func, *args, annotations=annotations)  # type: ignore[arg-type]
    assert isinstance(value, Matrix)
    return [float(cell) for cell in value.values[:, 0]]


@pytest.mark.parametrize(
    ("q", "cells", "expected"),
    [
        (0.5, POSITIVE, 2 ** (1 + 3 / 6)),
        (0.1, POSITIVE, 2 ** (0.2 / 2)),
        (0.5, NEGATIVE, -(2 ** (1 + 3 / 6))),
        (0.125, ZERO, 0.25),
        (0.5, CUSTOM, 1.75),
        (0.9, CUSTOM, 5),
        (0.1, CUSTOM, 0.5),
        (1, POSITIVE, 8),
        (0, POSITIVE, 0.5),
        (2, POSITIVE, math.inf),
        (-1, POSITIVE, -math.inf),
        (0.5, EMPTY, math.nan),
        (math.nan, POSITIVE, math.nan),
    ],
)
def test_quantile(q: float, cells: HistogramColumns, expected: float):
    assert results("histogram_quantile", q, histogram_vector(cells)) == pytest.approx(
        [expected], nan_ok=True
    )


def test_fraction_is_the_inverse_of_quantile():
    cells = (POSITIVE, NEGATIVE, ZERO, CUSTOM)
    for q in (0.05, 0.3, 0.5, 0.55):
        values = results("histogram_quantile", q, histogram_vector(*cells))
        found = [
            results("histogram_fraction", -math.inf, value, histogram_vector(cell))[0]
            for value, cell in zip(values, cells, strict=True)
        ]
        assert found == pytest.approx([q] * len(cells))


def test_observations_of_nan_are_told():
    annotations = Annotations()
    vectors = histogram_vector(WITH_NAN)
    assert results("histogram_quantile", 0.4, vectors, annotations=annotations) == pytest.approx(
        [2**-0.5]
    )
    assert math.isnan(results("histogram_quantile", 0.81, vectors, annotations=annotations)[0])
    assert results("histogram_fraction", -1, 5, vectors, annotations=annotations) == [0.8]
    start = "input to histogram_"
    assert annotations.infos == [
        (f"{start}quantile has NaN observations, result is skewed higher", POSITIONS[0]),
        (f"{start}quantile has NaN observations, result is NaN", POSITIONS[0]),
        (
            f"{start}fraction has NaN observations, which are excluded from all fractions",
            POSITIONS[0],
        ),
    ]


def test_count_sum_average_and_variance_of_each():
    vectors = histogram_vector(POSITIVE, ZERO, CUSTOM, EMPTY)
    assert results("histogram_count", vectors) == [12, 16, 10, 0]
    assert results("histogram_sum", vectors) == [100, 4, 20, 0]
    averages = results("histogram_avg", vectors)
    assert averages == pytest.approx([100 / 12, 0.25, 2, math.nan], nan_ok=True)
    middle, mean = math.sqrt(2), 0.25
    variance = (4 * mean**2 + 12 * (middle - mean) ** 2) / 16
    assert results("histogram_stdvar", vectors)[1] == pytest.approx(variance)
    assert results("histogram_stddev", vectors)[1] == pytest.approx(math.sqrt(variance))


def test_floats_are_no_native_histograms():
    floats = matrix([[1.0]])
    for func in ("histogram_count", "histogram_stdvar"):
        assert rows_of(run_instant(func, floats)) == {}


def both(native_labels: dict[str, str]) -> Matrix:
    """A native histogram and two buckets of a classic one `h{n="0"}`."""
    classic = matrix(
        {make_labels("h", n="0", le="1"): [1.0], make_labels("h", n="0", le="+Inf"): [2.0]}
    )
    native = histogram_vector(POSITIVE, **native_labels)
    values, histograms = joined_values((classic, native))
    present = np.concatenate((classic.present, native.present))
    labels = [*classic.labels, *native.labels]
    return Matrix(labels, values, present, np.zeros(len(labels), bool), histograms)


def test_native_and_classic_with_other_labels_both_have_results():
    found = rows_of(run_instant("histogram_quantile", 1, both({"job": "a"})))
    assert found == {make_labels("", n="0", job="a"): [8.0], make_labels("", n="0"): [1.0]}


@pytest.mark.parametrize(
    ("func", "args"), [("histogram_quantile", (1,)), ("histogram_fraction", (0, 1))]
)
def test_native_and_classic_with_the_same_labels_have_none(func: str, args: tuple[float, ...]):
    annotations = Annotations()
    value = run_instant(func, *args, both({}), annotations=annotations)
    assert isinstance(value, Matrix)
    assert not value.present.any()
    text = "vector contains a mix of classic and native histograms"
    assert annotations.warnings == [(text, POSITIONS[len(args)])]


def test_quantiles_are_series_of_their_own():
    found = rows_of(run_instant("histogram_quantiles", histogram_vector(POSITIVE), "q", 0.0, 1.0))
    assert found == {
        make_labels("", n="0", q="0.0"): [0.5],
        make_labels("", n="0", q="1.0"): [8.0],
    }


@pytest.mark.parametrize("func", ["abs", "ceil", "sort", "sgn", "hour"])
def test_functions_of_floats_have_no_result_for_histograms(func: str):
    value = run_instant(func, histogram_vector(POSITIVE))
    assert isinstance(value, Matrix)
    assert not value.present.any()


def test_timestamp_and_absent_see_histograms():
    assert results("timestamp", histogram_vector(POSITIVE)) == [0.0]
    absent = run_instant("absent", histogram_vector(POSITIVE))
    assert isinstance(absent, Matrix)
    assert not absent.present.any()
