"""What a script of Prometheus' test language says: loads, evals and what the evals expect.

Times are Unix milliseconds; scripts start at the epoch.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import re2

from promcompat.core.model import Labels
from promql.values.histogram_columns import HistogramColumns


class Mark(Enum):
    """What stands in a sequence of values instead of a float."""

    OMITTED = "_"
    STALE = "stale"


@dataclass(frozen=True, slots=True, eq=False)
class HistogramNotation:
    """A native histogram; without `has_hint` any counter reset hint is as good."""

    columns: HistogramColumns
    has_hint: bool = False


SequenceValue = float | Mark | HistogramNotation


@dataclass(frozen=True, slots=True)
class ScriptSeries:
    """A series description: labels and a value for each interval."""

    labels: Labels
    values: tuple[SequenceValue, ...]

    @property
    def has_histograms(self) -> bool:
        """Whether any value is a native histogram."""
        return any(isinstance(value, HistogramNotation) for value in self.values)


@dataclass(frozen=True, slots=True)
class Load:
    """Store `series`, their n-th value at n times `interval_ms`.

    `with_nhcb` asks for the native histograms of custom buckets that the classic ones amount to.
    `starts` are when the counters of values began, in ms after the time of each value; None: that
    is not known.
    """

    line: int
    interval_ms: int
    with_nhcb: bool
    series: tuple[ScriptSeries, ...]
    starts: Mapping[Labels, tuple[int | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextCheck:
    """A condition on an error or annotation: equal to `exact`, or found by the RE2 `pattern`."""

    exact: str | None = None
    pattern: str | None = None

    def accepts(self, text: str) -> bool:
        """Whether the text is as expected; a check of neither kind accepts every text."""
        if self.exact is not None:
            return text == self.exact
        return self.pattern is None or re2.search(self.pattern, text) is not None


@dataclass(frozen=True, slots=True)
class ExpectedSeries:
    """An expected result series and its 1-based position in an ordered result."""

    position: int
    values: tuple[SequenceValue, ...]


@dataclass(slots=True, kw_only=True)
class Expectation:
    """What an eval must answer.

    `warnings`/`infos` None: any, also none at all. Empty: there must be none. Otherwise each
    check must accept some annotation, and each annotation must be accepted by some check.
    """

    failure: TextCheck | None = None
    is_ordered: bool = False
    warnings: list[TextCheck] | None = None
    infos: list[TextCheck] | None = None
    scalar: float | None = None
    string: str | None = None
    series: dict[Labels, ExpectedSeries] = field(default_factory=dict)

    @property
    def has_histograms(self) -> bool:
        """Whether any expected value is a native histogram."""
        return any(
            isinstance(value, HistogramNotation)
            for series in self.series.values()
            for value in series.values
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """Ask `expr` and compare; an instant eval has `start_ms == end_ms == time_ms`, unless it
    expects a range vector, whose samples then lie on the grid of start, end and step."""

    line: int
    expr: str
    is_range: bool
    time_ms: int
    start_ms: int
    end_ms: int
    step_ms: int
    expects_range_vector: bool
    expectation: Expectation

    @property
    def has_range_form(self) -> bool:
        """Whether an instant eval must give the same answer as a step of a range query."""
        context = re.search(r"(start|end|range|step)\(\)", self.expr)
        plain = self.expectation.string is None and not self.expects_range_vector
        return not self.is_range and plain and context is None


Command = Load | Eval


@dataclass(frozen=True, slots=True)
class Case:
    """The commands between two `clear`s, which start on an empty store; `line` is the first."""

    line: int
    commands: tuple[Command, ...]

    def evals(self) -> Iterator[Eval]:
        """The evals, in order."""
        return (command for command in self.commands if isinstance(command, Eval))

    def loads(self) -> Iterator[Load]:
        """The loads, in order."""
        return (command for command in self.commands if isinstance(command, Load))


@dataclass(frozen=True, slots=True)
class Script:
    """A whole file."""

    path: Path
    cases: Sequence[Case]

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    def counts(self) -> Mapping[str, int]:
        """How many of each thing the script holds."""
        evals = [command for case in self.cases for command in case.evals()]
        return {
            "cases": len(self.cases),
            "loads": sum(1 for case in self.cases for _ in case.loads()),
            "evals": len(evals),
            "range": sum(command.is_range for command in evals),
            "fail": sum(command.expectation.failure is not None for command in evals),
            "ordered": sum(command.expectation.is_ordered for command in evals),
        }
