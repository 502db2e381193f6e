"""Requests and replies of remediations."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field

from native_api.contract.pages import PageQuery
from native_api.contract.parameters import MAX_ID, ActorField, Reason, StoredText
from native_api.contract.route import BodyModel, ReplyModel
from native_api.contract.times import format_optional_time_ms
from promcompat.core.alerting.remediation import (
    Remediation,
    RemediationState,
    RemediationStep,
    StepState,
    Verdict,
)
from promcompat.core.texts.times import format_time_ms


class RemediationListQuery(PageQuery):
    """Which remediations to list."""

    state: RemediationState | None = Field(None, description="Only remediations in this state.")
    rule: StoredText | None = Field(
        None, description="Only remediations of the alert rule, or the metric, with this name."
    )
    alert: Annotated[int | None, Field(ge=1, le=MAX_ID)] = Field(
        None, description="Only remediations of the alert with this id."
    )


class RulingPayload(BodyModel):
    """Who decides, and why."""

    actor: ActorField = None
    reason: Reason = ""


class DecisionReply(ReplyModel):
    """The outcome of the request for approval."""

    verdict: Verdict
    actor: str
    reason: str


class CancellationReply(ReplyModel):
    """Who asked the remediation to end, and why."""

    actor: str
    reason: str


class RemediationReply(ReplyModel):
    """A remediation as recorded."""

    id: int
    workflow_id: str
    run_id: str
    run_url: str | None = Field(
        description="Where Temporal's page shows the run; null unless the service knows the "
        "address of that page (`PROMCOMPAT_TEMPORAL_UI_URL`) and the workflow has started."
    )
    workflow_type: str
    task_queue: str
    alert_id: int
    rule: str
    query: str = Field(
        description="The condition as PromQL; it has no result once the condition has cleared."
    )
    input: dict[str, Any]
    state: RemediationState
    outcome: str = Field(description="Why the remediation is in its state.")
    decision: DecisionReply | None
    approval_expires_at: str | None
    cancellation: CancellationReply | None = Field(description="Null unless it was cancelled.")
    start_failures: int = Field(description="How many attempts to start it have failed.")
    last_error: str = Field(description="Why the latest attempt to start it failed.")
    requested_at: str
    started_at: str | None
    finished_at: str | None

    @classmethod
    def of_remediation(cls, remediation: Remediation, run_url: str | None) -> Self:
        """The payload of a core value."""
        return cls(**_fields_of(remediation), run_url=run_url)


class StepReply(ReplyModel):
    """One step: action, verify, rollback, escalate or cleanup; `tries` counts its starts."""

    step: str
    attempt: int
    state: StepState
    tries: int
    detail: dict[str, Any]
    started_at: str
    finished_at: str | None


class RemediationDetailReply(RemediationReply):
    """A remediation with its steps in the order of their first start."""

    steps: list[StepReply]

    @classmethod
    def of_parts(
        cls, remediation: Remediation, steps: Sequence[RemediationStep], run_url: str | None
    ) -> Self:
        """The payload of a remediation and its steps."""
        shown = [_step_reply(step) for step in steps]
        return cls(**_fields_of(remediation), run_url=run_url, steps=shown)


class RemediationListReply(ReplyModel):
    """A page of remediations, newest first."""

    remediations: list[RemediationReply]
    next_cursor: str | None = Field(
        description="The cursor of the next page; null on the last page."
    )


def _fields_of(remediation: Remediation) -> dict[str, Any]:
    decision = remediation.decision
    return {
        "id": remediation.id,
        "workflow_id": remediation.workflow_id,
        "run_id": remediation.run_id,
        "workflow_type": remediation.workflow_type,
        "task_queue": remediation.task_queue,
        "alert_id": remediation.alert_id,
        "rule": remediation.rule_name,
        "query": remediation.query,
        "input": dict(remediation.input),
        "state": remediation.state,
        "outcome": remediation.outcome,
        "decision": decision
        and DecisionReply(verdict=decision.verdict, actor=decision.actor, reason=decision.reason),
        "approval_expires_at": format_optional_time_ms(remediation.approval_expires_at_ms),
        "cancellation": CancellationReply(
            actor=remediation.cancelled_by, reason=remediation.cancel_reason
        )
        if remediation.cancelled_by
        else None,
        "start_failures": remediation.start_failures,
        "last_error": remediation.last_error,
        "requested_at": format_time_ms(remediation.requested_at_ms),
        "started_at": format_optional_time_ms(remediation.started_at_ms),
        "finished_at": format_optional_time_ms(remediation.finished_at_ms),
    }


def _step_reply(step: RemediationStep) -> StepReply:
    return StepReply(
        step=step.step,
        attempt=step.attempt,
        state=step.state,
        tries=step.tries,
        detail=dict(step.detail),
        started_at=format_time_ms(step.started_at_ms),
        finished_at=format_optional_time_ms(step.finished_at_ms),
    )
