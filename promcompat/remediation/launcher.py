"""Starts and steers remediation workflows; the only module that calls Temporal as a client."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import default
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from promcompat.core.alerting.remediation import (
    Decision,
    RemediationControl,
    RemediationJournal,
    RemediationLauncher,
    RemediationRequest,
    RemediationState,
)
from promcompat.core.errors import BadDataError, NotFoundError, StorageUnavailableError
from promcompat.remediation.payloads import DECIDE_SIGNAL, Answer, RemediationJob
from promcompat.remediation.temporal import LauncherStats, TemporalOptions

_LOGGER = logging.getLogger(__name__)
_PAUSE_SECONDS = 5.0
"""How long no call is tried after Temporal failed to answer: otherwise a backlog of a thousand
breaches would wait for a thousand time-outs."""

_MAX_INPUT_BYTES: Final = 4_000_000
"""Temporal takes no message of more than 4 MiB, and refuses one as if it were overloaded."""

_INNERMOST: Final = re.compile(r'\b(?:message|error): "([^"]+)"')


async def connect(options: TemporalOptions, *, lazy: bool) -> Client:
    """A client; a lazy one connects in its first call."""
    return await Client.connect(
        options.address,
        namespace=options.namespace,
        api_key=options.api_key,
        tls=options.uses_tls,
        lazy=lazy,
    )


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Turn the client's errors into ours.

    BadDataError for what Temporal can never accept, NotFoundError for a workflow that it does not
    have (any more), and StorageUnavailableError for the rest: also for a missing permission or
    namespace, as an operator can repair that and nothing may be lost until then.
    """
    try:
        yield
    except RPCError as exc:
        match exc.status:
            case RPCStatusCode.INVALID_ARGUMENT:
                raise BadDataError(f"Temporal rejected the request: {exc.message}") from exc
            case RPCStatusCode.NOT_FOUND:
                raise NotFoundError(
                    f"Temporal has no such workflow or namespace: {exc.message}"
                ) from exc
            case _:
                raise StorageUnavailableError(f"Temporal is not available: {exc.message}") from exc
    except TimeoutError as exc:
        raise StorageUnavailableError("Temporal did not respond in time") from exc
    except (RuntimeError, OSError) as exc:
        # The client raises RuntimeError when it cannot connect.
        raise StorageUnavailableError(f"Temporal cannot be reached: {client_fault(exc)}") from exc


def client_fault(error: Exception) -> str:
    """Why the client has no connection: the innermost text of the values of its library."""
    found = _INNERMOST.findall(str(error))
    return found[-1].lower() if found else str(error) or "no answer"


class TemporalRemediationLauncher(RemediationLauncher, RemediationControl):
    """The ports' Temporal side.

    A request is recorded before its workflow is started, and the start is recorded after it. After
    a crash in between, the same request is made again, and Temporal reports that the workflow id is
    already in use. As our record outlives Temporal's record of closed workflows, an id is started
    at most once.
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

        A workflow that Temporal can never start is recorded as failed; nothing is raised, as a
        repetition would not help.
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
            await self.cancel(request.workflow_id, "cancelled while it was being started")

    async def _start_workflow(self, request: RemediationRequest) -> str:
        """The run id of the workflow, started now or before."""
        job = _job_of(request)
        n_bytes = len(default().payload_converter.to_payload(job).data)
        if n_bytes > _MAX_INPUT_BYTES:
            raise BadDataError(
                f"the input of the workflow has {n_bytes} bytes; Temporal takes at most "
                f"{_MAX_INPUT_BYTES}"
            )
        try:
            async with self._calling() as client:
                handle = await client.start_workflow(
                    request.spec.workflow_type,
                    job,
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

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        """Cancel a request; see the port. A workflow that exists after all ends as it begins."""
        await self._journal.withdraw(workflow_id, reason)

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """Signal the waiting workflow; see the port."""
        answer = Answer(decision.verdict.value, decision.actor, decision.reason)
        async with self._calling() as client:
            await client.get_workflow_handle(workflow_id).signal(DECIDE_SIGNAL, answer)

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Cancel the workflow; see the port."""
        async with self._calling() as client:
            handle = client.get_workflow_handle(workflow_id)
            # Temporal accepts the cancellation of a closed workflow, and nothing would clean up.
            if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
                raise NotFoundError("the workflow is no longer running")
            await handle.cancel(reason=reason)

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[Client]:
        """A client for one call, which must end in time; notes whether Temporal was reached."""
        client = await self._reachable_client()
        try:
            with _translated_errors():
                async with asyncio.timeout(self._options.timeout_seconds):
                    yield client
        except StorageUnavailableError as exc:
            self._note(exc)
            raise
        except Exception:
            # Any other error shows that Temporal is reachable.
            self._note(None)
            raise
        self._note(None)

    async def _reachable_client(self) -> Client:
        if self._clock() < self._paused_until:
            raise StorageUnavailableError(self._pause_reason)
        if self._client is None:
            self._client = await connect(self._options, lazy=True)
        return self._client

    def _note(self, failure: StorageUnavailableError | None) -> None:
        """Record whether a call reached Temporal; after a failure nobody tries for a while."""
        self.stats.is_reachable = int(failure is None)
        if failure is not None:
            self._paused_until = self._clock() + _PAUSE_SECONDS
            self._pause_reason = str(failure)


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
