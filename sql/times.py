"""The times that the database can hold, and hours and days in Unix milliseconds."""

from dataclasses import dataclass
from typing import Final

MS_PER_HOUR: Final = 3_600_000
MS_PER_DAY: Final = 24 * MS_PER_HOUR
MIN_TIMESTAMP_MS: Final = -210_866_803_200_000
"""The first millisecond of timestamptz: 4714-11-24 BC, 00:00 UTC."""
MAX_TIMESTAMP_MS: Final = 9_223_371_331_200_000 - 1
"""The last millisecond of TimescaleDB's range: 294247-01-01, 23:59:59.999 UTC."""


@dataclass(frozen=True, slots=True)
class TimeBounds:
    """Inclusive bounds in Unix ms, within what the database can hold."""

    start_ms: int
    end_ms: int

    @classmethod
    def clamp(cls, start_ms: int, end_ms: int) -> "TimeBounds":
        """The bounds as far as the database has time."""
        return cls(max(start_ms, MIN_TIMESTAMP_MS), min(end_ms, MAX_TIMESTAMP_MS))

    @property
    def is_empty(self) -> bool:
        """Whether no time lies within."""
        return self.start_ms > self.end_ms

    @property
    def is_everything(self) -> bool:
        """Whether every time the database can hold lies within."""
        return self.start_ms <= MIN_TIMESTAMP_MS and self.end_ms >= MAX_TIMESTAMP_MS


YEARS_1_TO_9999: Final = TimeBounds(-62_135_596_800_000, 253_402_300_799_999)
"""What pages of samples can hold."""
