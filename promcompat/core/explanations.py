"""How a selection is read, for people; its SQL is text that is never executed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """Whether a rule that can leave out samples applies, and why."""

    rule: str
    applies: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMeasurement:
    """The cost of reading a selection."""

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionExplanation:
    """How a selection of `n_series` series is read.

    `sql` is empty if the store has none or nothing can match; `parameters` are its values, with
    long lists shortened. `estimated_rows` is None if the store does not estimate. `measured` is set
    if the selection was also read, `database_plan` if the plan of the database was requested.
    """

    n_series: int
    rules: tuple[RuleOutcome, ...] = ()
    sql: str = ""
    parameters: tuple[str, ...] = ()
    estimated_rows: float | None = None
    measured: ReadMeasurement | None = None
    database_plan: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationDepth:
    """What an explanation does beyond planning.

    `analyze` reads the samples, and lets the database measure its plan; `database_plan` alone asks
    for the plan without executing it.
    """

    analyze: bool = False
    database_plan: bool = False
