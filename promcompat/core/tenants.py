"""The names of tenants, what a tenant stores, and how long it is kept."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol

_MAX_NAME_LENGTH: Final = 150
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9!\-_.*'()]")
_RESERVED_NAMES: Final = frozenset((".", "..", "__mimir_cluster"))
"""Mimir rejects these too."""


def tenant_name_fault(name: str) -> str:
    """Why no tenant can have the name, in Mimir's words; empty if one can."""
    if not name:
        return "tenant ID is empty"
    if len(name) > _MAX_NAME_LENGTH:
        return f"tenant ID is too long: max {_MAX_NAME_LENGTH} characters"
    if name in _RESERVED_NAMES:
        return f"tenant ID '{name}' is not allowed"
    if unsupported := _NOT_IN_NAME.search(name):
        return f"tenant ID contains unsupported character {unsupported.group()!a}"
    return ""


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """What a tenant stores; days are UTC days, None without samples.

    `n_series` have samples, or only rollups of samples that are no longer kept. `n_samples` are
    those that arrived, `n_samples_per_day` the mean of the last seven days before today that have
    samples. `top_metrics` are at most ten names with their numbers of series, the largest first.
    """

    n_series: int = 0
    n_samples: int = 0
    n_samples_per_day: int = 0
    n_bytes: int = 0
    first_day: date | None = None
    last_day: date | None = None
    top_metrics: Sequence[tuple[str, int]] = ()


class TenantUsages(Protocol):
    """What tenants store."""

    async def find(self, tenant: str) -> TenantUsage:
        """What a tenant stores, or stored a minute ago; nothing if it never wrote.

        Raises StorageUnavailableError.
        """


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
