"""The literals of PromQL, both ways: numbers and quoted strings.

The rules are those of Go's `strconv`: what it accepts and how it prints is part of the language.
"""

import math
import re
from decimal import Decimal

_MAX_INT64 = (1 << 63) - 1
_OCTAL = re.compile(r"0(_?[0-7])+")


def parse_number(text: str) -> float:
    """The value of a number token; an integer with a leading zero is octal, as in Go.

    Raises ValueError in Prometheus' words.
    """
    digits = text.lower()
    if digits.startswith("0x"):
        return _parse_hexadecimal(text)
    if _OCTAL.fullmatch(digits):
        value = int(digits.replace("_", ""), 8)
        if value <= _MAX_INT64:
            return float(value)
    try:
        # The lexer lets pass no other misplaced underscore.
        number = float(digits if digits.endswith("_") else digits.replace("_", ""))
    except ValueError:
        raise ValueError(_number_fault(text, "invalid syntax")) from None
    if math.isinf(number) and digits != "inf":
        raise ValueError(_number_fault(text, "value out of range"))
    return number


def _parse_hexadecimal(text: str) -> float:
    try:
        value = int(text, 16)
    except ValueError:
        raise ValueError(_number_fault(text, "invalid syntax")) from None
    # Go falls back to its float parser, which wants a `p` exponent in a hexadecimal number.
    if value > _MAX_INT64:
        raise ValueError(_number_fault(text, "invalid syntax"))
    return float(value)


def _number_fault(text: str, reason: str) -> str:
    return f"error parsing number: strconv.ParseFloat: parsing {quote(text)}: {reason}"


def format_number(value: float) -> str:
    """The shortest decimal that reads back as `value`, never with an exponent."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def format_float(value: float) -> str:
    """Go's `%f`."""
    return f"{value:.6f}" if math.isfinite(value) else format_number(value)


def seconds_to_ms(seconds: float) -> int:
    """Whole milliseconds of a duration in seconds, rounded to the nanosecond and then cut."""
    nanoseconds = abs(seconds * 1e9)
    whole = math.floor(nanoseconds)
    whole += nanoseconds - whole >= 0.5
    milliseconds = whole // 1_000_000
    return -milliseconds if seconds < 0 else milliseconds


_SIMPLE_ESCAPES = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    "'": b"'",
    '"': b'"',
}
ESCAPE = re.compile(
    r"""\\(?:(?P<simple>[abfnrtv\\'"])|(?P<octal>[0-7]{3})|x(?P<byte>[0-9a-fA-F]{2})"""
    r"""|u(?P<short>[0-9a-fA-F]{4})|U(?P<long>[0-9a-fA-F]{8}))"""
)
"""One escape sequence of a quoted string."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def unquote(token: str) -> str:
    """The value of a string token the lexer has accepted.

    `\\xNN` and `\\NNN` are bytes of UTF-8; those that make no UTF-8 stand in the value as lone
    surrogates (U+DC80…U+DCFF, Python's `surrogateescape`), for Prometheus keeps them.
    """
    body = token[1:-1]
    if token[0] == "`" or "\\" not in body:
        return body
    pieces, end = [], 0
    for escape in ESCAPE.finditer(body):
        pieces.append(body[end : escape.start()].encode())
        pieces.append(_escaped_bytes(escape))
        end = escape.end()
    pieces.append(body[end:].encode())
    return b"".join(pieces).decode(errors="surrogateescape")


def is_utf8(text: str) -> bool:
    """Whether the text has none of the lone surrogates that stand for bytes that are no UTF-8."""
    return _LONE_SURROGATE.search(text) is None


def to_unicode(text: str) -> str:
    """The text with U+FFFD for each byte that is no UTF-8, as Go reads and encodes such a byte."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def _escaped_bytes(escape: re.Match[str]) -> bytes:
    match escape.lastgroup:
        case "simple":
            return _SIMPLE_ESCAPES[escape["simple"]]
        case "octal":
            return bytes((int(escape["octal"], 8),))
        case "byte":
            return bytes((int(escape["byte"], 16),))
        case _:
            return chr(int(escape["short"] or escape["long"], 16)).encode()


_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF
_QUOTED_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def _quote_with(text: str, delimiter: str) -> str:
    return delimiter + "".join(_quote_character(char, delimiter) for char in text) + delimiter


def _quote_character(char: str, delimiter: str) -> str:
    if char == delimiter:
        return "\\" + delimiter
    if char in _QUOTED_ESCAPES:
        return _QUOTED_ESCAPES[char]
    # Prometheus prints U+FFFD bare, but its lexer refuses it bare; the escape reads back.
    if char.isprintable() and char != "\ufffd":
        return char
    code = ord(char)
    if code < 0x80 or _FIRST_BYTE <= code <= _LAST_BYTE:
        return f"\\x{code & 0xFF:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote(text: str) -> str:
    """The text as a double-quoted string (Go's `%q`)."""
    return _quote_with(text, '"')


def quote_rune(char: str) -> str:
    """The character as error texts show it; an empty string is the end of input."""
    if char == "" or char == "\ufffd" or "\ud800" <= char <= "\udfff":
        return "'\ufffd'"
    return _quote_with(char, "'")
