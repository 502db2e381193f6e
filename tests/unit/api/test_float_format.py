"""Numbers as Prometheus prints them; the cases were asked of a Prometheus 3.5.3."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.api.float_format import (
    format_json_seconds,
    format_sample_value,
    format_sample_values,
    format_timestamp,
    format_timestamps,
)

CASES = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (0.1, "0.1"),
    (1e-6, "0.000001"),
    (9.99e-7, "9.99e-07"),
    (1e-7, "1e-07"),
    (-1.5e-7, "-1.5e-07"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
    (1.25e22, "1.25e+22"),
    (1e300, "1e+300"),
    (5e-324, "5e-324"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (123456789.125, "123456789.125"),
    (1e15, "1000000000000000"),
    (1e16, "10000000000000000"),
    (12345678901234567890.0, "12345678901234567000"),
    (math.nan, "NaN"),
    (math.inf, "+Inf"),
    (-math.inf, "-Inf"),
]


@pytest.mark.parametrize(("value", "text"), CASES)
def test_sample_values(value: float, text: str) -> None:
    assert format_sample_value(value) == text


def test_columns_print_as_single_values_do() -> None:
    column = np.array([value for value, _ in CASES])
    assert format_sample_values(column) == [text.encode() for _, text in CASES]
    assert format_sample_values(np.empty(0)) == []


@given(st.lists(st.one_of(st.integers(-(10**17), 10**17), st.just(-0.0)), min_size=1))
def test_columns_of_whole_numbers_print_as_single_values_do(numbers: list[float]) -> None:
    column = np.array(numbers, np.float64)
    assert format_sample_values(column) == [
        format_sample_value(value).encode() for value in column.tolist()
    ]


def test_columns_of_any_bits_print_as_single_values_do() -> None:
    """Many floats, and those beside powers of two and ten, whose neighbours are not as near."""
    bits = np.random.default_rng(7).integers(0, 2**64, 20_000, np.uint64)
    powers = np.array(
        [math.ldexp(1, exponent) for exponent in range(-1074, 1024)]
        + [float(f"1e{exponent}") for exponent in range(-323, 309)]
    )
    beside = [np.nextafter(powers, limit) for limit in (0.0, math.inf)]
    column = np.concatenate([bits.view(np.float64), powers, *beside])
    assert format_sample_values(column) == [
        format_sample_value(value).encode() for value in column.tolist()
    ]


def test_timestamps() -> None:
    times = [0, 1500, 30, -1500, -1, 1_700_000_000_000, 1_700_000_000_120]
    assert [format_timestamp(time) for time in times] == [
        "0", "1.500", "0.030", "-1.500", "-0.001", "1700000000", "1700000000.120",
    ]  # fmt: skip
    assert [format_json_seconds(time) for time in times] == [
        "0", "1.5", "0.03", "-1.5", "-0.001", "1700000000", "1700000000.12",
    ]  # fmt: skip


@given(
    st.one_of(
        st.lists(st.integers(0, 10**13)),
        st.lists(st.integers(-(10**13), 10**13)),
        st.lists(st.integers(1, 10**10).map(lambda seconds: seconds * 1000)),
    )
)
def test_columns_of_timestamps_print_as_single_ones_do(times: list[int]) -> None:
    expected = [format_timestamp(time).encode() for time in times]
    assert format_timestamps(np.array(times, np.int64)) == expected
