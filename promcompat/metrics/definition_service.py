"""Reads metric definitions, changes them under preconditions, and deletes them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from promcompat.core.alerting.remediation import (
    RemediationCheck,
    RemediationSpec,
    accept_remediation,
)
from promcompat.core.definitions import MetricDefinition
from promcompat.core.errors import (
    ConflictError,
    InvalidFieldsError,
    NotFoundError,
)
from promcompat.core.limits.tenant_limits import Limits
from promcompat.core.ports import DefinitionRepository
from promcompat.core.preconditions import Precondition

_MAX_ATTEMPTS = 10
_WHAT = "the definition"

Edit = Callable[[MetricDefinition | None], MetricDefinition]


@dataclass(frozen=True, slots=True)
class SavedDefinition:
    """A definition after a change, and whether there was none before."""

    definition: MetricDefinition
    is_new: bool


class DefinitionService:
    """Definitions of metrics, each call for one tenant."""

    def __init__(
        self,
        repository: DefinitionRepository,
        on_change: Callable[[], Awaitable[None]],
        limits: Limits,
        check_remediation: RemediationCheck = accept_remediation,
    ) -> None:
        """`on_change` is awaited after each change, so that later writes use the new definition.

        Concurrent requests may exceed the limit of a tenant by a few.
        """
        self._repository = repository
        self._on_change = on_change
        self._limits = limits
        self._check_remediation = check_remediation

    async def find(self, tenant: str, name: str) -> MetricDefinition | None:
        """The definition of a metric, if it has one."""
        return await self._repository.find(tenant, name)

    async def get(self, tenant: str, name: str) -> MetricDefinition:
        """The definition of a metric. Raises NotFoundError."""
        found = await self._repository.find(tenant, name)
        if found is None:
            raise _missing(name)
        return found

    async def list(
        self, tenant: str, *, prefix: str, after: str, limit: int
    ) -> list[MetricDefinition]:
        """Definitions, ordered by name."""
        return await self._repository.list(tenant, prefix=prefix, after=after, limit=limit)

    async def create(self, tenant: str, definition: MetricDefinition) -> MetricDefinition:
        """Store the definition of a metric that has none.

        Raises ConflictError when it has one, or when the tenant is at its limit.
        """
        await self._check(definition, None)
        await self._require_room(tenant, definition, None)
        saved = await self._repository.save(tenant, definition, 0)
        if saved is None:
            raise ConflictError(f"the metric {definition.name!r} already has a definition")
        await self._on_change()
        return saved

    async def change(
        self, tenant: str, name: str, precondition: Precondition, edit: Edit
    ) -> SavedDefinition:
        """Replace the definition by the result of `edit`, atomically.

        `edit` must be pure; it is called again when another request changed the definition in the
        meantime. Raises PreconditionFailedError, ConflictError when the tenant is at its limit, and
        whatever `edit` raises.
        """
        for _ in range(_MAX_ATTEMPTS):
            current = await self._repository.find(tenant, name)
            precondition.check(_WHAT, None if current is None else current.version)
            # In a thread: it may have a thousand overrides.
            edited = await asyncio.to_thread(edit, current)
            await self._check(edited, current)
            await self._require_room(tenant, edited, current)
            expected = 0 if current is None else current.version
            saved = await self._repository.save(tenant, edited, expected)
            if saved is not None:
                await self._on_change()
                return SavedDefinition(saved, current is None)
        raise ConflictError("other requests keep changing the definition; try again")

    async def delete(self, tenant: str, name: str, precondition: Precondition) -> MetricDefinition:
        """Delete a definition and return it; samples are kept.

        Raises NotFoundError and PreconditionFailedError.
        """
        for _ in range(_MAX_ATTEMPTS):
            current = await self._repository.find(tenant, name)
            precondition.check(_WHAT, None if current is None else current.version)
            if current is None:
                raise _missing(name)
            if await self._repository.delete(tenant, name, current.version):
                await self._on_change()
                return current
        raise ConflictError("other requests keep changing the definition; try again")

    async def _check(self, edited: MetricDefinition, current: MetricDefinition | None) -> None:
        """Raises InvalidFieldsError for a new remediation that cannot run."""
        spec = _remediation_of(edited)
        if spec is None or spec == _remediation_of(current):
            return
        faults = await asyncio.to_thread(self._check_remediation, spec)
        if faults:
            raise InvalidFieldsError(
                [fault.within("alert_threshold.remediation") for fault in faults]
            )

    async def _require_room(
        self, tenant: str, edited: MetricDefinition, current: MetricDefinition | None
    ) -> None:
        stored = await self._repository.amount(tenant)
        if current is None and stored.number >= self._limits.of(tenant).max_definitions > 0:
            raise ConflictError(self._limits.refuse(tenant, "max_definitions"))
        after = self._repository.n_bytes(edited)
        before = 0 if current is None else self._repository.n_bytes(current)
        name = "max_definitions_bytes"
        if not self._limits.has_room(tenant, name, stored.n_bytes, after=after, before=before):
            raise ConflictError(self._limits.refuse(tenant, name))


def _remediation_of(definition: MetricDefinition | None) -> RemediationSpec | None:
    if definition is None or definition.alert_threshold is None:
        return None
    return definition.alert_threshold.remediation


def _missing(name: str) -> NotFoundError:
    return NotFoundError(f"the metric {name!r} has no definition")
