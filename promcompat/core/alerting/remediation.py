"""Remediations: values and ports shared by rules, definitions, workflows and the API."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from promcompat.core.errors import FieldFault


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationSpec:
    """The remediation that a rule or a definition requests.

    `input_template` is the workflow's input, a JSON object whose strings are templates over the
    alert (`{{ $labels.instance }}`, `{{ $value }}`). `cooldown_ms` is how long after a start the
    same alert does not start another one. With `needs_approval` the workflow waits for the approval
    signal and gives up after `approval_timeout_ms`. `levels` are the severities of an alert that
    start it; empty: every one.
    """

    workflow_type: str
    task_queue: str
    input_template: Mapping[str, object]
    cooldown_ms: int = 0
    max_attempts: int = 1
    needs_approval: bool = False
    approval_timeout_ms: int = 3_600_000
    levels: tuple[str, ...] = ()

    def is_for(self, severity: str) -> bool:
        """Whether an alert of this severity starts it."""
        return not self.levels or severity in self.levels


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationRequest:
    """One remediation to start. `workflow_id` is derived from the rule and the breach, so that a
    repeated request for the same breach has no second effect. It is unique across tenants.

    `query` has a result as long as the condition holds. `series_labels` are the labels of the
    series the alert is for, as `query` returns them: the condition has cleared when no element
    of the result has all of them. Without any, every element counts.
    """

    tenant: str
    workflow_id: str
    spec: RemediationSpec
    workflow_input: Mapping[str, object]
    alert_id: int
    rule_name: str
    query: str
    series_labels: Mapping[str, str] = field(default_factory=dict)


RemediationCheck = Callable[[RemediationSpec], Sequence[FieldFault]]
"""The faults of a remediation; fields are relative to it. It may take long."""


def accept_remediation(_spec: RemediationSpec) -> Sequence[FieldFault]:
    """Accepts every remediation: the check of a service without remediation settings."""
    return ()


class RemediationLauncher(Protocol):
    """Starts remediations."""

    async def start(self, request: RemediationRequest) -> None:
        """Start the workflow unless one with this id was ever started.

        Raises StorageUnavailableError when the workflow service cannot be reached: try again.
        """

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        """Cancel the request for a workflow that could not be started so far, if there is one.

        Raises StorageUnavailableError when the database cannot answer.
        """


class RemediationState(StrEnum):
    """The state of a remediation; those after `running` are final."""

    REQUESTED = "requested"
    """Recorded; the workflow service has not accepted it yet."""
    STARTED = "started"
    """The workflow exists; no worker has picked it up yet."""
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ESCALATED = "escalated"
    """No attempt cleared the condition: a person has to act."""
    ROLLED_BACK = "rolled_back"
    DENIED = "denied"
    EXPIRED = "expired"
    """Nobody approved in time."""
    CANCELLED = "cancelled"
    FAILED = "failed"
    """It cannot run: the input is invalid, or the workflow raised an error."""

    @property
    def is_final(self) -> bool:
        """Whether the state never changes again."""
        return self not in OPEN_STATES


OPEN_STATES = frozenset(
    {
        RemediationState.REQUESTED,
        RemediationState.STARTED,
        RemediationState.WAITING_FOR_APPROVAL,
        RemediationState.RUNNING,
    }
)


class StepState(StrEnum):
    """The state of a step of a remediation."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """The outcome of a request for approval."""

    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, who gave it, and why."""

    verdict: Verdict
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remediation:
    """One remediation as recorded; times are Unix ms, 0 for not yet.

    `outcome` explains the state in a sentence. `start_failures` and `last_error` are about attempts
    to start it while the workflow service could not be reached.
    """

    id: int
    tenant: str
    workflow_id: str
    run_id: str
    workflow_type: str
    task_queue: str
    alert_id: int
    rule_name: str
    query: str
    input: Mapping[str, Any]
    state: RemediationState
    outcome: str
    decision: Decision | None
    approval_expires_at_ms: int
    cancelled_by: str
    cancel_reason: str
    start_failures: int
    last_error: str
    requested_at_ms: int
    started_at_ms: int
    finished_at_ms: int


@dataclass(frozen=True, slots=True)
class StepKey:
    """A step of a workflow; it has one record, however often it is recorded."""

    workflow_id: str
    step: str
    attempt: int

    @property
    def idempotency_key(self) -> str:
        """The key by which receivers of an effect recognise a repetition."""
        return f"{self.workflow_id}:{self.step}:{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationStep:
    """One step as recorded. `tries` counts its starts; `detail` is a JSON object."""

    step: str
    attempt: int
    state: StepState
    tries: int
    detail: Mapping[str, Any]
    started_at_ms: int
    finished_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationFilter:
    """Which remediations to list, newest first: those that match every field given.

    `before_id` is where the previous page ended (0: the first page).
    """

    state: RemediationState | None = None
    rule_name: str | None = None
    alert_id: int | None = None
    before_id: int = 0
    limit: int


class RemediationJournal(Protocol):
    """What launcher and workflows record; every call may be repeated.

    Every method raises StorageUnavailableError when the database cannot answer.
    """

    async def request(self, request: RemediationRequest) -> RemediationState:
        """Record a request unless it is recorded already; returns its state."""

    async def mark_started(self, workflow_id: str, run_id: str) -> RemediationState:
        """Record that the workflow exists; returns the state: final after a cancellation."""

    async def mark_start_failed(self, workflow_id: str, error: str, *, is_final: bool) -> None:
        """Record that the workflow could not be started; `is_final` if it never can be."""

    async def withdraw(self, workflow_id: str, reason: str) -> None:
        """Cancel the request for a workflow, unless it has been started; a start may follow."""

    async def mark_state(
        self, workflow_id: str, state: RemediationState, outcome: str = ""
    ) -> RemediationState:
        """Change the state unless it is final; returns the state."""

    async def await_approval(self, workflow_id: str, expires_at_ms: int) -> RemediationState:
        """Record that the workflow waits for a decision; returns the state."""

    async def settle(self, workflow_id: str, proposed: Decision) -> Decision:
        """The decision that counts: the first one recorded, or the proposed one."""

    async def begin_step(self, key: StepKey) -> RemediationStep:
        """Record the start of a step unless it has succeeded; returns the record."""

    async def finish_step(self, key: StepKey, state: StepState, detail: Mapping[str, Any]) -> None:
        """Record the end of a step; a step that succeeded does not change."""

    async def call_function(
        self, key: StepKey, name: str, argument: object, timeout_seconds: float
    ) -> RemediationStep:
        """Call a function of the database and finish the step in one transaction.

        The function is called exactly once for each step, however often this is called. The
        beginning of its answer is recorded. Raises ExecutionError when there is no such function of
        one jsonb, or when it fails.
        """


class RemediationRepository(Protocol):
    """Reads remediations, and records what people decide about them."""

    async def find(self, tenant: str, remediation_id: int) -> Remediation | None:
        """One remediation of the tenant."""

    async def list(self, tenant: str, wanted: RemediationFilter) -> tuple[list[Remediation], bool]:
        """Remediations of the tenant, newest first, and whether there are more.

        At most the filter's `limit`, and fewer if they are large.
        """

    async def steps(self, remediation_id: int) -> Sequence[RemediationStep]:
        """The steps of a remediation in the order of their first start."""

    async def decide(
        self, tenant: str, remediation_id: int, decision: Decision
    ) -> Remediation | None:
        """Record a decision; None when the remediation does not wait for one or has one."""

    async def record_cancel(
        self, tenant: str, remediation_id: int, actor: str, reason: str
    ) -> Remediation | None:
        """Record who cancels an open remediation; one that has not started ends here.

        None when it does not exist or has ended.
        """

    async def count_open(self) -> Mapping[RemediationState, int]:
        """The number of remediations of all tenants in each open state."""


class RemediationControl(Protocol):
    """Passes decisions of people to running workflows.

    Every method raises StorageUnavailableError when the workflow service cannot be reached, and
    NotFoundError when it has no such running workflow.
    """

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """Signal the waiting workflow."""

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Ask the workflow to clean up and end."""
