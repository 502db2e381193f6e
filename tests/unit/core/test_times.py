import pytest

from promcompat.core.texts.times import format_time_briefly, format_time_ms


@pytest.mark.parametrize(
    ("time_ms", "text", "brief"),
    [
        (0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        (10_500, "1970-01-01T00:00:10.500Z", "1970-01-01T00:00:10.5Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "10000-01-01T00:00:00.000Z", "10000-01-01T00:00:00Z"),
        (-62_135_596_800_001, "0000-12-31T23:59:59.999Z", "0000-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_written_as_rfc_3339_in_utc(time_ms: int, text: str, brief: str) -> None:
    assert (format_time_ms(time_ms), format_time_briefly(time_ms)) == (text, brief)
