"""What can happen to samples in their life, a model in memory of what readers see then, and how it
is done to a storage.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from promcompat.core.corrections import (
    CorrectionRequest,
    CorrectionState,
    DeleteSamples,
    RelabelSeries,
    ReplaceSamples,
    SampleChange,
    SampleScope,
    ScaleSamples,
)
from promcompat.core.definitions import MetricDefinition
from promcompat.core.model import METRIC_NAME, Labels, SampleBlock, WriteBatch
from sql.definitions.definition_repository import PostgresDefinitionRepository
from sql.samples.metric_storage import MetricStorage
from tests.support.factories import make_block, make_matcher
from tests.support.storage.contract_histograms import batch_of
from tests.support.storage.stored_blocks import DAY_MS, Clock

OF_TENANT = ""
"""Stands for the metrics that have no retention of their own."""
HOUR_MS = 3_600_000

Points = Mapping[int, int]
"""Bits of values by Unix ms; see `tests.support.numbered_histograms` for histograms."""


@dataclass(frozen=True, slots=True)
class Write:
    series: Labels
    points: Points


@dataclass(frozen=True, slots=True)
class Correct:
    """A correction of the samples of a series from `start_ms` to `end_ms`.

    `points` replace them, `factor` scales them, `target` is where they go; else they are deleted.
    """

    series: Labels
    start_ms: int
    end_ms: int
    points: Points | None = None
    factor: float | None = None
    target: Labels | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """A metric, or OF_TENANT, is kept for so many days (None: as long as all others)."""

    name: str
    days: int | None


@dataclass(frozen=True, slots=True)
class Prefer:
    """Of two samples of a metric with the same time, the last one counts from now on, or not."""

    name: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Later:
    """Time passes, or the clock is set back."""

    hours: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a loop of the service does: see `WORK` of the test."""

    name: str


@dataclass(frozen=True, slots=True)
class Together:
    """A step, while other processes work."""

    step: "Step"
    works: tuple[Work, ...]


Step = Write | Correct | Keep | Prefer | Later | Work | Together
Rows = dict[Labels, list[tuple[int, int]]]
"""Times and bits by series, ascending."""


@dataclass(slots=True)
class Model:
    """The samples of each series: the first of a time counts, until it is replaced.

    What a retention has passed is seen by nobody, but may still be stored, and so come back when
    the retention becomes longer: `hidden` has what may, by series and time. What has come back, or
    has not, stays so.
    """

    clock: Clock
    series: Iterable[Labels]
    kept_days: dict[str, int | None]
    samples: dict[Labels, dict[int, int]] = field(init=False)
    hidden: dict[Labels, dict[int, set[int]]] = field(init=False)
    prefers_last: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.samples = {labels: {} for labels in self.series}
        self.hidden = {labels: {} for labels in self.series}

    def apply(self, step: Step) -> None:
        """Do a step; samples that have come into sight again stay hidden until `see`."""
        match step:
            case Together(inner, _):
                self.apply(inner)
            case Write(series, points):
                self._add(series, points)
            case Correct():
                self._correct(step)
            case Keep(name, days):
                self.kept_days[name] = days
            case Prefer(name, is_last):
                (self.prefers_last.add if is_last else self.prefers_last.discard)(name)
        for labels in self.samples:
            self._hide(labels)

    def see(self, found: Mapping[Labels, list[tuple[int, int]]]) -> None:
        """Decide which hidden samples have come back, by what readers found."""
        for labels, hidden in self.hidden.items():
            kept_ms, rows = self.kept_ms(labels), dict(found.get(labels, ()))
            for at in [at for at in hidden if at >= kept_ms]:
                possible = hidden.pop(at)
                if rows.get(at) in possible:
                    self.samples[labels].setdefault(at, rows[at])

    def rows(self, name: str) -> Rows:
        """What readers see of a metric."""
        return {
            labels: sorted(points.items())
            for labels, points in self.samples.items()
            if labels.get(METRIC_NAME) == name and points
        }

    def kept_ms(self, labels: Labels) -> int:
        """The time from which on a series is kept."""
        days = self.kept_days.get(labels.get(METRIC_NAME))
        if days is None:
            days = self.kept_days[OF_TENANT]
        assert days is not None
        return self.clock.now_ms - days * DAY_MS

    def _hide(self, labels: Labels) -> None:
        points, kept_ms = self.samples[labels], self.kept_ms(labels)
        for at in [at for at in points if at < kept_ms]:
            self.hidden[labels].setdefault(at, set()).add(points.pop(at))

    def _add(self, series: Labels, points: Points) -> None:
        known = self.samples[series]
        if series.get(METRIC_NAME) in self.prefers_last:
            self.samples[series] = {**known, **points}
        else:
            self.samples[series] = {**points, **known}

    def _correct(self, step: Correct) -> None:
        points = self.samples[step.series]
        chosen = {at: points[at] for at in points if step.start_ms <= at <= step.end_ms}
        if step.factor is not None:
            points |= {at: scaled(bits, step.factor) for at, bits in chosen.items()}
            return
        if step.target == step.series:
            return
        for at in chosen:
            del points[at]
        if step.target is None:
            hidden = self.hidden[step.series]
            for at in [at for at in hidden if step.start_ms <= at <= step.end_ms]:
                del hidden[at]
        if step.points is not None:
            points |= within(step)
        if step.target is not None:
            self._add(step.target, chosen)


def scaled(bits: int, factor: float) -> int:
    """The bits of a value times a factor; NaN and histograms stay as they are."""
    value = np.uint64(bits).view(np.float64)
    return bits if np.isnan(value) else int((value * factor + 0.0).view(np.uint64))


def within(step: Correct) -> dict[int, int]:
    """The points of a replacement that lie in its range."""
    points = step.points or {}
    return {at: bits for at, bits in points.items() if step.start_ms <= at <= step.end_ms}


# -- doing them -------------------------------------------------------------------------------


def written(series: Mapping[Labels, Points]) -> WriteBatch:
    """A write of the points of some series."""
    return batch_of({labels: sorted(points.items()) for labels, points in series.items()})


def block_of(series: Labels, points: Points) -> SampleBlock:
    """The points of a series as a block."""
    batch = written({series: points})
    offsets = np.array([0, len(batch)], np.int64)
    return SampleBlock(
        (series,), batch.timestamps, batch.values, offsets, histograms=batch.histograms
    )


def change_of(step: Correct) -> SampleChange:
    """The request of a correction."""
    labels = step.series.as_dict()
    matchers = tuple(make_matcher(name, "=", value) for name, value in labels.items())
    scope = SampleScope([matchers], step.start_ms, step.end_ms)
    if step.points is not None:
        points = within(step)
        return ReplaceSamples(scope, block_of(step.series, points) if points else make_block({}))
    if step.factor is not None:
        return ScaleSamples(scope, step.factor, 0.0)
    if step.target is not None:
        return RelabelSeries(scope, step.target.as_dict())
    return DeleteSamples(scope)


async def correct(storage: MetricStorage, tenant: str, change: SampleChange) -> None:
    """Make a correction, which takes several steps."""
    repository = storage.corrections
    correction_id = await repository.begin(tenant, CorrectionRequest(change, "ann", ""))
    while await repository.advance(correction_id):
        pass
    [record], _ = await repository.list(tenant, 1 << 62, 1, correction_id)
    assert record.state is CorrectionState.DONE, record.failure


async def define(storage: MetricStorage, tenant: str, name: str, **changes: object) -> None:
    """Change what is said of a metric."""
    definitions = PostgresDefinitionRepository(storage.database)
    known = await definitions.find(tenant, name)
    definition = replace(known or MetricDefinition(name=name), **changes)  # type: ignore[arg-type]
    assert await definitions.save(tenant, definition, 0 if known is None else known.version)
