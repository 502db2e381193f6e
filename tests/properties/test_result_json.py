"""Bulk rendering equals the plain way of writing every point by itself."""

import json
import math
from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from promcompat.api.float_format import format_sample_value, format_sample_values
from promcompat.api.result_json import query_data_parts
from promcompat.core.model import SampleBlock
from promql.values.matrix import Matrix, QueryResult, ScalarGrid
from tests.support.factories import make_labels

floats = st.one_of(
    st.floats(),
    st.integers(-(10**17), 10**17).map(float),
    st.decimals(-100, 100, places=3).map(float),
    st.sampled_from([1e-5, 1e-6, 1e16, 1e21, 9007199254740993.0, 0.0, -0.0]),
)
times = st.integers(-(10**12), 2 * 10**12)


def go_format(value: float) -> str:
    """Go's formatting, written down without any shortcut."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value != 0 and not 1e-6 <= abs(value) < 1e21:
        mantissa, exponent = f"{Decimal(repr(value)):e}".lower().split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}e{exponent[0]}{exponent[1:].zfill(2)}"
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def point(time: int, value: float) -> list[object]:
    return [time / 1000, go_format(value)]


@given(st.lists(floats, max_size=40))
def test_columns_of_values(values: list[float]) -> None:
    expected = [go_format(value) for value in values]
    assert [format_sample_value(value) for value in values] == expected
    texts = format_sample_values(np.array(values, np.float64))
    assert [text.decode() for text in texts] == expected


@given(floats.filter(math.isfinite))
def test_printed_values_read_back_to_the_same_bits(value: float) -> None:
    text = format_sample_value(value)
    assert float(text).hex() == value.hex()


@given(
    st.integers(0, 4).flatmap(
        lambda rows: st.integers(1, 4).flatmap(
            lambda steps: st.tuples(
                st_numpy.arrays(np.float64, (rows, steps), elements=floats),
                st_numpy.arrays(np.bool_, (rows, steps)),
                st.lists(times, min_size=steps, max_size=steps),
            )
        )
    )
)
def test_matrices(drawn: tuple[np.ndarray, np.ndarray, list[int]]) -> None:
    values, present, steps = drawn
    labels = [make_labels("m", i=str(i)) for i in range(len(values))]
    result = QueryResult(Matrix.of(labels, values, present), np.array(steps, np.int64), True)
    expected = [
        {
            "metric": labels[row].as_dict(),
            "values": [
                point(time, float(values[row, step]))
                for step, time in enumerate(steps)
                if present[row, step]
            ],
        }
        for row in range(len(values))
        if present[row].any()
    ]
    assert json.loads(b"".join(query_data_parts(result, False))) == {
        "resultType": "matrix",
        "result": expected,
    }


@given(st.lists(st.lists(st.tuples(times, floats), max_size=3), max_size=4))
def test_raw_samples(series: list[list[tuple[int, float]]]) -> None:
    rows = [row for points in series for row in points]
    block = SampleBlock(
        tuple(make_labels("m", i=str(i)) for i in range(len(series))),
        np.array([time for time, _ in rows], np.int64),
        np.array([value for _, value in rows], np.float64),
        np.cumsum([0, *map(len, series)], dtype=np.int64),
    )
    result = QueryResult(block, np.array([0]), False)
    expected = [
        {"metric": {"__name__": "m", "i": str(i)}, "values": [point(*row) for row in points]}
        for i, points in enumerate(series)
        if points
    ]
    assert json.loads(b"".join(query_data_parts(result, False)))["result"] == expected


@given(floats, times)
def test_instant_vectors_and_scalars(value: float, time: int) -> None:
    grid = np.array([[value]])
    matrix = Matrix.of((make_labels("m"),), grid, np.ones((1, 1), bool))
    vector = QueryResult(matrix, np.array([time]), False)
    assert json.loads(b"".join(query_data_parts(vector, False)))["result"] == [
        {"metric": {"__name__": "m"}, "value": point(time, value)}
    ]
    scalar = QueryResult(ScalarGrid(grid[0]), np.array([time]), False)
    seconds, text = json.loads(b"".join(query_data_parts(scalar, False)))["result"]
    assert seconds == time / 1000
    assert "e" not in text
