"""Starts and steers remediation workflows; the outer half of the outbox."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import timedelta

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from promcompat.core.errors import BadDataError, NotFoundError, StorageUnavailableError
from promcompat.core.remediation import (
    Decision,
    RemediationControl,
    RemediationJournal,
    RemediationLauncher,
    RemediationRequest,
    RemediationState,
)
from promcompat.remediation.launcher_stats import LauncherStats
from promcompat.remediation.payloads import DECIDE_SIGNAL, Answer, RemediationJob
from promcompat.remediation.temporal_client import connect, translated_temporal_errors
from promcompat.remediation.temporal_options import TemporalOptions

_LOGGER = logging.getLogger(__name__)
_PAUSE_SECONDS = 5.0
"""After Temporal failed to answer, so long nobody waits for it again: a backlog of a thousand
breaches would wait a thousand time-outs."""


class TemporalRemediationLauncher:
    """The port's Temporal side.

    What is asked for is recorded before the workflow is started, and that it started after it. A
    crash between the two heals by asking again: Temporal knows the workflow id and says so. The
    record outlives Temporal's memory of closed workflows, so an id starts once for ever.
    """

    def __init__(
        self,
        options: TemporalOptions,
        journal: RemediationJournal,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = LauncherStats()
        self._options = options
        self._journal = journal
        self._clock = clock
        self._client: Client | None = None
        self._paused_until = 0.0
        self._pause_reason = ""

    async def start(self, request: RemediationRequest) -> None:
        """Start the workflow unless one with this id was ever started; see the port.

        One that Temporal can never start is recorded as failed and not raised: asking again
        would not help.
        """
        if await self._journal.request(request) is not RemediationState.REQUESTED:
            self.stats.already_started += 1
            return
        try:
            run_id = await self._start_workflow(request)
        except BadDataError as exc:
            self.stats.refused += 1
            await self._journal.mark_start_failed(request.workflow_id, str(exc), is_final=True)
            return
        except (StorageUnavailableError, NotFoundError) as exc:
            self.stats.unavailable += 1
            await self._journal.mark_start_failed(request.workflow_id, str(exc), is_final=False)
            raise StorageUnavailableError(str(exc)) from exc
        state = await self._journal.mark_started(request.workflow_id, run_id)
        if state is RemediationState.CANCELLED:
            await self.cancel(request.workflow_id, "cancelled while it was started")

    async def _start_workflow(self, request: RemediationRequest) -> str:
        """The run id of the workflow, started now or before."""
        client = await self._reachable_client()
        try:
            with self._watched(), translated_temporal_errors():
                async with asyncio.timeout(self._options.timeout_seconds):
                    handle = await client.start_workflow(
                        request.spec.workflow_type,
                        _job_of(request),
                        id=request.workflow_id,
                        task_queue=request.spec.task_queue,
                        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                        id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                        static_summary=f"remediation of {request.rule_name}"[:200],
                        rpc_timeout=timedelta(seconds=self._options.timeout_seconds),
                    )
        except WorkflowAlreadyStartedError as exc:
            self.stats.already_started += 1
            return exc.run_id or ""
        self.stats.started += 1
        _LOGGER.info("remediation started", extra={"workflow_id": request.workflow_id})
        return handle.first_execution_run_id or ""

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """Signal the waiting workflow; see the port."""
        client = await self._reachable_client()
        answer = Answer(decision.verdict.value, decision.actor, decision.reason)
        with self._watched(), translated_temporal_errors():
            async with asyncio.timeout(self._options.timeout_seconds):
                await client.get_workflow_handle(workflow_id).signal(DECIDE_SIGNAL, answer)

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Cancel the workflow; see the port."""
        client = await self._reachable_client()
        with self._watched(), translated_temporal_errors():
            async with asyncio.timeout(self._options.timeout_seconds):
                handle = client.get_workflow_handle(workflow_id)
                # Cancelling a closed workflow is no error for Temporal, and nobody would clean up.
                if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                    raise NotFoundError("the workflow no longer runs")
                await handle.cancel(reason=reason)

    async def _reachable_client(self) -> Client:
        if self._clock() < self._paused_until:
            raise StorageUnavailableError(self._pause_reason)
        if self._client is None:
            self._client = await connect(self._options, lazy=True)
        return self._client

    def _watched(self) -> "_Watch":
        return _Watch(self._note)

    def _note(self, failure: StorageUnavailableError | None) -> None:
        """Learn from a call whether Temporal can be reached."""
        self.stats.is_reachable = int(failure is None)
        if failure is not None:
            self._paused_until = self._clock() + _PAUSE_SECONDS
            self._pause_reason = str(failure)


class _Watch:
    """Tells whether the block found Temporal unavailable; any other end means that it answered."""

    def __init__(self, note: Callable[[StorageUnavailableError | None], None]) -> None:
        self._note = note

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, Exception):
            self._note(error if isinstance(error, StorageUnavailableError) else None)


def _job_of(request: RemediationRequest) -> RemediationJob:
    return RemediationJob(
        tenant=request.tenant,
        workflow_id=request.workflow_id,
        alert_id=request.alert_id,
        rule_name=request.rule_name,
        query=request.query,
        input=dict(request.workflow_input),
        series_labels=dict(request.series_labels),
        max_attempts=request.spec.max_attempts,
        needs_approval=request.spec.needs_approval,
        approval_timeout_ms=request.spec.approval_timeout_ms,
    )


def _conforms(
    launcher: TemporalRemediationLauncher,
) -> tuple[RemediationLauncher, RemediationControl]:
    """Checked by mypy: the launcher has the shape of both ports."""
    return launcher, launcher
