"""Times as texts of RFC 3339, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_time_ms(time_ms: int) -> str:
    """RFC 3339 with milliseconds; OverflowError outside the years 1 to 9999."""
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def format_time_briefly(time_ms: int) -> str:
    """The same with as many fractional digits as needed, as Go's JSON has it."""
    return format_time_ms(time_ms).removesuffix("Z").rstrip("0").rstrip(".") + "Z"
