"""The values of PromQL's literals: numbers, durations in seconds, and quoted strings.

The rules are those of Go's `strconv`, which are part of the language.
"""

import math
import re

from promcompat.core.texts.strconv import MAX_INT64, parse_float, parse_int, quote


def parse_number(text: str) -> float:
    """The value of a number token; an integer with a leading zero is octal, as in Go.

    Raises ValueError with Prometheus' text.
    """
    whole = parse_int(text)
    if whole is not None and whole <= MAX_INT64:
        return float(whole)
    try:
        return parse_float(text)
    except ValueError as exc:
        raise ValueError(f"error parsing number: {exc}") from None


def seconds_to_ms(seconds: float) -> int:
    """Milliseconds of a duration in seconds: rounded to nanoseconds, then truncated."""
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


def unquote(token: str) -> str:
    """The value of a string token that the lexer has accepted.

    `\\xNN` and `\\NNN` are bytes of UTF-8. Prometheus keeps bytes that are not valid UTF-8; in
    the value they are lone surrogates (U+DC80…U+DCFF, Python's `surrogateescape`).
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


def quote_literal(text: str) -> str:
    """The text as a string literal.

    U+FFFD is escaped, since the lexer of Prometheus refuses it bare, as its own printer writes it.
    """
    return quote(text).replace("\ufffd", "\\ufffd")


def quote_rune(char: str) -> str:
    """The character as error texts show it; an empty string is the end of input."""
    if char == "" or char == "\ufffd" or "\ud800" <= char <= "\udfff":
        return "'\ufffd'"
    return quote(char, "'")
