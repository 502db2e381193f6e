"""Durations as Prometheus writes them in flags and parameters: `5m`, `1h30m`, `15s`, `500ms`."""

import re

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
_DURATION = re.compile("".join(f"(?:([0-9]+){unit})?" for unit in _UNITS_MS), re.ASCII)
_MAX_MS = (1 << 63) // 1_000_000
"""Prometheus keeps a duration as int64 nanoseconds."""


def parse_duration_ms(text: str) -> int:
    """The milliseconds of a duration; units descend, each at most once, `0` needs none.

    Raises ValueError, also for a duration of more than 292 years, which Prometheus cannot hold.
    """
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"not a valid duration string: {text!r}")
    milliseconds = sum(
        int(count) * unit
        for count, unit in zip(match.groups(), _UNITS_MS.values(), strict=True)
        if count
    )
    if milliseconds > _MAX_MS:
        raise ValueError("duration out of range")
    return milliseconds


def format_duration_ms(milliseconds: int) -> str:
    """The shortest text that parses to the same; years and weeks only when nothing is left over."""
    if milliseconds == 0:
        return "0s"
    parts: list[str] = []
    for unit, size in _UNITS_MS.items():
        exact_only = unit in ("y", "w")
        if milliseconds < size or (exact_only and milliseconds % size):
            continue
        count, milliseconds = divmod(milliseconds, size)
        parts.append(f"{count}{unit}")
    return "".join(parts)
