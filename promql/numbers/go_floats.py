"""Numbers as Go reads and writes them, for `le` labels and for the texts of errors and warnings."""

import math
import re

_DECIMAL = r"(?:[0-9](?:_?[0-9])*\.?(?:[0-9](?:_?[0-9])*)?|\.[0-9](?:_?[0-9])*)"
_FLOAT = re.compile(rf"[+-]?{_DECIMAL}(?:[eE][+-]?[0-9](?:_?[0-9])*)?\Z")
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX]_?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*\.?(?:[0-9a-fA-F](?:_?[0-9a-fA-F])*)?"
    r"|\.[0-9a-fA-F](?:_?[0-9a-fA-F])*)[pP][+-]?[0-9](?:_?[0-9])*\Z"
)
_WORD = re.compile(r"(?:nan|[+-]?inf(?:inity)?)\Z", re.IGNORECASE)
_EXPONENT_FROM = 6
"""Whole numbers of more than six digits are written with an exponent."""


def parse_float(text: str) -> float | None:
    """The value `strconv.ParseFloat` gives, None where it fails (out of range is a failure)."""
    if _WORD.match(text):
        return float(text)
    if _FLOAT.match(text):
        value = float(text)
    elif _HEX_FLOAT.match(text):
        try:
            value = float.fromhex(text.replace("_", ""))
        except OverflowError:
            return None
    else:
        return None
    return None if math.isinf(value) else value


def format_g(value: float) -> str:
    """`fmt.Sprintf("%g", value)`: the shortest digits that read back, exponents of two digits."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    mantissa, _, exponent = f"{value!r}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    if not digits.strip("0"):
        return sign + "0"
    leading_zeros = len(whole + fraction) - len((whole + fraction).lstrip("0"))
    power = int(exponent or 0) + len(whole) - 1 - leading_zeros
    digits = digits.rstrip("0")
    if -4 <= power < _EXPONENT_FROM:
        return sign + _positional(digits, power)
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'-' if power < 0 else '+'}{abs(power):02d}"


def _positional(digits: str, power: int) -> str:
    if power < 0:
        return "0." + "0" * (-power - 1) + digits
    if len(digits) <= power + 1:
        return digits + "0" * (power + 1 - len(digits))
    return f"{digits[: power + 1]}.{digits[power + 1 :]}"


def format_f(value: float) -> str:
    """`fmt.Sprintf("%f", value)`: six decimals."""
    if math.isfinite(value):
        return f"{value:.6f}"
    return format_g(value)
