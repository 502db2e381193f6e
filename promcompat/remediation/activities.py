"""The activities of the reference workflow; users' workflows may call them by name too.

Each may run more than once; the record of a step says whether it has already succeeded.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from promcompat.core.alerting.remediation import (
    Decision,
    RemediationJournal,
    RemediationRequest,
    RemediationSpec,
    RemediationState,
    StepKey,
    StepState,
    Verdict,
)
from promcompat.core.errors import (
    BadDataError,
    ExecutionError,
    PromcompatError,
    QueryTimeoutError,
    StorageUnavailableError,
)
from promcompat.remediation.actions import ActionFailedError, ActionRunner
from promcompat.remediation.conditions import Condition, ConditionChecker
from promcompat.remediation.payloads import (
    AWAIT_APPROVAL,
    BEGIN,
    RECORD_STATE,
    RECORD_STEP,
    RUN_ACTION,
    SETTLE_APPROVAL,
    VERIFY,
    ActionCall,
    Answer,
    ApprovalQuestion,
    ProposedAnswer,
    RemediationJob,
    StateChange,
    StepChange,
    StepOutcome,
    VerifyCall,
)
from promcompat.remediation.plans import parse_action

_LOGGER = logging.getLogger(__name__)
_HEARTBEAT_SECONDS = 2.0
_RECORD_AGAIN_SECONDS = 1.0


class RemediationActivities:
    """The activities of the reference workflow; one object for each worker."""

    def __init__(
        self, journal: RemediationJournal, runner: ActionRunner, checker: ConditionChecker
    ) -> None:
        self._journal = journal
        self._runner = runner
        self._checker = checker

    def all(self) -> Sequence[Callable[..., Any]]:
        """Every activity, for the worker to register."""
        return (
            self.begin,
            self.await_approval,
            self.settle_approval,
            self.run_action,
            self.verify,
            self.record_step,
            self.record_state,
        )

    @activity.defn(name=BEGIN)
    async def begin(self, job: RemediationJob) -> str:
        """Record that a workflow runs, even if no launcher recorded it; returns its state."""
        info = activity.info()
        spec = RemediationSpec(
            workflow_type=info.workflow_type or "",
            task_queue=info.task_queue,
            input_template={},
            max_attempts=job.max_attempts,
            needs_approval=job.needs_approval,
        )
        request = RemediationRequest(
            tenant=job.tenant,
            workflow_id=job.workflow_id,
            spec=spec,
            workflow_input=job.input,
            alert_id=job.alert_id,
            rule_name=job.rule_name,
            query=job.query,
        )
        await self._journal.request(request)
        await self._journal.mark_started(job.workflow_id, info.workflow_run_id or "")
        return await self._journal.mark_state(job.workflow_id, RemediationState.RUNNING)

    @activity.defn(name=AWAIT_APPROVAL)
    async def await_approval(self, question: ApprovalQuestion) -> str:
        """Record that the workflow waits for a decision; returns the state."""
        return await self._journal.await_approval(question.workflow_id, question.expires_at_ms)

    @activity.defn(name=SETTLE_APPROVAL)
    async def settle_approval(self, proposed: ProposedAnswer) -> Answer:
        """The answer that counts: the first one recorded."""
        answer = proposed.answer
        decision = Decision(Verdict(answer.verdict), answer.actor, answer.reason)
        settled = await self._journal.settle(proposed.workflow_id, decision)
        return Answer(settled.verdict, settled.actor, settled.reason)

    @activity.defn(name=RUN_ACTION)
    async def run_action(self, call: ActionCall) -> StepOutcome:
        """Run an action unless its step is recorded as done.

        The record counts the tries, not Temporal: an unavailable database must delay an action
        without using up its tries.
        """
        key = call.name.key
        async with _heartbeats():
            recorded = await self._journal.begin_step(key)
            if recorded.state is StepState.SUCCEEDED:
                return StepOutcome(True, dict(recorded.detail))
            try:
                action = parse_action(call.action)
                if recorded.tries > action.tries:
                    raise BadDataError(f"given up: the results of {action.tries} tries are unknown")
                detail = await self._runner.run(key, action)
            except (BadDataError, ActionFailedError) as exc:
                await self._persist(key, StepState.FAILED, {"error": str(exc)})
                can_retry = isinstance(exc, ActionFailedError) and recorded.tries < action.tries
                fields = {"key": key.idempotency_key, "reason": str(exc), "again": can_retry}
                _LOGGER.warning("action failed", extra=fields)
                raise _expected_failure(exc, can_retry=can_retry) from None
            await self._persist(key, StepState.SUCCEEDED, detail)
        _LOGGER.info("action done", extra={"key": key.idempotency_key})
        return StepOutcome(True, dict(detail))

    async def _persist(self, key: StepKey, state: StepState, detail: Mapping[str, Any]) -> None:
        """Record an outcome as soon as the database answers; else the action would run again."""
        while True:
            try:
                return await self._journal.finish_step(key, state, detail)
            except (StorageUnavailableError, QueryTimeoutError) as exc:
                _LOGGER.warning("could not record a step; trying again", extra={"reason": str(exc)})
                await asyncio.sleep(_RECORD_AGAIN_SECONDS)

    @activity.defn(name=VERIFY)
    async def verify(self, call: VerifyCall) -> StepOutcome:
        """Check whether the condition has cleared, and record the result."""
        key = call.name.key
        recorded = await self._journal.begin_step(key)
        if recorded.state is StepState.SUCCEEDED:
            return StepOutcome(True, dict(recorded.detail))
        try:
            condition = await self._condition(call)
        except (BadDataError, ExecutionError, QueryTimeoutError) as exc:
            raise _expected_failure(exc, can_retry=False) from None
        state = StepState.FAILED if condition.holds else StepState.SUCCEEDED
        await self._journal.finish_step(key, state, condition.detail)
        return StepOutcome(not condition.holds, dict(condition.detail))

    async def _condition(self, call: VerifyCall) -> Condition:
        if call.alert_id:
            own = await self._checker.of_alert(call.tenant, call.alert_id)
            if own is not None:
                return own
        return await self._checker.of_query(call.tenant, call.query, call.series_labels)

    @activity.defn(name=RECORD_STEP)
    async def record_step(self, change: StepChange) -> None:
        """Record how a step ended when its activity could not."""
        await self._journal.finish_step(change.name.key, StepState(change.state), change.detail)

    @activity.defn(name=RECORD_STATE)
    async def record_state(self, change: StateChange) -> str:
        """Record a new state of the workflow; returns the one that counts, which may be final."""
        state = RemediationState(change.state)
        if state.is_final:
            fields = {"workflow_id": change.workflow_id, "state": state.value}
            _LOGGER.info("remediation ended", extra={**fields, "outcome": change.outcome})
        return await self._journal.mark_state(change.workflow_id, state, change.outcome)


def _expected_failure(error: PromcompatError, *, can_retry: bool) -> ApplicationError:
    """A failure that the worker did not cause, so that Temporal logs no traceback.

    It is raised without its cause, whose text may be longer than Temporal takes.
    """
    return ApplicationError(
        str(error),
        type=type(error).__name__,
        non_retryable=not can_retry,
        category=ApplicationErrorCategory.BENIGN,
    )


@asynccontextmanager
async def _heartbeats() -> AsyncIterator[None]:
    """Send heartbeats during the block; cancellations arrive with their answers."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
