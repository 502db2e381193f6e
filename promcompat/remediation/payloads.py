"""What workflows, activities and the launcher exchange: JSON in Temporal's history.

A field may be added with a default, but never renamed or removed: workflows that began before an
upgrade end after it.
"""

from dataclasses import dataclass, field
from typing import Any

from promcompat.core.alerting.remediation import StepKey

REMEDIATION_WORKFLOW = "RemediationWorkflow"
DECIDE_SIGNAL = "decide"
STATUS_QUERY = "status"

BEGIN = "promcompat_begin"
AWAIT_APPROVAL = "promcompat_await_approval"
SETTLE_APPROVAL = "promcompat_settle_approval"
RUN_ACTION = "promcompat_run_action"
VERIFY = "promcompat_verify"
RECORD_STEP = "promcompat_record_step"
RECORD_STATE = "promcompat_record_state"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationJob:
    """The one argument of a remediation workflow, the reference one or a user's own."""

    tenant: str
    workflow_id: str
    alert_id: int
    rule_name: str
    query: str
    input: dict[str, Any]
    series_labels: dict[str, str] = field(default_factory=dict)
    max_attempts: int = 1
    needs_approval: bool = False
    approval_timeout_ms: int = 3_600_000


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's decision: the argument of the decide signal. `verdict` is a Verdict's value."""

    verdict: str
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ApprovalQuestion:
    """A workflow waits for a decision until a time."""

    workflow_id: str
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class ProposedAnswer:
    """The answer that a workflow received; the first one recorded counts."""

    workflow_id: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class StepName:
    """A step of a workflow; see `promcompat.core.alerting.remediation.StepKey`."""

    workflow_id: str
    step: str
    attempt: int

    @property
    def key(self) -> StepKey:
        """The step as it is recorded."""
        return StepKey(self.workflow_id, self.step, self.attempt)


@dataclass(frozen=True, slots=True)
class ActionCall:
    """An action to run as one step; `action` is a plan's action as JSON."""

    name: StepName
    action: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VerifyCall:
    """A check whether a condition has cleared, as one step."""

    name: StepName
    tenant: str
    query: str
    series_labels: dict[str, str]
    alert_id: int = 0
    """The alert whose own condition is checked; with 0 or an unknown alert `query` is."""


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """How a step ended, with details."""

    has_succeeded: bool
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StepChange:
    """The end of a step that its activity did not record; `state` is a StepState's value."""

    name: StepName
    state: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StateChange:
    """A new state of a workflow; `state` is a RemediationState's value."""

    workflow_id: str
    state: str
    outcome: str = ""


@dataclass(slots=True)
class StepStatus:
    """A step as the status query shows it."""

    step: str
    attempt: int
    state: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemediationStatus:
    """The answer of the status query, and the result of the workflow."""

    state: str
    outcome: str
    steps: list[StepStatus] = field(default_factory=list)
    decision: Answer | None = None
    approval_expires_at_ms: int = 0
