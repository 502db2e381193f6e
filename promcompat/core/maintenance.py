"""The values of maintenance: metrics with a retention, chunks of samples, hours of rollups."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetainedMetric:
    """A metric with a retention in its definition."""

    tenant_id: int
    tenant: str
    name: str
    retention_days: int


@dataclass(frozen=True, slots=True)
class SampleChunk:
    """The samples in `[start_ms, end_ms)`, Unix milliseconds, which are dropped as a whole.

    `id` is the database's own; `name` is for people.
    """

    id: int
    name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class OrphanSeries:
    """Series without samples; `last_id` is the last series that was checked."""

    last_id: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class StaleHours:
    """Hours of one tenant and day whose samples changed after they were computed.

    Hours count from 1970-01-01 and ascend.
    """

    tenant_id: int
    hours: Sequence[int]
