"""Times of the native API: ISO 8601 with a zone or Unix seconds in, RFC 3339 in UTC out."""

import re
from datetime import UTC, datetime

import numpy as np

from native_api.contract.problem import FieldError
from promcompat.core.model import IntArray
from promcompat.core.texts.times import format_time_ms

MIN_TIME_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""
MAX_TIME_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the end of RFC 3339's range."""
_ISO8601 = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ]"
    r"(?P<minutes>\d\d:\d\d)(?P<seconds>:\d\d)?(?:[.,](?P<fraction>\d+))?"
    r" ?(?P<zone>[Zz]|[+-]\d\d(?::?\d\d)?)",
    re.ASCII,
)
_UNESCAPED_PLUS = re.compile(r" (?=\d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
TIME_TEXT = "ISO 8601 with a time zone, such as 2026-11-24T05:00:00Z, or Unix seconds"
_RANGE = "is outside the years 1 to 9999"


def parse_time_ms(value: str | int | float) -> int:
    """Unix milliseconds; fractions of a millisecond are truncated in text, rounded in numbers.

    Raises FieldError.
    """
    if isinstance(value, str):
        return parse_iso8601_ms(value)
    milliseconds = value * 1000
    if not MIN_TIME_MS <= milliseconds <= MAX_TIME_MS:
        # NaN fails both comparisons. An int may be too large for a float.
        hint = ""
        if MIN_TIME_MS <= value <= MAX_TIME_MS:
            hint = "; Unix times are in seconds, but this looks like milliseconds"
        raise FieldError(f"{_RANGE}{hint}", TIME_TEXT)
    return round(milliseconds)


def parse_iso8601_ms(text: str) -> int:
    """Unix milliseconds of a date and time of day with a zone, as people write them.

    Beyond RFC 3339: seconds may be absent, a comma may stand before their fraction, a space for
    the `T` and before the zone, and zones are also `+0100` and `+01`. Raises FieldError.
    """
    match = _ISO8601.fullmatch(text)
    if match is None or (match["fraction"] and not match["seconds"]):
        raise FieldError("is not a date and time with a time zone", TIME_TEXT)
    clock = match["minutes"] + (match["seconds"] or ":00")
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{clock}{match['zone'].upper()}")
        seconds = round((moment - _EPOCH).total_seconds())
    except (ValueError, OverflowError) as exc:
        raise FieldError("is a date or time that does not exist", TIME_TEXT) from exc
    milliseconds = seconds * 1000 + int(((match["fraction"] or "") + "000")[:3])
    if not MIN_TIME_MS <= milliseconds <= MAX_TIME_MS:
        raise FieldError(_RANGE, TIME_TEXT)
    return milliseconds


def parse_time_parameter(text: str) -> int:
    """The time of a URL parameter, where Unix seconds are text too. Raises FieldError."""
    if _NUMBER.fullmatch(text):
        return parse_time_ms(float(text))
    # An unescaped `+` of a zone arrives as a space; the one before the time of day is a real space.
    return parse_iso8601_ms(text[:11] + _UNESCAPED_PLUS.sub("+", text[11:]))


def format_optional_time_ms(time_ms: int) -> str | None:
    """RFC 3339 in UTC with milliseconds; None for 0, which stands for no time."""
    return format_time_ms(time_ms) if time_ms else None


def format_times_ms(times_ms: IntArray) -> list[str]:
    """RFC 3339 in UTC with milliseconds of a whole column."""
    texts = np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="ms")
    return [f"{text}Z" for text in texts.tolist()]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
