"""What writers and the result cache agree on, see docs/adr/0010-range-result-cache.md."""

from typing import Final

LATE_AFTER_MS: Final = 120_000
"""A sample that is older than this when written is late: its day counts as changed."""

CACHEABLE_AFTER_MS: Final = 300_000
"""Only steps and samples older than this are cached.

The three minutes between the two allow for differing clocks and slow writes: a write takes at most
70 s, then its statement is cancelled.
"""
