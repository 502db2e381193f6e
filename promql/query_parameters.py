"""What may be said of a query beside its text and its times."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryParameters:
    """`lookback_ms` and `timeout_seconds` are the engine's when None.

    A query may ask for less time than the engine allows, never for more. With `counts_samples` also
    those samples are read that no answer depends on, for the statistics to count them.
    """

    lookback_ms: int | None = None
    timeout_seconds: float | None = None
    counts_samples: bool = False


DEFAULTS: Final = QueryParameters()
