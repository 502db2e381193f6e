"""Records start and end of users' own workflows, so that the API shows them like ours."""

import asyncio
from datetime import timedelta
from typing import Any, Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import FailureError, is_cancelled_exception
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from promcompat.core.alerting.remediation import RemediationState
from promcompat.remediation.payloads import (
    BEGIN,
    RECORD_STATE,
    REMEDIATION_WORKFLOW,
    RemediationJob,
    StateChange,
)

_TIMEOUT: Final = timedelta(seconds=30)
_RETRY: Final = RetryPolicy(maximum_interval=timedelta(seconds=30))


class RecordingInterceptor(Interceptor):
    """Records start and end of every workflow that takes a RemediationJob and is not ours."""

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        """The wrapper of each workflow."""
        return _RecordingInbound


class _RecordingInbound(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:
        job = input.args[0] if input.args else None
        is_ours = workflow.info().workflow_type == REMEDIATION_WORKFLOW
        if is_ours or not isinstance(job, RemediationJob):
            return await super().execute_workflow(input)
        state: str = await workflow.execute_activity(
            BEGIN, job, result_type=str, start_to_close_timeout=_TIMEOUT, retry_policy=_RETRY
        )
        if RemediationState(state).is_final:
            return None
        try:
            result = await super().execute_workflow(input)
        except (FailureError, asyncio.CancelledError) as exc:
            if is_cancelled_exception(exc):
                await _record(job, RemediationState.CANCELLED, "cancelled")
            else:
                await _record(job, RemediationState.FAILED, str(exc))
            raise
        await _record(job, RemediationState.SUCCEEDED, "the workflow ended")
        return result


async def _record(job: RemediationJob, state: RemediationState, outcome: str) -> None:
    """Record an end; a final state that the workflow recorded itself is kept."""
    await workflow.execute_activity(
        RECORD_STATE,
        StateChange(job.workflow_id, state, outcome),
        start_to_close_timeout=_TIMEOUT,
        retry_policy=_RETRY,
    )
