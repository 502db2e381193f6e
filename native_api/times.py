"""Times of the native API: RFC 3339 or Unix seconds in, RFC 3339 in UTC out."""

import math
import re
from datetime import UTC, datetime

import numpy as np

from promcompat.core.model import IntArray

MIN_TIME_MS = -62_135_596_800_000
"""0001-01-01T00:00:00Z."""
MAX_TIME_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: what RFC 3339 can write."""
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_EXPECTED = "expected RFC 3339 with a zone, such as 2026-11-24T05:00:00Z, or Unix seconds"
_RANGE = "is outside the years 1 to 9999"


def parse_time_ms(value: str | int | float) -> int:
    """Unix milliseconds; fractions of one are cut off from text and rounded from numbers.

    Raises ValueError with a text for people.
    """
    if isinstance(value, str):
        return parse_rfc3339_ms(value)
    milliseconds = value * 1000
    if not MIN_TIME_MS <= milliseconds <= MAX_TIME_MS:
        # NaN comes here too.
        hint = ""
        if math.isfinite(value) and MIN_TIME_MS <= value <= MAX_TIME_MS:
            hint = ": Unix time is in seconds, this looks like milliseconds"
        raise ValueError(f"{_RANGE}{hint}")
    return round(milliseconds)


def parse_rfc3339_ms(text: str) -> int:
    """Unix milliseconds of RFC 3339 text with a zone. Raises ValueError."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(_EXPECTED)
    date, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{zone.upper()}")
        seconds = round((moment - _EPOCH).total_seconds())
    except (ValueError, OverflowError) as exc:
        raise ValueError(f"is no date and time: {exc}") from exc
    milliseconds = seconds * 1000 + int(((fraction or "") + "000")[:3])
    if not MIN_TIME_MS <= milliseconds <= MAX_TIME_MS:
        raise ValueError(_RANGE)
    return milliseconds


def parse_time_parameter(text: str) -> int:
    """The time of a URL parameter, where Unix seconds are text too. Raises ValueError."""
    if _NUMBER.fullmatch(text):
        return parse_time_ms(float(text))
    # An unescaped `+` of a zone arrives as a space.
    return parse_rfc3339_ms(text[:10] + text[10:].replace(" ", "+"))


def format_time_ms(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return format_times_ms(np.array([time_ms], np.int64))[0]


def format_times_ms(times_ms: IntArray) -> list[str]:
    """RFC 3339 in UTC with milliseconds of a whole column."""
    texts = np.datetime_as_string(times_ms.astype("datetime64[ms]"), unit="ms")
    return [f"{text}Z" for text in texts.tolist()]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
