"""How a selection is read, in words and numbers for people; its SQL is text and nothing more."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What became of one rule that can leave samples out, and why."""

    rule: str
    applies: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadMeasurement:
    """What reading a selection took."""

    rows: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionExplanation:
    """How a selection of `n_series` series is read.

    `sql` is empty where storage has none or nothing can match; `parameters` are its values, long
    lists shortened. `estimated_rows` is None where storage does not estimate. `measured` is there
    when the selection was also read, `database_plan` when the database was asked for its own.
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

    `analyze` reads, and has the database measure its plan; `database_plan` alone has the database
    tell its plan without running anything.
    """

    analyze: bool = False
    database_plan: bool = False
