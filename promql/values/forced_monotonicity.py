"""Where counts of classic buckets had to be made monotonic, as an annotation tells it."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from promcompat.core.texts.strconv import format_g

_FIRST_MS, _LAST_MS = -30_610_224_000_000, 253_402_300_799_999
"""The years from 1000 to 9999, which a text has four digits for."""


@dataclass(frozen=True, slots=True)
class ForcedMonotonicity:
    """How many samples were mended, and the extremes of them.

    These are the first and the last time in ms, the lowest and the highest upper bound of a bucket
    that had too low a count, and the greatest difference to the count before it.
    """

    n_samples: int
    first_ms: int
    last_ms: int
    lowest_bound: float
    highest_bound: float
    greatest_difference: float

    def merged(self, other: "ForcedMonotonicity") -> "ForcedMonotonicity":
        """What both tell of."""
        return ForcedMonotonicity(
            self.n_samples + other.n_samples,
            min(self.first_ms, other.first_ms),
            max(self.last_ms, other.last_ms),
            min(self.lowest_bound, other.lowest_bound),
            max(self.highest_bound, other.highest_bound),
            max(self.greatest_difference, other.greatest_difference),
        )

    def text(self) -> str:
        """What follows the text of the annotation, as Prometheus writes it."""
        return (
            f", from buckets {format_g(self.lowest_bound)} to {format_g(self.highest_bound)}, "
            f"with a max diff of {_two_digits(self.greatest_difference)}, over {self.n_samples} "
            f"samples from {_time_text(self.first_ms)} to {_time_text(self.last_ms)}"
        )


def _two_digits(value: float) -> str:
    return f"{value:.2g}".replace("inf", "+Inf")


def _time_text(at_ms: int) -> str:
    """The time without milliseconds, towards 1970 as Go's division rounds."""
    at_seconds = math.trunc(min(max(at_ms, _FIRST_MS), _LAST_MS) / 1000)
    at = datetime.fromtimestamp(at_seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
