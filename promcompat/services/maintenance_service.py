"""Upkeep of the database: what definitions say of retention is enforced here."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from promcompat.core.definitions import RetainedMetric
from promcompat.core.ports import MaintenanceRepository

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What one run did: samples deleted of each metric that had any too old.

    `is_skipped`: another process was at it, and nothing was done.
    """

    deleted: tuple[tuple[RetainedMetric, int], ...] = ()
    is_skipped: bool = False

    @property
    def n_deleted(self) -> int:
        """How many samples were deleted."""
        return sum(count for _, count in self.deleted)


class MaintenanceService:
    """One process at a time does maintenance; each step is a transaction of its own."""

    def __init__(
        self,
        repository: MaintenanceRepository,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._repository = repository
        self._now_ms = now_ms

    async def run_once(self) -> MaintenanceReport:
        """Do all there is to do. Raises StorageUnavailableError when the database fails."""
        async with self._repository.lock() as is_held:
            if not is_held:
                return MaintenanceReport(is_skipped=True)
            return MaintenanceReport(tuple(await self._delete_expired()))

    async def _delete_expired(self) -> list[tuple[RetainedMetric, int]]:
        now_ms = self._now_ms()
        deleted = []
        for metric in await self._repository.retained_metrics():
            before_ms = now_ms - metric.retention_days * _DAY_MS
            count = await self._repository.delete_expired(metric, before_ms)
            if count:
                deleted.append((metric, count))
        return deleted
