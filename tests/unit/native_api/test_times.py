"""Times in and out of the native API."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native_api.contract.times import (
    MAX_TIME_MS,
    MIN_TIME_MS,
    format_times_ms,
    parse_iso8601_ms,
    parse_time_ms,
    parse_time_parameter,
)
from promcompat.core.texts.times import format_time_ms


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1795496400, 1_795_496_400_000),
        (1795496400.0015, 1_795_496_400_002),
        (-1.5, -1500),
        ("2026-11-24T05:00:00Z", 1_795_496_400_000),
        ("2026-11-24t05:00:00z", 1_795_496_400_000),
        ("2026-11-24 05:00:00Z", 1_795_496_400_000),
        ("2026-11-24T05:00Z", 1_795_496_400_000),
        ("2026-11-24T06:00:00+0100", 1_795_496_400_000),
        ("2026-11-24T03:30-0130", 1_795_496_400_000),
        ("2026-11-24T05:00:00+00", 1_795_496_400_000),
        ("2026-11-24 06:00:00,25 +01", 1_795_496_400_250),
        ("2026-11-24T06:30:00.123456789+01:30", 1_795_496_400_123),
        ("1969-12-31T23:59:59.5Z", -500),
        ("0001-01-01T00:00:00Z", MIN_TIME_MS),
        ("9999-12-31T23:59:59.999Z", MAX_TIME_MS),
    ],
)
def test_times_are_unix_milliseconds(value: str | float, expected: int) -> None:
    assert parse_time_ms(value) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_795_496_400_000, "looks like milliseconds"),
        (float("nan"), "outside"),
        (float("inf"), "outside"),
        ("2026-11-24T05:00:00", "a time zone"),
        ("2026-11-24", "a time zone"),
        ("2026-02-30T05:00:00Z", "does not exist"),
        ("2026-11-24T25:00:00Z", "does not exist"),
        ("9999-12-31T23:59:59-01:00", "outside"),
        ("0001-01-01T00:00:00+01:00", "does not exist|outside"),
        ("", "a time zone"),
        ("2026-11-24T05:00.5Z", "a time zone"),
        ("2026-11-24T05:00:00+1", "a time zone"),
        ("2026-11-24T05:00:00+25:00", "does not exist"),
        ("2026-11-24T05:00:60Z", "does not exist"),
    ],
)
def test_what_is_no_time_is_refused_with_the_reason(value: str | float, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_time_ms(value)


@given(st.integers(MIN_TIME_MS, MAX_TIME_MS))
def test_what_is_written_is_read_again(time_ms: int) -> None:
    assert parse_iso8601_ms(format_time_ms(time_ms)) == time_ms


def test_parameters_are_seconds_or_text() -> None:
    assert parse_time_parameter("1795496400.5") == 1_795_496_400_500
    assert parse_time_parameter("1.7e9") == 1_700_000_000_000
    # A `+` that was not escaped arrives as a space.
    for zone in ("01:00", "0100", "01"):
        assert parse_time_parameter(f"2026-11-24T06:00:00 {zone}") == 1_795_496_400_000
        assert parse_time_parameter(f"2026-11-24 06:00 {zone}") == 1_795_496_400_000
    assert parse_time_parameter("2026-11-24 00:00:00 -05:00") == 1_795_496_400_000
    assert format_times_ms(np.array([], np.int64)) == []
