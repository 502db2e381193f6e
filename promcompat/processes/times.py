"""Times on the command line."""

from promcompat.api.params import parse_time_ms
from promcompat.core.errors import BadDataError
from promcompat.core.texts.times import format_time_ms
from sql.times import YEARS_1_TO_9999

_FORM = "RFC 3339 with a zone, such as 2026-11-01T00:00:00Z, or Unix seconds"


def times_of_flags(
    start: str | None, end: str | None, first_ms: int, last_ms: int
) -> tuple[int, int]:
    """The times of `--start` and `--end`, in Unix milliseconds; the others for one not given.

    Raises BadDataError for what is no time, and for an end before the start.
    """
    start_ms = time_of_flag("--start", start) if start else first_ms
    end_ms = time_of_flag("--end", end) if end else last_ms
    if end_ms < start_ms:
        raise BadDataError(
            f"nothing is between the first time, {format_time_ms(start_ms)}, and the last one, "
            f"{format_time_ms(end_ms)}: choose others with --start and --end"
        )
    return start_ms, end_ms


def time_of_flag(flag: str, text: str) -> int:
    """Unix milliseconds of what a flag was given. Raises BadDataError, which says what is right."""
    try:
        time_ms = parse_time_ms(text)
    except BadDataError:
        raise BadDataError(f"{flag} {text} is not a time; write it as {_FORM}") from None
    if not YEARS_1_TO_9999.start_ms <= time_ms <= YEARS_1_TO_9999.end_ms:
        hint = ", and this looks like milliseconds" if time_ms > 0 else ""
        raise BadDataError(
            f"{flag} {text} is outside the years 1 to 9999; Unix times are in seconds{hint}"
        )
    return time_ms
