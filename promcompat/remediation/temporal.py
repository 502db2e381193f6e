"""What a service needs of Temporal without its client: options, counters, and the stand-in.

Temporal's client takes 0.3 s and 30 MB to import, so only `launcher` and the worker import it.
"""

from dataclasses import dataclass, field

from promcompat.core.alerting.remediation import (
    Decision,
    RemediationControl,
    RemediationJournal,
    RemediationLauncher,
    RemediationRequest,
    RemediationState,
)
from promcompat.core.errors import StorageUnavailableError

_REASON = "remediation is not configured: set PROMCOMPAT_TEMPORAL_ADDRESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalOptions:
    """`timeout_seconds` bounds each call, connecting included."""

    address: str
    namespace: str = "default"
    api_key: str | None = field(default=None, repr=False)
    uses_tls: bool = False
    timeout_seconds: float = 5.0


@dataclass(slots=True)
class LauncherStats:
    """Totals since the start, and whether the last call reached Temporal (0 or 1)."""

    started: int = 0
    already_started: int = 0
    unavailable: int = 0
    refused: int = 0
    is_reachable: int = 0


class UnconfiguredRemediationLauncher(RemediationLauncher, RemediationControl):
    """Stands in for the launcher when no Temporal is configured.

    Every request is recorded and stays `requested` until there is a Temporal, or is withdrawn.
    """

    def __init__(self, journal: RemediationJournal) -> None:
        self.stats = LauncherStats()
        self._journal = journal

    async def start(self, request: RemediationRequest) -> None:
        """Record the request and say that it has to wait; see the port."""
        if await self._journal.request(request) is RemediationState.REQUESTED:
            self.stats.unavailable += 1
            await self._journal.mark_start_failed(request.workflow_id, _REASON, is_final=False)
            raise StorageUnavailableError(_REASON)

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        """Cancel a request; see the port."""
        await self._journal.withdraw(workflow_id, reason)

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """There is no workflow; see the port."""
        raise StorageUnavailableError(_REASON)

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """There is no workflow; see the port."""
        raise StorageUnavailableError(_REASON)
