"""What thresholds ask about single samples; every store of samples answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class NewestSample:
    """The newest sample of a series: Unix ms and value. It may be a stale marker."""

    timestamp_ms: int
    value: float


class SampleLookup(Protocol):
    """Finds single samples of a tenant's series; errors as of `Store.select`."""

    async def newest(self, tenant_id: int, series_ids: Sequence[int]) -> Mapping[int, NewestSample]:
        """The newest sample of each series that has one, unless it is a histogram."""

    async def values_at(
        self, tenant_id: int, series_ids: Sequence[int], times_ms: Sequence[int]
    ) -> list[float | None]:
        """The float of each series and time; None where there is none."""
