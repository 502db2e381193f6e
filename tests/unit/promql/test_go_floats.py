"""Numbers as Go reads and prints them; expected values were taken from Go itself."""

import math

import pytest

from promql.numbers.go_floats import format_f, format_g, parse_float


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (1.5, "1.5"),
        (-0.1, "-0.1"),
        (100000.5, "100000.5"),
        (123456.0, "123456"),
        (999999.9, "999999.9"),
        (1e6, "1e+06"),
        (1234567.0, "1.234567e+06"),
        (0.0001, "0.0001"),
        (0.00012, "0.00012"),
        (0.00001, "1e-05"),
        (1e100, "1e+100"),
        (-2.5e-7, "-2.5e-07"),
        (5e-324, "5e-324"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_format_g_is_gos_shortest_form(value: float, text: str):
    assert format_g(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500000"), (-1.0, "-1.000000"), (math.inf, "+Inf")]
)
def test_format_f_has_six_decimals(value: float, text: str):
    assert format_f(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.0", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("+1e3", 1000.0),
        ("-0.5", -0.5),
        ("0x1p-2", 0.25),
        ("0X.8p1", 1.0),
        ("1_000", 1000.0),
        ("inf", math.inf),
        ("+Inf", math.inf),
        ("-infinity", -math.inf),
        ("1e-999", 0.0),
    ],
)
def test_parse_float_takes_what_go_takes(text: str, value: float):
    assert parse_float(text) == value


def test_parse_float_takes_nan_without_a_sign():
    value = parse_float("nan")
    assert value is not None
    assert math.isnan(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " 1",
        "1 ",
        "x",
        "+nan",
        "-NaN",
        "1e999",
        "0x1p9999",
        "0x1",
        "1__0",
        "_1",
        "1_",
        "1e",
        "٣",
    ],
)
def test_parse_float_refuses_what_go_refuses(text: str):
    assert parse_float(text) is None
