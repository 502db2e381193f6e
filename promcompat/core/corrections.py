"""Corrections of stored samples: what is asked for, what is recorded of it, and who does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from promcompat.core.matchers import LabelMatcher
from promcompat.core.model import METRIC_NAME, Labels, SampleBlock
from promcompat.core.ports import MatcherSets
from promcompat.core.texts.strconv import quote

MAX_SERIES = 1_000_000
"""The most series of one correction."""


class CorrectionKind(StrEnum):
    """What a correction does."""

    DELETE = "delete"
    REPLACE = "replace"
    SCALE = "scale"
    RENAME = "rename"


class CorrectionState(StrEnum):
    """How far a correction is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SampleScope:
    """The samples of the series that satisfy all matchers of any one set, from `start_ms` to
    `end_ms`, both inclusive.
    """

    matcher_sets: MatcherSets
    start_ms: int
    end_ms: int

    @property
    def selectors(self) -> list[str]:
        """The sets of matchers as PromQL selectors, for people."""
        return [selector_text(matchers) for matchers in self.matcher_sets]

    def selects(self, labels: Labels) -> bool:
        """Whether the series with these labels is selected."""
        return any(
            all(matcher.matches(labels.get(matcher.name)) for matcher in matchers)
            for matchers in self.matcher_sets
        )


def selector_text(matchers: Sequence[LabelMatcher]) -> str:
    """A PromQL selector with these matchers."""
    parts = (f"{quote(matcher.name)}{matcher.op}{quote(matcher.value)}" for matcher in matchers)
    return "{" + ",".join(parts) + "}"


@dataclass(frozen=True, slots=True)
class DeleteSamples:
    """Deletes samples."""

    scope: SampleScope


@dataclass(frozen=True, slots=True)
class ReplaceSamples:
    """Deletes samples, and stores others in their place.

    The series of `block` are selected by the scope, and its times lie within it.
    """

    scope: SampleScope
    block: SampleBlock


@dataclass(frozen=True, slots=True)
class ScaleSamples:
    """Gives samples the value `value * factor + addend`; NaN and stale markers stay as they are."""

    scope: SampleScope
    factor: float
    addend: float


@dataclass(frozen=True, slots=True)
class RelabelSeries:
    """Moves samples to series with other labels, as if they arrived there now.

    `labels` are set, `__name__` for the name; an empty value removes a label.
    """

    scope: SampleScope
    labels: Mapping[str, str]


def relabelled(labels: Labels, changes: Mapping[str, str]) -> Labels:
    """A label set with some labels set; an empty value removes one."""
    kept = (pair for pair in labels if pair[0] not in changes)
    return Labels([*kept, *changes.items()])


SampleChange = DeleteSamples | ReplaceSamples | ScaleSamples | RelabelSeries


@dataclass(frozen=True, slots=True)
class Affected:
    """How many series and samples a scope has; without `is_counted` there may be more samples."""

    n_series: int
    n_samples: int
    is_counted: bool = True


@dataclass(frozen=True, slots=True)
class CorrectionRequest:
    """A change, who asks for it, and why."""

    change: SampleChange
    requested_by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What is recorded of a correction.

    Times are Unix ms; `finished_ms` is None while it runs. `n_samples` were deleted, replaced or
    moved until now. `has_tombstones`: deleted samples are hidden, but some still take space.
    """

    id: int
    kind: CorrectionKind
    state: CorrectionState
    selectors: Sequence[str]
    first_ms: int
    last_ms: int
    factor: float | None
    addend: float | None
    labels: Mapping[str, str] | None
    requested_by: str
    reason: str
    failure: str
    requested_ms: int
    finished_ms: int | None
    n_series_done: int
    affected: Affected
    has_tombstones: bool

    @property
    def is_running(self) -> bool:
        """Whether something is left to do."""
        return self.state is CorrectionState.RUNNING


class CorrectionRepository(Protocol):
    """Where corrections are done and recorded. All raise StorageUnavailableError."""

    async def count(self, tenant: str, scope: SampleScope) -> Affected:
        """How many series and samples a scope has.

        Raises BadDataError for more than `MAX_SERIES` series.
        """

    async def begin(self, tenant: str, request: CorrectionRequest) -> int:
        """Record a correction, and do it if that is one transaction; returns its id.

        Every later query sees samples as deleted or replaced. Raises BadDataError for more than
        `MAX_SERIES` series, or labels that cannot be stored.
        """

    async def advance(self, correction_id: int) -> bool:
        """Do the next step of a correction; returns whether more is left to do.

        A step is done once, whoever tries it. After an error a later call goes on.
        """

    async def claim(self) -> int | None:
        """A running correction that no other process works on."""

    async def list(
        self, tenant: str, before_id: int, limit: int, only_id: int | None = None
    ) -> tuple[Sequence[Correction], bool]:
        """Corrections with smaller ids, the newest first, and whether there are more.

        At most `limit`, and fewer if they are large. With `only_id` that one alone.
        """

    async def clean_tombstones(self, tenant: str) -> None:
        """Remove from disk what was deleted before; returns when that is done."""


def names_of(scope: SampleScope) -> frozenset[str]:
    """The metric names that a scope asks for by equality."""
    return frozenset(
        matcher.value
        for matchers in scope.matcher_sets
        for matcher in matchers
        if matcher.name == METRIC_NAME and matcher.op == "="
    )
