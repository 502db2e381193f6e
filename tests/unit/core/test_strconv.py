"""Numbers and quoted strings as Go reads and prints them; expected values come from Prometheus."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.texts.strconv import (
    format_decimal,
    format_exponent,
    format_f,
    format_g,
    parse_float,
    parse_int,
    quote,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (1.5, "1.5"),
        (-0.1, "-0.1"),
        (100000.5, "100000.5"),
        (123456.789, "123456.789"),
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
def test_format_g_is_gos_shortest_form(value: float, text: str) -> None:
    assert format_g(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500000"), (-1.0, "-1.000000"), (math.inf, "+Inf")]
)
def test_format_f_has_six_decimals(value: float, text: str) -> None:
    assert format_f(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e21, "1000000000000000000000"),
        (12345678901234567890.0, "12345678901234567000"),
        (1e-7, "0.0000001"),
        (5e-324, "0." + "0" * 323 + "5"),
        (-0.0, "-0"),
        (math.nan, "NaN"),
        (math.inf, "+Inf"),
    ],
)
def test_format_decimal_has_no_exponent(value: float, text: str) -> None:
    assert format_decimal(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0e+00"),
        (-0.0, "-0e+00"),
        (1.0, "1e+00"),
        (-12.5, "-1.25e+01"),
        (1e-7, "1e-07"),
        (1.25e122, "1.25e+122"),
        (-math.inf, "-Inf"),
    ],
)
def test_format_exponent_always_has_one(value: float, text: str) -> None:
    assert format_exponent(value) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1.0),
        ("1.0", 1.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("+1e3", 1000.0),
        ("-0.5", -0.5),
        ("017", 17.0),
        ("0x1p-2", 0.25),
        ("0X.8p1", 1.0),
        ("0x_1p4", 16.0),
        ("0x1p1_0", 1024.0),
        ("1_000", 1000.0),
        ("1e1_0", 1e10),
        ("1_0.5_0", 10.5),
        ("inf", math.inf),
        ("+Inf", math.inf),
        ("-infinity", -math.inf),
        ("1e-999", 0.0),
        ("0x1p-99999", 0.0),
    ],
)
def test_parse_float_takes_what_go_takes(text: str, value: float) -> None:
    assert parse_float(text) == value


def test_parse_float_takes_nan_without_a_sign() -> None:
    assert math.isnan(parse_float("nan"))


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "x", "+nan", "-NaN", "0x1", "0xp4", "0x_p4", "0x1__0p4", "1__0", "_1", "1_",
     "1_.5", "1._5", "1e", "1e_1", "1e1__0", "e5", "1,5", "1e5.0", "٣"],
)  # fmt: skip
def test_parse_float_refuses_what_go_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="syntax") as caught:
        parse_float(text)
    assert str(caught.value) == f'strconv.ParseFloat: parsing "{text}": invalid syntax'


@pytest.mark.parametrize("text", ["1e999", "-1e999", "0x1p9999", "9" * 400])
def test_parse_float_refuses_what_is_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match="range") as caught:
        parse_float(text)
    assert str(caught.value) == f'strconv.ParseFloat: parsing "{text}": value out of range'


def test_a_long_text_is_refused_in_linear_time() -> None:
    with pytest.raises(ValueError, match="syntax"):
        parse_float("1" * 1_000_000 + "x")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10", 10),
        ("+1_0", 10),
        ("-0x1F", -31),
        ("0x_10", 16),
        ("0b11", 3),
        ("0o17", 15),
        ("017", 15),
        ("0_17", 15),
        ("18446744073709551616", 1 << 64),
    ],
)
def test_parse_int_takes_the_base_from_the_prefix(text: str, value: int) -> None:
    assert parse_int(text) == value


@pytest.mark.parametrize("text", ["", "08", "1__0", "_1", "1_", "0x", "0b2", "1.0", "9" * 5_000])
def test_parse_int_refuses_the_rest(text: str) -> None:
    assert parse_int(text) is None


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("plain 'é'", """"plain 'é'\""""),
        ('a"\\\n\x00\x7fü\U000e0001', r'"a\"\\\n\x00\x7fü\U000e0001"'),
        ("\u00a0\u200b", r'"\u00a0\u200b"'),
        ("a\udc80\udcff", r'"a\x80\xff"'),
        ("\ufffd", '"\ufffd"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_quote_of_other_kinds() -> None:
    assert quote("'", "'") == r"'\''"
    assert quote("é\x80\ufffd", is_ascii=True) == r'"\u00e9\u0080\ufffd"'


@given(st.text(max_size=10))
def test_quoted_text_is_printable(text: str) -> None:
    assert quote(text).isprintable()
