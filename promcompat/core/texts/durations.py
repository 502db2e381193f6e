"""Durations as Prometheus writes them in queries, flags and parameters: `5m`, `1h30m`, `500ms`."""

import re

from promcompat.core.texts.strconv import quote

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_UNITS = tuple(_UNITS_MS)
_PART = re.compile(r"([0-9]+)([^0-9]+)")
_MAX_MS = ((1 << 63) - 1) // 1_000_000
"""Prometheus keeps a duration in an int64 of nanoseconds, about 292 years."""
_MAX_AMOUNT = (1 << 64) - 1
_MAX_DIGITS = 4000
"""Python refuses to parse longer numbers, which are zeros or too large anyway."""


def parse_duration_ms(text: str) -> int:
    """The milliseconds of a duration; units must descend, each at most once; `0` needs none.

    Raises ValueError with the text of Prometheus' `model.ParseDuration`.
    """
    if text == "0":
        return 0
    if not text:
        raise ValueError("empty duration string")
    quoted = quote(text)
    total_ms, end, last_unit = 0, 0, -1
    while end < len(text):
        part = _PART.match(text, end)
        if part is None or len(part[1]) > _MAX_DIGITS or int(part[1]) > _MAX_AMOUNT:
            raise ValueError(f"not a valid duration string: {quoted}")
        unit = part[2]
        if unit not in _UNITS_MS:
            raise ValueError(f"unknown unit {quote(unit)} in duration {quoted}")
        if _UNITS.index(unit) <= last_unit:
            raise ValueError(f"not a valid duration string: {quoted}")
        last_unit = _UNITS.index(unit)
        total_ms += int(part[1]) * _UNITS_MS[unit]
        if total_ms > _MAX_MS:
            raise ValueError("duration out of range")
        end = part.end()
    return total_ms


def to_milliseconds(value: object) -> object:
    """A validator of pydantic: texts become milliseconds, other values stay as they are."""
    return parse_duration_ms(value) if isinstance(value, str) else value


def format_duration_ms(duration_ms: int) -> str:
    """The shortest text with the same value; years and weeks only if they divide it evenly."""
    if duration_ms < 0:
        return "-" + format_duration_ms(-duration_ms)
    if duration_ms == 0:
        return "0s"
    parts: list[str] = []
    for unit, unit_ms in _UNITS_MS.items():
        exact_only = unit in ("y", "w")
        if duration_ms < unit_ms or (exact_only and duration_ms % unit_ms):
            continue
        count, duration_ms = divmod(duration_ms, unit_ms)
        parts.append(f"{count}{unit}")
    return "".join(parts)


def format_go_duration(nanoseconds: int) -> str:
    """A duration as Go prints it: `1h0m0s`, `1.5s`, `20ms`, `0s`."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if not rest:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if rest < 1000 * size:
            return f"{sign}{_decimal(rest, size)}{unit}"
    minutes, rest = divmod(rest, 60_000_000_000)
    seconds = f"{_decimal(rest, 1_000_000_000)}s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else sign + seconds


def _decimal(amount: int, size: int) -> str:
    """The quotient without trailing zeros; `size` is a power of ten."""
    whole, fraction = divmod(amount, size)
    digits = f"{size + fraction}"[1:].rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
