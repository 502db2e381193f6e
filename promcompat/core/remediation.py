"""What is to be done about a breach: values shared by rules, definitions and the launcher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationSpec:
    """The remediation a rule or a definition names.

    `input_template` is the workflow's input, a JSON object whose strings are templates over the
    alert (`{{ $labels.instance }}`, `{{ $value }}`). `cooldown_ms` is how long after a start the
    same alert starts nothing. With `needs_approval` the workflow waits for the approval signal and
    gives up after `approval_timeout_ms`.
    """

    workflow_type: str
    task_queue: str
    input_template: Mapping[str, object]
    cooldown_ms: int = 0
    max_attempts: int = 1
    needs_approval: bool = False
    approval_timeout_ms: int = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RemediationRequest:
    """One remediation to start; `workflow_id` is derived from rule and breach, so that asking
    again for the same breach can have no second effect."""

    tenant: str
    workflow_id: str
    spec: RemediationSpec
    workflow_input: Mapping[str, object]
    alert_id: int
    rule_name: str
    query: str


class RemediationLauncher(Protocol):
    """Where remediations are started."""

    async def start(self, request: RemediationRequest) -> None:
        """Start the workflow unless one with this id was ever started.

        Raises StorageUnavailableError when the workflow service cannot be reached: ask again.
        """
