"""What is to be done about a breach: values shared by rules, definitions and the launcher."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from promcompat.core.errors import FieldFault


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationSpec:
    """The remediation a rule or a definition names.

    `input_template` is the workflow's input, a JSON object whose strings are templates over the
    alert (`{{ $labels.instance }}`, `{{ $value }}`). `cooldown_ms` is how long after a start the
    same alert starts nothing. With `needs_approval` the workflow waits for the approval signal and
    gives up after `approval_timeout_ms`. `levels` are the severities of an alert that start it;
    empty: every one.
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
    """One remediation to start; `workflow_id` is derived from rule and breach, so that asking
    again for the same breach can have no second effect. It is unique across tenants.

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
"""What is wrong with a remediation; fields are relative to it. It may take a while."""


def accept_remediation(_spec: RemediationSpec) -> Sequence[FieldFault]:
    """The check of a service that knows nothing of remediations."""
    return ()


class RemediationLauncher(Protocol):
    """Where remediations are started."""

    async def start(self, request: RemediationRequest) -> None:
        """Start the workflow unless one with this id was ever started.

        Raises StorageUnavailableError when the workflow service cannot be reached: ask again.
        """


class RemediationState(StrEnum):
    """Where a remediation is; those after `running` are final."""

    REQUESTED = "requested"
    """Asked for; the workflow service did not take it yet."""
    STARTED = "started"
    """The workflow exists; no worker said so yet."""
    WAITING_FOR_APPROVAL = "waiting_for_approval"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    ESCALATED = "escalated"
    """No attempt cleared the condition: somebody has to look."""
    ROLLED_BACK = "rolled_back"
    DENIED = "denied"
    EXPIRED = "expired"
    """Nobody approved in time."""
    CANCELLED = "cancelled"
    FAILED = "failed"
    """It cannot run: an input nobody understands, or a workflow that raised."""

    @property
    def is_final(self) -> bool:
        """Whether nothing happens after it."""
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
    """How a step of a remediation went."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(StrEnum):
    """What became of the question whether a remediation may act."""

    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict, and who gave it why."""

    verdict: Verdict
    actor: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remediation:
    """One remediation as recorded; times are Unix ms, 0 for not yet.

    `outcome` says in a sentence why it is where it is. `start_failures` and `last_error` tell of
    attempts to start it while the workflow service could not be reached.
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
    """Which step of which workflow: recording it again changes the one record."""

    workflow_id: str
    step: str
    attempt: int

    @property
    def idempotency_key(self) -> str:
        """What receivers of an effect know a repetition by."""
        return f"{self.workflow_id}:{self.step}:{self.attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationStep:
    """One step as recorded. `tries` counts how often it was begun; `detail` is a JSON object."""

    step: str
    attempt: int
    state: StepState
    tries: int
    detail: Mapping[str, Any]
    started_at_ms: int
    finished_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationFilter:
    """Which remediations to list: those that fit every part given, newest first.

    `before_id` is where the previous page ended (0: the first page).
    """

    state: RemediationState | None = None
    rule_name: str | None = None
    alert_id: int | None = None
    before_id: int = 0
    limit: int = 100


class RemediationJournal(Protocol):
    """What launcher and workflows record; everything may be said twice.

    Every method raises StorageUnavailableError when the database cannot answer.
    """

    async def request(self, request: RemediationRequest) -> RemediationState:
        """Record what is asked for, unless it is recorded; returns the state it is in."""

    async def mark_started(self, workflow_id: str, run_id: str) -> RemediationState:
        """The workflow exists. Returns the state, which may be final: somebody cancelled."""

    async def mark_start_failed(self, workflow_id: str, error: str, *, is_final: bool) -> None:
        """The workflow could not be started; `is_final` when it never can be."""

    async def mark_state(
        self, workflow_id: str, state: RemediationState, outcome: str = ""
    ) -> RemediationState:
        """Move on, unless the state is final already; returns the state it is in."""

    async def await_approval(self, workflow_id: str, expires_at_ms: int) -> RemediationState:
        """The workflow waits for a decision; returns the state it is in."""

    async def settle(self, workflow_id: str, proposed: Decision) -> Decision:
        """The decision that counts: the first one recorded."""

    async def begin_step(self, key: StepKey) -> RemediationStep:
        """A step begins, or begins again, unless it has succeeded; returns what is recorded."""

    async def finish_step(self, key: StepKey, state: StepState, detail: Mapping[str, Any]) -> None:
        """A step ended; one that succeeded stays as it is."""

    async def call_function(
        self, key: StepKey, name: str, argument: object, timeout_seconds: float
    ) -> RemediationStep:
        """Call a function of the database and finish the step in one transaction.

        Exactly one call for each step, however often this is called. Raises ExecutionError when
        there is no such function of one jsonb or it fails.
        """


class RemediationRepository(Protocol):
    """What people ask of remediations."""

    async def find(self, tenant: str, remediation_id: int) -> Remediation | None:
        """One remediation of the tenant."""

    async def list(self, tenant: str, wanted: RemediationFilter) -> list[Remediation]:
        """Remediations of the tenant, newest first."""

    async def steps(self, remediation_id: int) -> Sequence[RemediationStep]:
        """The steps of a remediation in the order they began."""

    async def decide(
        self, tenant: str, remediation_id: int, decision: Decision
    ) -> Remediation | None:
        """Record a decision if one is waited for and there is none; None when that is not so."""

    async def record_cancel(
        self, tenant: str, remediation_id: int, actor: str, reason: str
    ) -> Remediation | None:
        """Record who cancels an open remediation; one that has not started ends here.

        None when it is unknown or final.
        """

    async def count_open(self) -> Mapping[RemediationState, int]:
        """How many remediations of all tenants are in each open state."""


class RemediationControl(Protocol):
    """How a running workflow is told what people decided.

    Raises StorageUnavailableError when the workflow service cannot be reached, NotFoundError when
    it has no such running workflow.
    """

    async def decide(self, workflow_id: str, decision: Decision) -> None:
        """Tell the waiting workflow."""

    async def cancel(self, workflow_id: str, reason: str) -> None:
        """Ask the workflow to clean up and end."""
