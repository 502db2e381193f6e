"""Stored dashboards, and the port of their storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from promcompat.core.limits.tenant_limits import StoredAmount

MAX_VERSIONS: Final = 20
"""How many versions of a dashboard are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardVersion:
    """A version: who saved it when (Unix ms) and why."""

    version: int
    saved_at_ms: int
    saved_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSummary(DashboardVersion):
    """A dashboard without its document.

    `source` is the file that it is provisioned from, empty for one that is changed by the API.
    """

    uid: str
    title: str
    tags: Sequence[str]
    source: str
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDashboard(DashboardVersion):
    """A dashboard as it is, or was in an older version."""

    uid: str
    source: str
    created_at_ms: int
    newest_version: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardChange:
    """What is stored: a document, its title and tags, and who changes it why."""

    uid: str
    title: str
    tags: Sequence[str]
    document: Mapping[str, Any]
    source: str = ""
    saved_by: str
    reason: str = ""


class DashboardRepository(Protocol):
    """The dashboards of tenants. Every method raises StorageUnavailableError."""

    async def list_dashboards(self, tenant: str) -> Sequence[DashboardSummary]:
        """All dashboards, by title."""

    async def find(
        self, tenant: str, uid: str, version: int | None = None
    ) -> StoredDashboard | None:
        """One dashboard in its newest or another version, None if there is none."""

    async def versions(self, tenant: str, uid: str) -> Sequence[DashboardVersion]:
        """The versions that are kept, the newest first; none of an unknown dashboard."""

    async def amount(self, tenant: str) -> StoredAmount:
        """How many there are, and how large they are with the versions that are kept."""

    async def create(self, tenant: str, change: DashboardChange) -> int | None:
        """Store a new dashboard; its version, or None if the uid is taken."""

    async def replace(self, tenant: str, change: DashboardChange, version: int) -> int | None:
        """Store a new version if the present one is `version`; the new number, or None if not."""

    async def delete(self, tenant: str, uid: str, version: int) -> bool:
        """Delete a dashboard, all versions, if the present one is `version`; False if not."""
