"""Stands in for Temporal where none is configured: records what is asked for and keeps it."""

from promcompat.core.errors import StorageUnavailableError
from promcompat.core.remediation import (
    Decision,
    RemediationControl,
    RemediationJournal,
    RemediationLauncher,
    RemediationRequest,
    RemediationState,
)
from promcompat.remediation.launcher_stats import LauncherStats

_REASON = "remediation is not configured: set PROMCOMPAT_TEMPORAL_ADDRESS"


class UnconfiguredRemediationLauncher:
    """Every request stays `requested` until there is a Temporal; nothing is lost."""

    def __init__(self, journal: RemediationJournal) -> None:
        self.stats = LauncherStats()
        self._journal = journal

    async def start(self, request: RemediationRequest) -> None:
        """Record the request and say that it has to wait; see the port."""
        if await self._journal.request(request) is RemediationState.REQUESTED:
            self.stats.unavailable += 1
            await self._journal.mark_start_failed(request.workflow_id, _REASON, is_final=False)
            raise StorageUnavailableError(_REASON)

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """Nobody can be told."""
        raise StorageUnavailableError(_REASON)

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Nobody can be told."""
        raise StorageUnavailableError(_REASON)


def _conforms(
    launcher: UnconfiguredRemediationLauncher,
) -> tuple[RemediationLauncher, RemediationControl]:
    """Checked by mypy: the launcher has the shape of both ports."""
    return launcher, launcher
