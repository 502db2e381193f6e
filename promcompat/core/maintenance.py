"""What maintenance works on: metrics kept for a time, chunks of samples, hours of rollups."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetainedMetric:
    """A metric whose definition says for how long its samples are kept."""

    tenant_id: int
    tenant: str
    name: str
    retention_days: int


@dataclass(frozen=True, slots=True)
class SampleChunk:
    """A piece of the stored samples that is dropped as a whole: those from `start_ms` to before
    `end_ms`, Unix milliseconds.

    `id` is the database's own; `name` is for people.
    """

    id: int
    name: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class OrphanSeries:
    """Which of some series have no sample left; `last_id` is the last one that was looked at."""

    last_id: int
    ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class StaleHours:
    """Hours of one tenant and day whose samples changed after they were computed.

    Hours count from 1970-01-01 and ascend.
    """

    tenant_id: int
    hours: Sequence[int]
