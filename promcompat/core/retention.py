"""How long the samples of a tenant are kept."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class TenantRetention:
    """The retention of a tenant in days (0: forever; None: it has none of its own).

    `service_days` counts for tenants without one. A metric's own counts before both.
    """

    own_days: int | None
    service_days: int


class TenantRetentions(Protocol):
    """The retentions of tenants. All methods raise StorageUnavailableError."""

    async def find(self, tenant: str) -> TenantRetention:
        """The retention of a tenant, also of one that has never written."""

    async def save(self, tenant: str, days: int | None) -> TenantRetention:
        """Set the retention of a tenant, which is created if there is none of that name.

        Readers see no older samples from then on; maintenance removes them.
        """
