"""The time of day."""

import time


def wall_clock_ms() -> int:
    """Now, Unix milliseconds."""
    return time.time_ns() // 1_000_000
