"""What writers and caches of results agree on, see docs/adr/0010-range-result-cache.md."""

from typing import Final

LATE_AFTER_MS: Final = 120_000
"""A sample older than this when it is written is late: its day is counted as changed."""

CACHEABLE_AFTER_MS: Final = 300_000
"""Only steps and samples older than this are kept.

The three minutes between the two are for clocks that differ and for writes that take long: a write
takes at most 70 s, after which its statement is cut off.
"""
