"""Corrects stored samples: deletes, replaces, scales and renames them, and keeps a record of it."""

import logging
import time
from collections.abc import Sequence

from promcompat.core.corrections import (
    Affected,
    Correction,
    CorrectionRepository,
    CorrectionRequest,
    DeleteSamples,
    RelabelSeries,
    SampleScope,
    names_of,
)
from promcompat.core.errors import (
    NotFoundError,
    QueryTimeoutError,
    StorageUnavailableError,
)
from promcompat.core.model import METRIC_NAME
from promcompat.core.ports import DefinitionRepository

_LOGGER = logging.getLogger(__name__)
_PATIENCE_SECONDS = 5.0
"""How long a request waits for its correction; afterwards a loop goes on with it."""
_RUN_SECONDS = 10.0
"""How long a run of the loop works before others have a turn."""
_NEWEST = (1 << 63) - 1


class CorrectionService:
    """Corrections of one database, each of one tenant."""

    def __init__(self, repository: CorrectionRepository, definitions: DefinitionRepository) -> None:
        self._repository = repository
        self._definitions = definitions

    async def preview(self, tenant: str, scope: SampleScope) -> Affected:
        """How many series and samples a correction would concern."""
        return await self._repository.count(tenant, scope)

    async def warnings(self, tenant: str, change: RelabelSeries) -> list[str]:
        """What a new name does not carry along: the definitions of metrics it is taken from."""
        if METRIC_NAME not in change.labels:
            return []
        names = sorted(names_of(change.scope) - {change.labels[METRIC_NAME]})
        found = [await self._definitions.find(tenant, name) for name in names]
        return [
            f"the definition of {definition.name!r}, with its retention and threshold, is not "
            "renamed; rules that name the metric are not changed either"
            for definition in found
            if definition is not None
        ]

    async def apply(self, tenant: str, request: CorrectionRequest) -> Correction:
        """Correct samples; returns what is recorded of it.

        It may still be running after some seconds; then `run_due` goes on with it. Errors as of
        `CorrectionRepository.begin`.
        """
        correction_id = await self._repository.begin(tenant, request)
        fields = {"correction": correction_id, "tenant": tenant, "by": request.requested_by}
        _LOGGER.info("samples are corrected", extra=fields)
        try:
            await self._run(correction_id, _PATIENCE_SECONDS)
        except (StorageUnavailableError, QueryTimeoutError) as exc:
            _LOGGER.warning("correction waits", extra={**fields, "reason": str(exc)})
        return await self.get(tenant, correction_id)

    async def delete(self, tenant: str, scope: SampleScope, requested_by: str) -> None:
        """Delete samples, as the admin API of Prometheus does."""
        request = CorrectionRequest(DeleteSamples(scope), requested_by, "admin API: delete_series")
        await self._repository.begin(tenant, request)

    async def clean_tombstones(self, tenant: str) -> None:
        """Remove deleted samples from disk."""
        await self._repository.clean_tombstones(tenant)

    async def get(self, tenant: str, correction_id: int) -> Correction:
        """What is recorded of a correction. Raises NotFoundError."""
        found, _ = await self._repository.list(tenant, _NEWEST, 1, correction_id)
        if not found:
            raise NotFoundError(f"there is no correction {correction_id}")
        return found[0]

    async def list(
        self, tenant: str, before_id: int | None, limit: int
    ) -> tuple[Sequence[Correction], bool]:
        """Corrections with ids before `before_id`, the newest first; see the port."""
        return await self._repository.list(tenant, before_id or _NEWEST, limit)

    async def run_due(self) -> None:
        """Go on with corrections that are not finished, for a while."""
        until = time.monotonic() + _RUN_SECONDS
        while (remaining := until - time.monotonic()) > 0:
            correction_id = await self._repository.claim()
            if correction_id is None:
                return
            await self._run(correction_id, remaining)

    async def _run(self, correction_id: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        while await self._repository.advance(correction_id):
            if time.monotonic() > until:
                return
