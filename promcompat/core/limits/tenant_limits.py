"""The limits of a tenant, and the ports that give them and count what they refuse.

The settings have the defaults. A file, and after it the database, may override them for a tenant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import UUID

from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.limits.limit_definitions import LIMIT_OF, LIMITS, LimitValues


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """The values for one tenant, by the names of `LIMITS`; durations are milliseconds."""

    ingestion_rate: int = 0
    ingestion_burst_size: int = 200_000
    max_global_series_per_user: int = 0
    max_global_series_per_metric: int = 0
    max_label_names_per_series: int = 30
    max_label_names_per_info_series: int = 80
    max_label_name_length: int = 1024
    max_label_value_length: int = 2048
    max_metadata_length: int = 1024
    creation_grace_period: int = 0
    past_grace_period: int = 0
    max_global_exemplars_per_user: int = 100_000
    max_total_query_length: int = 0
    max_fetched_series_per_query: int = 0
    max_samples_per_query: int = 50_000_000
    max_estimated_memory_consumption_per_query: int = 2 << 30
    max_concurrent_queries: int = 0
    max_outstanding_requests_per_tenant: int = 100
    ruler_max_rules_per_rule_group: int = 0
    ruler_max_rule_groups_per_tenant: int = 0
    max_rules: int = 0
    max_rules_bytes: int = 0
    max_definitions: int = 0
    max_definitions_bytes: int = 0
    max_dashboards: int = 0
    max_dashboards_bytes: int = 0
    alertmanager_max_silences_count: int = 0
    max_alerts_per_rule: int = 0
    max_tokens: int = 0
    weight: int = 1
    labels: LabelLimits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        labels = LabelLimits(
            max_names=self.max_label_names_per_series,
            max_names_of_info=self.max_label_names_per_info_series,
            max_name_bytes=self.max_label_name_length,
            max_value_bytes=self.max_label_value_length,
            max_metadata_bytes=self.max_metadata_length,
        )
        object.__setattr__(self, "labels", labels)

    def values(self) -> dict[str, int]:
        """The values by name, in the order of the table."""
        return {limit.name: getattr(self, limit.name) for limit in LIMITS}

    def with_overrides(self, *overrides: LimitValues) -> "TenantLimits":
        """These limits with some replaced; later ones win."""
        changed = {name: value for one in overrides for name, value in one.items()}
        return TenantLimits(**{**self.values(), **changed}) if changed else self


DEFAULT_TENANT_LIMITS: Final = TenantLimits()


class TenantLimitReader(Protocol):
    """Knows the limits of every tenant; asked for each request."""

    def of(self, tenant: str) -> TenantLimits:
        """The limits of a tenant now. The same value until they change."""


class RefusalCounter(Protocol):
    """Counts what limits refuse."""

    def count(self, tenant: str, limit: str, number: int = 1) -> None:
        """`number` samples or requests of a tenant, by `counts_samples`, exceeded a limit."""


@dataclass(frozen=True, slots=True)
class SameLimits(TenantLimitReader):
    """The same limits for every tenant."""

    limits: TenantLimits = DEFAULT_TENANT_LIMITS

    def of(self, tenant: str) -> TenantLimits:
        """See the port."""
        return self.limits


class UncountedRefusals(RefusalCounter):
    """For processes without metrics."""

    def count(self, tenant: str, limit: str, number: int = 1) -> None:
        """See the port."""


_UNCOUNTED: Final = UncountedRefusals()


@dataclass(frozen=True, slots=True)
class StoredOverrides:
    """The overrides of a tenant in the database; version 1 stands for none that were ever set."""

    values: LimitValues = field(default_factory=dict)
    version: int = 1


class LimitOverrideRepository(Protocol):
    """The store of overrides. All methods raise StorageUnavailableError."""

    async def find(self, tenant: str) -> StoredOverrides:
        """The overrides of a tenant."""

    async def list(self) -> Mapping[str, StoredOverrides]:
        """The overrides of every tenant that ever had some."""

    async def position(self) -> int:
        """A number that grows with each change."""

    async def save(
        self, tenant: str, values: LimitValues, expected_version: int
    ) -> StoredOverrides | None:
        """Replace the overrides of this version; None when the stored ones have another version."""

    async def exchange_rates(
        self, process: UUID, admitted: Mapping[str, int]
    ) -> Mapping[UUID, Mapping[str, int]]:
        """Report what this process has admitted of tenants, and read what the others report."""


@dataclass(frozen=True, slots=True)
class StoredAmount:
    """How many of something a tenant has in the database, and how many bytes they have together."""

    number: int = 0
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of all tenants, and a count of what they refuse."""

    reader: TenantLimitReader = SameLimits()
    refusals: RefusalCounter = _UNCOUNTED

    def of(self, tenant: str) -> TenantLimits:
        """The limits of a tenant now."""
        return self.reader.of(tenant)

    def refuse(self, tenant: str, name: str, detail: str = "", number: int = 1) -> str:
        """Count that a limit refuses so many samples or requests; returns the text of the error."""
        self.refusals.count(tenant, name, number)
        return LIMIT_OF[name].exceeded(getattr(self.of(tenant), name), detail)

    def has_room(self, tenant: str, name: str, n_stored: int, *, after: int, before: int) -> bool:
        """Whether something that takes `before` of the stored bytes may take `after` instead.

        It always may if it does not grow: a limit that was lowered keeps nobody from storing less.
        """
        limit: int = getattr(self.of(tenant), name)
        return after <= before or not 0 < limit < n_stored - before + after


NO_LIMITS: Final = Limits()
