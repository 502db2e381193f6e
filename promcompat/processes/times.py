"""Times on the command line."""

from promcompat.api.params import parse_time_ms
from promcompat.core.errors import BadDataError
from sql.times import YEARS_1_TO_9999

_FORM = "RFC 3339 with a zone, such as 2026-11-01T00:00:00Z, or Unix seconds"


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
