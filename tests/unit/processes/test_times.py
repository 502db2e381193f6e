"""Times on the command line: what is refused, and what would be right."""

import re

import pytest

from promcompat.core.errors import BadDataError
from promcompat.processes.times import time_of_flag, times_of_flags


def test_times_are_rfc_3339_or_unix_seconds() -> None:
    assert time_of_flag("--start", "2026-11-01T00:00:00Z") == 1_793_491_200_000
    assert time_of_flag("--start", "1793491200.5") == 1_793_491_200_500


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-01", "--start 2026-11-01 is not a time; write it as RFC 3339 with a zone"),
        ("yesterday", "such as 2026-11-01T00:00:00Z, or Unix seconds"),
        ("1793491200000", "Unix times are in seconds, and this looks like milliseconds"),
        ("-1e15", "--start -1e15 is outside the years 1 to 9999; Unix times are in seconds"),
    ],
)
def test_other_times_are_refused_with_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(BadDataError, match=re.escape(reason)):
        time_of_flag("--start", text)


def test_an_end_before_the_start_is_refused() -> None:
    """A command that copies nothing would pass for done."""
    assert times_of_flags("", None, 100_000, 200_000) == (100_000, 200_000)
    assert times_of_flags("150", "150", 100_000, 200_000) == (150_000, 150_000)
    for start, end in (("300", ""), (None, "50"), ("2", "1")):
        with pytest.raises(BadDataError, match=r"nothing is between .* 1970-01-01T00:0"):
            times_of_flags(start, end, 100_000, 200_000)
