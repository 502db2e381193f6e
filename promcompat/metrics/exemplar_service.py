"""Stores exemplars within their limits, and finds them."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from promcompat.core.clock import wall_clock_ms
from promcompat.core.exemplars import (
    AppendedExemplars,
    ExemplarLimits,
    ExemplarRepository,
    ExemplarsOfSeries,
    SeriesExemplar,
)
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.maintenance import StepNotes
from promcompat.core.ports import MaintenanceStep, MatcherSets

_EXCESS_SHARE: Final = 4
"""A tenant has at most a quarter more than its limit, for each process."""


class ExemplarService:
    """Exemplars of every tenant; none are kept if the limit of a tenant is 0."""

    def __init__(
        self,
        repository: ExemplarRepository,
        limits: ExemplarLimits,
        tenant_limits: Limits,
        now_ms: Callable[[], int],
        latest_ms: Callable[[str], int | None],
    ) -> None:
        """`tenant_limits` have the number of exemplars of `limits` for each tenant.

        `latest_ms` is the latest time that an exemplar of a tenant may have now; None: any.
        """
        self._repository = repository
        self._limits = limits
        self._tenant_limits = tenant_limits
        self._now_ms = now_ms
        self._latest_ms = latest_ms
        self._n_appended: Counter[str] = Counter()

    async def write(self, tenant: str, exemplars: Sequence[SeriesExemplar]) -> AppendedExemplars:
        """Store exemplars; those too far in the future are left out, as in Prometheus.

        Raises StorageUnavailableError.
        """
        max_exemplars = self._tenant_limits.of(tenant).max_global_exemplars_per_user
        if not exemplars or not max_exemplars:
            return AppendedExemplars()
        latest_ms = self._latest_ms(tenant)
        timely = [
            found
            for found in exemplars
            if latest_ms is None or found.exemplar.timestamp_ms <= latest_ms
        ]
        appended = await self._repository.append(tenant, timely)
        self._n_appended[tenant] += appended.n_stored
        if self._n_appended[tenant] > max_exemplars // _EXCESS_SHARE:
            del self._n_appended[tenant]
            await self._repository.trim(self._limits, self._now_ms(), tenant)
        return appended

    async def select(
        self, tenant: str, matcher_sets: MatcherSets, start_ms: int, end_ms: int
    ) -> list[ExemplarsOfSeries]:
        """The exemplars of matching series in `[start_ms, end_ms]`, sorted by series."""
        if not matcher_sets:
            return []
        return await self._repository.select(tenant, matcher_sets, start_ms, end_ms)


@dataclass(frozen=True, slots=True)
class ExemplarStep(MaintenanceStep):
    """Deletes exemplars that exceed the limits, of all tenants: a step of maintenance."""

    repository: ExemplarRepository
    limits: ExemplarLimits
    now_ms: Callable[[], int] = wall_clock_ms
    name: str = "exemplars"
    unit: str = "exemplars"

    async def plan(self) -> int:
        """How many exceed the limits."""
        return await self.repository.count_excess(self.limits, self.now_ms())

    async def run(self, notes: StepNotes) -> int:
        """Delete them; returns how many."""
        return await self.repository.trim(self.limits, self.now_ms())
