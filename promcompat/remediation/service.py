"""Remediations for people: lists, approval, denial, cancellation."""

from collections.abc import Sequence

from promcompat.core.alerting.remediation import (
    Decision,
    Remediation,
    RemediationControl,
    RemediationFilter,
    RemediationJournal,
    RemediationRepository,
    RemediationState,
    RemediationStep,
)
from promcompat.core.errors import ConflictError, NotFoundError


class RemediationService:
    """The use cases of remediations, each for one tenant."""

    def __init__(
        self,
        repository: RemediationRepository,
        journal: RemediationJournal,
        control: RemediationControl,
    ) -> None:
        self._repository = repository
        self._journal = journal
        self._control = control

    async def list(self, tenant: str, wanted: RemediationFilter) -> tuple[list[Remediation], bool]:
        """Remediations that fit, newest first, and whether there are more; see the port."""
        return await self._repository.list(tenant, wanted)

    async def get(
        self, tenant: str, remediation_id: int
    ) -> tuple[Remediation, Sequence[RemediationStep]]:
        """One remediation with its steps. Raises NotFoundError."""
        found = await self._find(tenant, remediation_id)
        return found, await self._repository.steps(remediation_id)

    async def decide(self, tenant: str, remediation_id: int, decision: Decision) -> Remediation:
        """Approve or deny; the first decision recorded counts, and repeating it succeeds.

        The decision is recorded before the workflow is signalled, so that it counts even when the
        signal fails (StorageUnavailableError). Raises NotFoundError, and ConflictError when the
        remediation does not wait for a decision or another one was made.
        """
        recorded = await self._repository.decide(tenant, remediation_id, decision)
        if recorded is None:
            recorded = await self._find(tenant, remediation_id)
            if recorded.decision is None:
                raise ConflictError(
                    f"the remediation is {recorded.state} and is not waiting for a decision"
                )
            if recorded.decision.verdict is not decision.verdict:
                raise ConflictError(f"the remediation has already been {recorded.decision.verdict}")
        if recorded.state is RemediationState.WAITING_FOR_APPROVAL:
            assert recorded.decision is not None, "recorded above"
            await self._signal(recorded, recorded.decision)
        return recorded

    async def _signal(self, remediation: Remediation, decision: Decision) -> None:
        try:
            await self._control.decide(remediation.workflow_id, decision)
        except NotFoundError as exc:
            raise ConflictError("the workflow of the remediation is no longer running") from exc

    async def cancel(
        self, tenant: str, remediation_id: int, actor: str, reason: str
    ) -> Remediation:
        """Ask the workflow to clean up and end; a remediation that never started ends at once.

        Cancelling again succeeds. Raises NotFoundError, and ConflictError when the remediation
        has already ended in another way.
        """
        recorded = await self._repository.record_cancel(tenant, remediation_id, actor, reason)
        if recorded is None:
            found = await self._find(tenant, remediation_id)
            if found.state is RemediationState.CANCELLED:
                return found
            raise ConflictError(f"the remediation is {found.state} and cannot be cancelled")
        if not recorded.state.is_final:
            await self._stop(recorded)
        return await self._find(tenant, remediation_id)

    async def _stop(self, remediation: Remediation) -> None:
        try:
            await self._control.cancel(
                remediation.workflow_id,
                f"{remediation.cancelled_by}: {remediation.cancel_reason}",
            )
        except NotFoundError:
            # It ended without a record: terminated by hand, or forgotten by Temporal.
            await self._journal.mark_state(
                remediation.workflow_id,
                RemediationState.CANCELLED,
                "the workflow no longer existed",
            )

    async def _find(self, tenant: str, remediation_id: int) -> Remediation:
        found = await self._repository.find(tenant, remediation_id)
        if found is None:
            raise NotFoundError(f"there is no remediation {remediation_id}")
        return found
