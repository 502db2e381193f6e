"""Scans tokens character by character whose errors have a position inside the token.

The functions follow Prometheus' lexer step by step, because its errors quote what it has read.
"""

import re

_DIGITS = "0123456789"
_HEX_DIGITS = _DIGITS + "abcdefABCDEF"
_SEPARATORS = "._eE"
_MUST_NOT_FOLLOW = {".": "_.", "e": "._eE", "_": "._eE"}
_ALPHANUMERIC = re.compile(r"[a-zA-Z0-9_]")


def _is(text: str, pos: int, valid: str) -> bool:
    return pos < len(text) and text[pos] in valid


def _skip(text: str, pos: int, valid: str) -> int:
    while _is(text, pos, valid):
        pos += 1
    return pos


def _skip_one(text: str, pos: int, valid: str) -> int:
    return pos + _is(text, pos, valid)


def scan_number(text: str, start: int) -> tuple[bool, int]:
    """Whether a number token starts at `start`, and the offset up to which it was read."""
    pos, digits = start, _DIGITS
    if text[start : start + 2] in ("0x", "0X"):
        digits = _HEX_DIGITS
        pos = _skip_one(text, start + 2, "_")
    else:
        pos = _skip_one(text, start, "0")
    pos = _skip_one(text, _skip_one(text, pos, "."), digits)
    seen: set[str] = set()
    while _is(text, pos, digits + _SEPARATORS):
        # As in Prometheus, an `e` after a separator is an exponent even in a hexadecimal number.
        if text[pos] not in _SEPARATORS:
            pos = _skip(text, pos, digits)
            continue
        is_valid, pos = _scan_separator(text, pos, seen, digits is _HEX_DIGITS)
        if not is_valid:
            return False, pos
    is_valid = pos > start and _ALPHANUMERIC.match(text, pos) is None
    return is_valid, pos


def _scan_separator(text: str, pos: int, seen: set[str], is_hex: bool) -> tuple[bool, int]:
    kind = text[pos].lower()
    pos += 1
    if kind in seen and kind != "_":
        return False, pos
    seen.add(kind)
    if kind == "e":
        pos = _skip_one(text, pos, "+-")
    if _is(text, pos, _MUST_NOT_FOLLOW[kind]):
        return False, pos + 1
    is_valid = not is_hex if kind == "." else pos < len(text)
    return is_valid, pos


def scan_duration(text: str, pos: int) -> tuple[bool, int]:
    """As `scan_number`, for the rest of a duration token after its first digits."""
    units = "smhdwy"
    while True:
        if not _is(text, pos, units):
            return False, pos
        # An invalid unit such as `hs` is reported when the duration is parsed.
        pos = _skip_one(text, pos + 1, "s")
        if not _is(text, pos, _DIGITS):
            break
        pos = _skip(text, pos, _DIGITS)
        units = "smhdw"
    if _ALPHANUMERIC.match(text, pos):
        return False, pos + 1
    return True, pos


_SURROGATE = r"(?![dD][89a-fA-F])"
_ESCAPES = (
    r"[abfnrtv\\]|[0-3][0-7]{2}|x[0-9a-fA-F]{2}"
    rf"|u{_SURROGATE}[0-9a-fA-F]{{4}}"
    rf"|U(?:0000{_SURROGATE}[0-9a-fA-F]{{4}}|000[1-9a-fA-F][0-9a-fA-F]{{4}}|0010[0-9a-fA-F]{{4}})"
)
_BODIES = {
    "`": re.compile(r"[^`\ufffd\ud800-\udfff]*+"),
    '"': re.compile(rf"""(?:[^"\\\n\ufffd\ud800-\udfff]++|\\(?:{_ESCAPES}|"))*"""),
    "'": re.compile(rf"""(?:[^'\\\n\ufffd\ud800-\udfff]++|\\(?:{_ESCAPES}|'))*"""),
}
_DIGIT_ESCAPES = {
    **dict.fromkeys("01234567", (0, 3, "01234567")),
    "x": (1, 2, _HEX_DIGITS),
    "u": (1, 4, _HEX_DIGITS),
    "U": (1, 8, _HEX_DIGITS),
}
"""By first character of an escape: offset of its digits, their number, and the valid digits."""


def string_fault(text: str, start: int) -> tuple[int, str]:
    """The end of the string token at `start`, and the error in it, "" if there is none."""
    opening = text[start]
    body = _BODIES[opening].match(text, start + 1)
    end = body.end() if body else start + 1
    char = text[end : end + 1]
    if char == opening:
        return end + 1, ""
    if char == "" or char == "\n":
        return end, f"unterminated {'raw' if opening == '`' else 'quoted'} string"
    if char == "\\":
        return end, _escape_fault(text, end + 1)
    return end, "invalid UTF-8 rune"


def _escape_fault(text: str, pos: int) -> str:
    char = text[pos : pos + 1]
    if not char:
        return "escape sequence not terminated"
    if char not in _DIGIT_ESCAPES:
        return f"unknown escape sequence {_code_point(char)}"
    skipped, count, valid = _DIGIT_ESCAPES[char]
    for digit_pos in range(pos + skipped, pos + skipped + count):
        digit = text[digit_pos : digit_pos + 1]
        if not digit:
            return "escape sequence not terminated"
        if digit not in valid:
            return f"illegal character {_code_point(digit)} in escape sequence"
    return "escape sequence is an invalid Unicode code point"


def _code_point(char: str) -> str:
    code = f"U+{ord(char):04X}"
    return f"{code} '{char}'" if char.isprintable() else code
