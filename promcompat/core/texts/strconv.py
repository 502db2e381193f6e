"""Numbers and quoted strings as texts, by the rules of Go's `strconv` and `fmt` packages.

Prometheus reads and writes them by these packages in queries, parameters, `le` labels, templates
and error texts. See https://pkg.go.dev/strconv and https://pkg.go.dev/fmt.
"""

import math
import re
from decimal import Decimal
from typing import Final

MAX_INT64: Final = (1 << 63) - 1

_DIGITS: Final = "[0-9]++(?:_[0-9]++)*"
_HEX_DIGITS: Final = "[0-9a-f]++(?:_[0-9a-f]++)*"
_FLOAT: Final = re.compile(
    rf"[+-]?(?:inf(?:inity)?|(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:e[+-]?{_DIGITS})?)|nan",
    re.IGNORECASE | re.ASCII,
)
_HEX_FLOAT: Final = re.compile(
    rf"[+-]?0x(?:_?{_HEX_DIGITS}(?:\.(?:{_HEX_DIGITS})?)?|\.{_HEX_DIGITS})p[+-]?{_DIGITS}",
    re.IGNORECASE | re.ASCII,
)
_INTEGER: Final = re.compile(
    rf"[+-]?(?:0x_?{_HEX_DIGITS}|0b(?:_?[01]++)+|(?P<octal>0)o?(?:_?[0-7]++)+|0|[1-9](?:_?[0-9]++)*)",
    re.IGNORECASE | re.ASCII,
)
_LONGEST_INTEGER: Final = 4_000
"""Python refuses to convert longer ones, which are out of every range anyway."""

_ESCAPES: Final = {
    "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
    "\\": "\\\\",
}  # fmt: skip


def parse_float(text: str) -> float:
    """`strconv.ParseFloat(text, 64)`.

    Unlike `float`, it reads hexadecimal floats such as `0x1p-2`, but no spaces, no signed NaN and
    nothing out of range. Raises ValueError in Go's words.
    """
    try:
        if _FLOAT.fullmatch(text):
            value = float(text)
            if math.isinf(value) and "n" not in text.lower():
                raise OverflowError
            return value
        if _HEX_FLOAT.fullmatch(text):
            return float.fromhex(text.replace("_", ""))
    except OverflowError:
        fault = "value out of range"
    else:
        fault = "invalid syntax"
    raise ValueError(f"strconv.ParseFloat: parsing {quote(text)}: {fault}")


def parse_int(text: str) -> int | None:
    """The integer that `strconv.ParseInt(text, 0, …)` reads, of any size; the prefix is its base.

    A leading zero alone means octal. None for other texts and for more than 4,000 characters.
    """
    found = _INTEGER.fullmatch(text)
    if found is None or len(text) > _LONGEST_INTEGER:
        return None
    return int(text, 8 if found["octal"] else 0)


def format_g(value: float) -> str:
    """`%g` and `%v`: the shortest digits that read back, with an exponent from 1e6 on."""
    if 1e-4 <= abs(value) < 1e6 or not value:
        return format_decimal(value)
    return format_exponent(value)


def format_open_metrics(value: float) -> str:
    """A number as OpenMetrics has it: as `%g`, always with a point, and zero without a sign."""
    text = format_g(value or 0.0)
    return f"{text}.0" if math.isfinite(value) and not set(".e") & set(text) else text


def format_decimal(value: float) -> str:
    """`strconv.FormatFloat(value, 'f', -1, 64)`: the same digits, never with an exponent."""
    if not math.isfinite(value):
        return _format_special(value)
    text = repr(value)
    if "e" in text:
        text = f"{Decimal(text):f}"
    return text.removesuffix(".0")


def format_exponent(value: float) -> str:
    """`strconv.FormatFloat(value, 'e', -1, 64)`: always with an exponent, of two digits or more."""
    if not math.isfinite(value):
        return _format_special(value)
    number = Decimal(repr(value)).normalize()
    sign, digits, _ = number.as_tuple()
    first, *rest = map(str, digits)
    fraction = f".{''.join(rest)}" if rest else ""
    exponent = number.adjusted() if value else 0
    return f"{'-' if sign else ''}{first}{fraction}e{exponent:+03d}"


def format_f(value: float) -> str:
    """`%f`: six decimals."""
    return f"{value:.6f}" if math.isfinite(value) else _format_special(value)


def _format_special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


def quote(text: str, mark: str = '"', *, is_ascii: bool = False) -> str:
    """`%q`, or `%+q` with `is_ascii`; of a single character with `mark` `'`.

    Lone surrogates U+DC80…U+DCFF stand for bytes that are not UTF-8, as in `surrogateescape`.
    """
    if text.isprintable() and mark not in text and "\\" not in text and not is_ascii:
        return f"{mark}{text}{mark}"
    return mark + "".join(_escape(char, mark, is_ascii) for char in text) + mark


def _escape(char: str, mark: str, is_ascii: bool) -> str:
    if char == mark:
        return "\\" + mark
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() and (char.isascii() or not is_ascii):
        return char
    code = ord(char)
    if code < 0x80 or 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def is_utf8(text: str) -> bool:
    """Whether the text has no lone surrogate, which stands for a byte that is not UTF-8."""
    return _LONE_SURROGATE.search(text) is None


def to_unicode(text: str) -> str:
    """The text with U+FFFD for each byte that is not UTF-8, as Go reads and encodes such a byte."""
    return _LONE_SURROGATE.sub("\ufffd", text)
