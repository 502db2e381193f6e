"""Reads the limits of a tenant, and changes its overrides under preconditions."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import uuid4

from promcompat.core.errors import ConflictError
from promcompat.core.limits.limit_definitions import LimitValues
from promcompat.core.limits.tenant_limits import (
    LimitOverrideRepository,
    Limits,
    StoredAmount,
    StoredOverrides,
)
from promcompat.core.preconditions import Precondition
from promcompat.limits.current_limits import CurrentLimits, LimitValue
from promcompat.limits.ingest_rates import IngestRates

_MAX_ATTEMPTS: Final = 10
_WHAT: Final = "the overrides of limits"

Edit = Callable[[LimitValues], LimitValues]
CountOfTenant = Callable[[str], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """What a tenant has of what a limit bounds; a limit of 0 is none."""

    name: str
    used: int
    limit: int

    @property
    def share(self) -> float | None:
        """`used` as a part of the limit."""
        return self.used / self.limit if self.limit else None


def amounts_of(
    name: str, amount: Callable[[str], Awaitable[StoredAmount]]
) -> Mapping[str, CountOfTenant]:
    """The counts of a limit of a number, and of the one of the bytes of the same things."""

    async def number(tenant: str) -> int:
        return (await amount(tenant)).number

    async def n_bytes(tenant: str) -> int:
        return (await amount(tenant)).n_bytes

    return {name: number, f"{name}_bytes": n_bytes}


class LimitService:
    """The limits of tenants, as one process knows them and as they are stored.

    `limits` are for those who enforce them, `rates` admit what is written.
    """

    def __init__(
        self,
        current: CurrentLimits,
        repository: LimitOverrideRepository,
        limits: Limits,
        counts: Mapping[str, CountOfTenant] = MappingProxyType({}),
    ) -> None:
        """`counts` say how much a tenant has of what the limits of these names bound."""
        self._counts = counts
        self._current = current
        self._repository = repository
        self.limits = limits
        self.rates = IngestRates(limits)
        self._process = uuid4()

    async def refresh(self) -> None:
        """Read changes of other processes and of the file, and what those admit of the rates.

        Raises StorageUnavailableError.
        """
        await self._current.refresh(self._repository)
        if admitted := self.rates.report():
            self.rates.learn(await self._repository.exchange_rates(self._process, admitted))

    @property
    def file_fault(self) -> str:
        """Why the file of overrides cannot be used; empty if it can."""
        return self._current.file.fault

    def all_overrides(self) -> Mapping[str, LimitValues]:
        """The overrides of every tenant that has some."""
        return self._current.all_overrides()

    def values(self, tenant: str) -> dict[str, LimitValue]:
        """The value of each limit in force, and where it comes from."""
        return self._current.sources(tenant)

    async def usage(self, tenant: str) -> list[LimitUsage]:
        """How near a tenant is to its limits. Raises StorageUnavailableError."""
        values = self._current.of(tenant).values()
        return [
            LimitUsage(name, await count(tenant), values[name])
            for name, count in self._counts.items()
        ]

    async def overrides(self, tenant: str) -> StoredOverrides:
        """The overrides of a tenant in the database."""
        return await self._repository.find(tenant)

    async def change(self, tenant: str, precondition: Precondition, edit: Edit) -> StoredOverrides:
        """Replace the overrides of a tenant by the result of `edit`, atomically.

        `edit` is called again when another request changed them in the meantime. Raises
        PreconditionFailedError, ConflictError, and whatever `edit` raises.
        """
        for _ in range(_MAX_ATTEMPTS):
            found = await self._repository.find(tenant)
            precondition.check(_WHAT, found.version)
            saved = await self._repository.save(tenant, edit(found.values), found.version)
            if saved is not None:
                self._current.apply(tenant, saved)
                return saved
        raise ConflictError("other requests keep changing the limits; try again")
