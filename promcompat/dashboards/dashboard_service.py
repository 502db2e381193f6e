"""Dashboards of tenants: saved in versions, restored, and kept as their files are."""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from promcompat.core.dashboards import (
    DashboardChange,
    DashboardRepository,
    DashboardSummary,
    DashboardVersion,
    StoredDashboard,
)
from promcompat.core.errors import (
    BadDataError,
    ConflictError,
    NotFoundError,
    PayloadTooLargeError,
    PreconditionFailedError,
)
from promcompat.core.limits.tenant_limits import NO_LIMITS, Limits, StoredAmount
from promcompat.core.preconditions import Precondition
from promcompat.dashboards.model import Dashboard, read_dashboard

MAX_DOCUMENT_BYTES: Final = 1 << 20
UID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,40}$"
_UID: Final = re.compile(UID_PATTERN.strip("^$"))


class DashboardService:
    """The dashboards of tenants; concurrent requests may exceed the limit a little."""

    def __init__(self, dashboards: DashboardRepository, limits: Limits = NO_LIMITS) -> None:
        self._dashboards = dashboards
        self._limits = limits

    async def list_dashboards(
        self, tenant: str, tags: Sequence[str] = (), search: str = ""
    ) -> Sequence[DashboardSummary]:
        """Dashboards by title: those that have every tag, and the text in their title."""
        found = await self._dashboards.list_dashboards(tenant)
        text = search.casefold()
        return [one for one in found if set(tags) <= set(one.tags) and text in one.title.casefold()]

    async def get(self, tenant: str, uid: str, version: int | None = None) -> StoredDashboard:
        """One dashboard, in its newest or another version. Raises NotFoundError."""
        found = await self._find(tenant, uid, version)
        if found is None:
            of_version = "" if version is None else f" with a version {version}"
            raise NotFoundError(f"there is no dashboard {uid!r}{of_version}")
        return found

    async def versions(self, tenant: str, uid: str) -> Sequence[DashboardVersion]:
        """The versions that are kept, the newest first. Raises NotFoundError."""
        found = await self._dashboards.versions(tenant, uid) if _UID.fullmatch(uid) else ()
        if not found:
            raise NotFoundError(f"there is no dashboard {uid!r}")
        return found

    async def create(
        self,
        tenant: str,
        dashboard: Dashboard,
        *,
        uid: str = "",
        actor: str = "",
        reason: str = "",
        source: str = "",
    ) -> StoredDashboard:
        """Store a new dashboard; without `uid`, it gets one.

        Raises ConflictError when the uid is taken, or the tenant has as many as allowed, and
        PayloadTooLargeError for a document of more than a megabyte.
        """
        uid = uid or secrets.token_hex(7)
        change = change_of(uid, dashboard, actor, reason, source)
        stored = await self._dashboards.amount(tenant)
        if 0 < self._limits.of(tenant).max_dashboards <= stored.number:
            raise ConflictError(self._limits.refuse(tenant, "max_dashboards"))
        self._require_room(tenant, stored, change)
        if await self._dashboards.create(tenant, change) is None:
            raise ConflictError(f"there is a dashboard {uid!r} already")
        return await self.get(tenant, uid)

    async def save(
        self,
        tenant: str,
        uid: str,
        dashboard: Dashboard,
        precondition: Precondition,
        *,
        actor: str = "",
        reason: str = "",
    ) -> tuple[StoredDashboard, bool]:
        """Create or replace the dashboard of this uid; the flag says whether it is new.

        A document that does not change makes no version. Raises as `create`,
        PreconditionFailedError, and ConflictError for one that comes from a file.
        """
        known = await self._find(tenant, uid)
        precondition.check("the dashboard", None if known is None else known.version)
        if known is None:
            return await self.create(tenant, dashboard, uid=uid, actor=actor, reason=reason), True
        _require_own(known)
        return await self._replaced(
            tenant, known, change_of(uid, dashboard, actor, reason, "")
        ), False

    async def restore(
        self, tenant: str, uid: str, version: int, precondition: Precondition, actor: str
    ) -> StoredDashboard:
        """Make an older version the newest again. Raises as `save`, and NotFoundError."""
        known = await self.get(tenant, uid)
        precondition.check("the dashboard", known.version)
        _require_own(known)
        old = await self.get(tenant, uid, version)
        reason = f"version {version} restored"
        change = change_of(uid, dashboard_of(old), actor, reason, "")
        return await self._replaced(tenant, known, change)

    async def delete(self, tenant: str, uid: str, precondition: Precondition) -> StoredDashboard:
        """Delete a dashboard with its versions. Raises NotFoundError, and as `save`."""
        known = await self.get(tenant, uid)
        precondition.check("the dashboard", known.version)
        _require_own(known)
        if not await self._dashboards.delete(tenant, uid, known.version):
            raise PreconditionFailedError("the dashboard has been changed in the meantime")
        return known

    async def keep_as_file(self, tenant: str, uid: str, dashboard: Dashboard, source: str) -> bool:
        """Make a dashboard what its file is; whether that changed anything.

        Raises ConflictError when the uid belongs to a dashboard that is not from a file.
        """
        known = await self._dashboards.find(tenant, uid)
        if known is None:
            await self.create(tenant, dashboard, uid=uid, actor="provisioning", source=source)
            return True
        if not known.source:
            raise ConflictError(f"{source}: the dashboard {uid!r} exists, and is not from a file")
        change = change_of(uid, dashboard, "provisioning", "", source)
        return (await self._replaced(tenant, known, change)).version != known.version

    async def forget_files(self, tenant: str, uids: Mapping[str, str | None]) -> None:
        """Delete the dashboards of files that are gone, or have another uid now.

        `uids` are those of all files by their names; None for one that could not be read.
        """
        for one in await self._dashboards.list_dashboards(tenant):
            if one.source and uids.get(one.source, "") not in (one.uid, None):
                await self._dashboards.delete(tenant, one.uid, one.version)

    async def _find(
        self, tenant: str, uid: str, version: int | None = None
    ) -> StoredDashboard | None:
        """A dashboard; the database is not asked for uids that none can have, nor may hold them."""
        if not _UID.fullmatch(uid):
            return None
        return await self._dashboards.find(tenant, uid, version)

    async def _replaced(
        self, tenant: str, known: StoredDashboard, change: DashboardChange
    ) -> StoredDashboard:
        if change.document == known.document and change.source == known.source:
            return known
        self._require_room(tenant, await self._dashboards.amount(tenant), change)
        if await self._dashboards.replace(tenant, change, known.version) is None:
            raise PreconditionFailedError("the dashboard has been changed in the meantime")
        return await self.get(tenant, change.uid)

    def _require_room(self, tenant: str, stored: StoredAmount, change: DashboardChange) -> None:
        """Raises ConflictError. Each version counts: how many are kept is bounded elsewhere."""
        name, after = "max_dashboards_bytes", document_bytes(change.document)
        if not self._limits.has_room(tenant, name, stored.n_bytes, after=after, before=0):
            raise ConflictError(self._limits.refuse(tenant, name))


def document_bytes(document: Mapping[str, Any]) -> int:
    """The size of a document as JSON."""
    return len(orjson.dumps(document))


def change_of(
    uid: str, dashboard: Dashboard, actor: str, reason: str, source: str
) -> DashboardChange:
    """What is stored of a dashboard. Raises BadDataError and PayloadTooLargeError."""
    if not _UID.fullmatch(uid):
        raise BadDataError(f"the uid is {uid!r}; expected 1 to 40 letters, digits, _ and -")
    document = dashboard.document()
    size = document_bytes(document)
    if size > MAX_DOCUMENT_BYTES:
        raise PayloadTooLargeError(
            f"the dashboard has {size} bytes; expected at most {MAX_DOCUMENT_BYTES}"
        )
    return DashboardChange(
        uid=uid,
        title=dashboard.title,
        tags=dashboard.tags,
        document=document,
        source=source,
        saved_by=actor,
        reason=reason,
    )


def dashboard_of(stored: StoredDashboard) -> Dashboard:
    """The document of a stored dashboard. Raises BadDataError for one of a newer service."""
    try:
        return read_dashboard(stored.document)
    except BadDataError as exc:
        raise BadDataError(
            f"the dashboard {stored.uid!r} was stored by another version of the service: {exc}"
        ) from exc


def _require_own(known: StoredDashboard) -> None:
    if known.source:
        raise ConflictError(
            f"the dashboard is provisioned from the file {known.source}; change the file, or save "
            "a copy with another uid"
        )
