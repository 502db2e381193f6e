"""Times as texts of RFC 3339, in UTC."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def format_time_ms(time_ms: int) -> str:
    """RFC 3339 with milliseconds.

    Years outside 0 to 9999, which RFC 3339 cannot express, are written with a sign or with more
    digits. They occur: a silence that starts at the end of 9999 ends in the year 10000.
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return f"{np.datetime64(time_ms, 'ms')}Z"
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def format_time_briefly(time_ms: int) -> str:
    """The same with as many fractional digits as needed, as Go's JSON has it."""
    return format_time_ms(time_ms).removesuffix("Z").rstrip("0").rstrip(".") + "Z"
