"""The values of maintenance: the parameters of a run, and what its steps report."""

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

from promcompat.core.errors import ConnectionLostError, PromcompatError

WorkResult = TypeVar("WorkResult")


@dataclass(frozen=True, slots=True)
class MaintenanceTask:
    """The parameters of a run of maintenance: samples are kept `retention_days` (0: forever).

    `is_first`: this process has not done maintenance before.
    """

    retention_days: int
    now_ms: int
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class MaintenanceFailure:
    """A part of a step that failed: its step, its subject and the reason."""

    task: str
    subject: str
    reason: str


@dataclass(slots=True)
class StepNotes:
    """Takes the failures of a step, so that one subject does not stop the others."""

    step: str
    failures: list[MaintenanceFailure] = field(default_factory=list)

    async def attempt(self, subject: str, work: Awaitable[WorkResult]) -> WorkResult | None:
        """The result of some work; None after a failure, which is noted.

        A lost connection ends the run, since no other step could succeed on it.
        """
        try:
            return await work
        except ConnectionLostError:
            raise
        except PromcompatError as exc:
            self.failures.append(MaintenanceFailure(self.step, subject, str(exc)))
            return None


@dataclass(frozen=True, slots=True)
class StepReport:
    """What a step did, or would do: an amount of a unit."""

    name: str
    amount: int
    unit: str
    seconds: float
    n_failures: int
