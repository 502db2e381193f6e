"""The reference workflow: approve, act, verify; escalate or roll back when that did not help.

Deterministic: no clock, no I/O and no settings here, all of that is in activities. Where a
comment says that an order matters, a replay of an old history depends on it too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    FailureError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from promcompat.core.alerting.remediation import RemediationState, StepState, Verdict
    from promcompat.core.errors import BadDataError
    from promcompat.remediation.payloads import (
        AWAIT_APPROVAL,
        BEGIN,
        DECIDE_SIGNAL,
        RECORD_STATE,
        RECORD_STEP,
        REMEDIATION_WORKFLOW,
        RUN_ACTION,
        SETTLE_APPROVAL,
        STATUS_QUERY,
        VERIFY,
        ActionCall,
        Answer,
        ApprovalQuestion,
        ProposedAnswer,
        RemediationJob,
        RemediationStatus,
        StateChange,
        StepChange,
        StepName,
        StepOutcome,
        StepStatus,
        VerifyCall,
    )
    from promcompat.remediation.plans import (
        CommandAction,
        HttpAction,
        Plan,
        SqlAction,
        encode_action,
        parse_plan,
    )

_RECORD_TIMEOUT: Final = timedelta(seconds=30)
_RECORD_RETRY: Final = RetryPolicy(maximum_interval=timedelta(seconds=30))
"""Without end: an unavailable database delays a remediation and loses none of its history."""
_VERIFY_TIMEOUT: Final = timedelta(minutes=3)
_HEARTBEAT_TIMEOUT: Final = timedelta(seconds=10)
"""After this long without a heartbeat the worker of an action counts as dead."""
_ACTION_GRACE: Final = timedelta(minutes=5)
"""How long a finished action may wait for the database to record it."""


@workflow.defn(name=REMEDIATION_WORKFLOW)
class RemediationWorkflow:
    """One remediation of one breach. Steps: action, verify, rollback, escalate, cleanup."""

    def __init__(self) -> None:
        self._state = RemediationState.RUNNING
        self._outcome = ""
        self._answer: Answer | None = None
        self._expires_at_ms = 0
        self._steps: list[StepStatus] = []

    @workflow.signal(name=DECIDE_SIGNAL)
    def decide(self, answer: Answer) -> None:
        """Approve or deny; the first answer counts."""
        if self._answer is None and answer.verdict in (Verdict.APPROVED, Verdict.DENIED):
            self._answer = answer

    @workflow.query(name=STATUS_QUERY)
    def status(self) -> RemediationStatus:
        """The state of the remediation, with every step so far."""
        return RemediationStatus(
            self._state.value, self._outcome, self._steps, self._answer, self._expires_at_ms
        )

    @workflow.run
    async def run(self, job: RemediationJob) -> RemediationStatus:
        """Remediate; the result is the last status. Fails on an invalid input."""
        plan: Plan | None = None
        try:
            if RemediationState(await self._record_call(BEGIN, job)).is_final:
                # Cancelled before it started: nothing was done, and nothing must be done.
                self._state, self._outcome = RemediationState.CANCELLED, "never began"
                return self.status()
            plan = parse_plan(job.input)
            return await self._run(job, plan)
        except BadDataError as exc:
            await self._end(job, RemediationState.FAILED, str(exc))
            raise ApplicationError(str(exc), type="BadDataError", non_retryable=True) from exc
        except (asyncio.CancelledError, ActivityError) as exc:
            if not is_cancelled_exception(exc):
                raise
            if self._state.is_final:
                # It had ended and only had to be recorded; undoing it now would surprise.
                return await self._end(job, self._state, self._outcome)
            await self._clean_up(job, plan)
            raise

    async def _run(self, job: RemediationJob, plan: Plan) -> RemediationStatus:
        verdict = await self._approval(job) if job.needs_approval else Verdict.APPROVED
        if verdict is Verdict.DENIED:
            return await self._end(job, RemediationState.DENIED, "denied")
        if verdict is Verdict.EXPIRED:
            await self._escalate(job, plan)
            return await self._end(job, RemediationState.EXPIRED, "nobody approved in time")
        for attempt in range(1, max(1, job.max_attempts) + 1):
            if await self._repair(job, plan, attempt):
                return await self._end(
                    job, RemediationState.SUCCEEDED, f"the condition cleared in attempt {attempt}"
                )
        return await self._give_up(job, plan)

    async def _approval(self, job: RemediationJob) -> Verdict:
        timeout = timedelta(milliseconds=job.approval_timeout_ms)
        self._expires_at_ms = round((workflow.now() + timeout).timestamp() * 1000)
        self._state = RemediationState.WAITING_FOR_APPROVAL
        await self._record_call(
            AWAIT_APPROVAL, ApprovalQuestion(job.workflow_id, self._expires_at_ms)
        )
        heard = Answer(Verdict.EXPIRED, "")
        try:
            await workflow.wait_condition(lambda: self._answer is not None, timeout=timeout)
        except TimeoutError:
            workflow.logger.info("approval expired")
        else:
            assert self._answer is not None, "the condition waited for"
            heard = self._answer
        # The table decides: an approval recorded there counts even if its signal never came.
        settled: Answer = await workflow.execute_activity(
            SETTLE_APPROVAL,
            ProposedAnswer(job.workflow_id, heard),
            result_type=Answer,
            start_to_close_timeout=_RECORD_TIMEOUT,
            retry_policy=_RECORD_RETRY,
        )
        self._answer = settled
        if settled.verdict == Verdict.APPROVED:
            await self._move(job, RemediationState.RUNNING, f"approved by {settled.actor}")
        return Verdict(settled.verdict)

    async def _repair(self, job: RemediationJob, plan: Plan, attempt: int) -> bool:
        """Act once and check whether the condition has cleared."""
        if not await self._act(job, "action", attempt, plan.action):
            return False
        await workflow.sleep(timedelta(milliseconds=plan.verify.wait))
        for check in range(1, plan.verify.checks + 1):
            if check > 1:
                await workflow.sleep(timedelta(milliseconds=plan.verify.interval))
            if await self._verify(job, plan, attempt):
                return True
        return False

    async def _give_up(self, job: RemediationJob, plan: Plan) -> RemediationStatus:
        outcome, state = "the condition did not clear", RemediationState.ESCALATED
        if plan.rollback is not None:
            if await self._act(job, "rollback", 1, plan.rollback):
                state, outcome = RemediationState.ROLLED_BACK, f"{outcome}; rolled back"
            else:
                outcome += "; the rollback failed"
        if not await self._escalate(job, plan):
            outcome += "; the escalation failed"
        return await self._end(job, state, outcome)

    async def _escalate(self, job: RemediationJob, plan: Plan) -> bool:
        return plan.escalate is None or await self._act(job, "escalate", 1, plan.escalate)

    async def _clean_up(self, job: RemediationJob, plan: Plan | None) -> None:
        """Undo what was begun, after a cancellation."""
        for status in self._steps:
            if status.state == StepState.RUNNING:
                status.state = StepState.CANCELLED
                name = StepName(job.workflow_id, status.step, status.attempt)
                await self._record(RECORD_STEP, StepChange(name, status.state, status.detail))
        undo = (plan.cleanup or plan.rollback) if plan is not None and self._steps else None
        outcome = "cancelled"
        if undo is not None:
            cleaned = await self._act(job, "cleanup", 1, undo)
            outcome += "; cleaned up" if cleaned else "; the clean-up failed"
        await self._end(job, RemediationState.CANCELLED, outcome)

    async def _act(
        self,
        job: RemediationJob,
        step: str,
        attempt: int,
        action: HttpAction | CommandAction | SqlAction,
    ) -> bool:
        """One action as a step; False when it failed for good."""
        name = StepName(job.workflow_id, step, attempt)

        def run() -> Awaitable[StepOutcome]:
            return workflow.execute_activity(
                RUN_ACTION,
                ActionCall(name, encode_action(action)),
                result_type=StepOutcome,
                start_to_close_timeout=timedelta(milliseconds=action.timeout) + _ACTION_GRACE,
                heartbeat_timeout=_HEARTBEAT_TIMEOUT,
                # The activity counts the tries of the action and fails for good after the last.
                retry_policy=_RECORD_RETRY,
                # A clean-up must not overtake the action it undoes.
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            )

        return await self._step(name, run)

    async def _verify(self, job: RemediationJob, plan: Plan, attempt: int) -> bool:
        name = StepName(job.workflow_id, "verify", attempt)
        own = plan.verify.query
        alert_id = job.alert_id if own is None else 0
        call = VerifyCall(name, job.tenant, own or job.query, job.series_labels, alert_id)

        def run() -> Awaitable[StepOutcome]:
            return workflow.execute_activity(
                VERIFY,
                call,
                result_type=StepOutcome,
                start_to_close_timeout=_VERIFY_TIMEOUT,
                retry_policy=_RECORD_RETRY,
            )

        return await self._step(name, run)

    async def _step(self, name: StepName, run: Callable[[], Awaitable[StepOutcome]]) -> bool:
        status = self._status_of(name)
        status.state = StepState.RUNNING
        try:
            outcome = await run()
        except ActivityError as exc:
            if is_cancelled_exception(exc):
                raise
            outcome = StepOutcome(False, {"error": _reason(exc)})
            await self._record(RECORD_STEP, StepChange(name, StepState.FAILED, outcome.detail))
        status.state = StepState.SUCCEEDED if outcome.has_succeeded else StepState.FAILED
        status.detail = outcome.detail
        return outcome.has_succeeded

    def _status_of(self, name: StepName) -> StepStatus:
        for status in self._steps:
            if (status.step, status.attempt) == (name.step, name.attempt):
                return status
        status = StepStatus(name.step, name.attempt, StepState.RUNNING)
        self._steps.append(status)
        return status

    async def _end(
        self, job: RemediationJob, state: RemediationState, outcome: str
    ) -> RemediationStatus:
        await self._move(job, state, outcome)
        return self.status()

    async def _move(self, job: RemediationJob, state: RemediationState, outcome: str) -> None:
        self._state, self._outcome = state, outcome
        await self._record(RECORD_STATE, StateChange(job.workflow_id, state, outcome))

    async def _record(self, activity: str, change: StepChange | StateChange) -> None:
        await workflow.execute_activity(
            activity,
            change,
            start_to_close_timeout=_RECORD_TIMEOUT,
            retry_policy=_RECORD_RETRY,
        )

    async def _record_call(self, activity: str, argument: object) -> str:
        """Record something; returns the state that is now recorded."""
        state: str = await workflow.execute_activity(
            activity,
            argument,
            result_type=str,
            start_to_close_timeout=_RECORD_TIMEOUT,
            retry_policy=_RECORD_RETRY,
        )
        return state


def _reason(error: ActivityError) -> str:
    return error.cause.message if isinstance(error.cause, FailureError) else error.message
