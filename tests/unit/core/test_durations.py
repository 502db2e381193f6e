"""Durations as Prometheus reads and writes them."""

import re

import pytest

from promcompat.core.texts.durations import format_duration_ms, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0s", 0),
        ("5m", 300_000),
        ("1h30m", 5_400_000),
        ("1y2w3d4h5m6s7ms", 33_019_506_007),
        ("292y", 292 * 365 * 86_400_000),
    ],
)
def test_parses_units_from_large_to_small(text: str, expected: int) -> None:
    assert parse_duration_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty duration string"),
        ("5", 'not a valid duration string: "5"'),
        ("m", 'not a valid duration string: "m"'),
        ("-5m", 'not a valid duration string: "-5m"'),
        ("\x01m\ufffd", 'not a valid duration string: "\\x01m\ufffd"'),
        ("5m5m", 'not a valid duration string: "5m5m"'),
        ("5m1h", 'not a valid duration string: "5m1h"'),
        ("1.5h", 'unknown unit "." in duration "1.5h"'),
        ("5hs", 'unknown unit "hs" in duration "5hs"'),
        ("300y", "duration out of range"),
        ("9" * 30 + "s", f'not a valid duration string: "{"9" * 30}s"'),
        ("9" * 5000 + "s", f'not a valid duration string: "{"9" * 5000}s"'),
    ],
)
def test_refuses_in_the_words_of_prometheus(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        parse_duration_ms(text)


@pytest.mark.parametrize(
    ("duration_ms", "expected"),
    [
        (0, "0s"),
        (1, "1ms"),
        (90_000, "1m30s"),
        (7 * 86_400_000, "1w"),
        (8 * 86_400_000, "8d"),
        (365 * 86_400_000, "1y"),
        (366 * 86_400_000, "366d"),
        (-5_400_000, "-1h30m"),
    ],
)
def test_formats_weeks_and_years_only_when_whole(duration_ms: int, expected: str) -> None:
    assert format_duration_ms(duration_ms) == expected
