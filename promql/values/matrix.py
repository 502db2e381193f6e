"""The values of evaluation. A value covers a whole step grid; an instant query has one step.

A mask says where samples are absent, because NaN is a value.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels, SampleBlock
from promcompat.core.value_classes import value_class
from promql.ast import PositionRange
from promql.values.forced_monotonicity import ForcedMonotonicity
from promql.values.histogram_columns import HistogramColumns


@value_class(frozen=True, slots=True)
class Matrix:
    """An instant vector at every step of a grid.

    `labels`: n_series label sets; the row order is the order of the result vector (`sort`, `topk`).
    `values` float64 [n_series, n_steps]: meaningful where `present` bool [n_series, n_steps].
    `drop_name` bool [n_series]: rows whose metric name is removed at the end of the query (delayed
    name removal); all False if names are removed at once. `histograms` are what those of `values`
    that are no floats refer to, see `promcompat.core.histograms.columns`; None if all are floats.
    """

    labels: Sequence[Labels]
    values: FloatArray
    present: BoolArray
    drop_name: BoolArray
    histograms: HistogramColumns | None = None

    @classmethod
    def empty(cls, n_steps: int) -> "Matrix":
        """No series, n_steps steps."""
        return cls((), np.empty((0, n_steps)), np.zeros((0, n_steps), bool), np.zeros(0, bool))

    @classmethod
    def of(cls, labels: Sequence[Labels], values: FloatArray, present: BoolArray) -> "Matrix":
        """A matrix of floats whose names stay."""
        return cls(labels, values, present, np.zeros(len(labels), bool))


@dataclass(frozen=True, slots=True)
class ScalarGrid:
    """A scalar at every step: `values` float64 [n_steps]."""

    values: FloatArray


@dataclass(frozen=True, slots=True)
class StringValue:
    """A string; the same at every step."""

    value: str


@dataclass(frozen=True, slots=True)
class Windows:
    """A range vector at every step of a grid, over one CSR block without stale markers.

    The window of series i at step j has the samples `[lo[i, j], hi[i, j])` of
    `block.timestamps`/`block.values` (absolute indices; lo == hi if it is empty). With
    `block.counts`, each of these may represent several samples. The window spans the left-open
    time range `(start_ms[j], end_ms[j]]`, `range_ms` long, with offset and `@` applied.
    `drop_name` as in Matrix (a subquery over a function sets it).
    """

    block: SampleBlock
    lo: IntArray
    hi: IntArray
    start_ms: IntArray
    end_ms: IntArray
    range_ms: int
    drop_name: BoolArray

    def sizes(self) -> IntArray:
        """How many samples each window has, int64 of the shape of `lo`."""
        if self.block.counts is None:
            return self.hi - self.lo
        until = np.concatenate(([0], np.cumsum(self.block.counts)))
        sizes: IntArray = until[self.hi] - until[self.lo]
        return sizes


Value = Matrix | ScalarGrid | StringValue | Windows


class Annotations:
    """The warnings and infos of one query: distinct texts, in the order they first occurred."""

    __slots__ = ("_counts", "_forced", "_infos", "_warnings")

    def __init__(self) -> None:
        self._warnings: dict[tuple[str, PositionRange | None], None] = {}
        self._infos: dict[tuple[str, PositionRange | None], None] = {}
        self._forced: dict[str, ForcedMonotonicity] = {}
        self._counts: Counter[str] = Counter()

    def warn(self, text: str, pos: PositionRange | None = None) -> None:
        """Add `text` (without the prefix `PromQL warning: `) about the expression at `pos`."""
        self._warnings[text, pos] = None

    def warn_counted(self, text: str, pos: PositionRange, count: int) -> None:
        """Add a warning of something that occurred so often; those of equal texts become one."""
        self._counts[text] += count
        self.warn(text, pos)

    def info(self, text: str, pos: PositionRange | None = None) -> None:
        """Add `text` (without the prefix `PromQL info: `) about the expression at `pos`."""
        self._infos[text, pos] = None

    def info_of_forced(self, text: str, pos: PositionRange, forced: ForcedMonotonicity) -> None:
        """Add an info about forced counts; those of equal texts become one."""
        known = self._forced.get(text)
        self._forced[text] = forced if known is None else known.merged(forced)
        self.info(text, pos)

    def tail_of(self, text: str) -> str:
        """What an answer shows after a text: how often it holds, or how far counts were forced."""
        if self._counts[text] > 1:
            return f" ({self._counts[text]} occurrences)"
        return self._forced[text].text() if text in self._forced else ""

    @property
    def warnings(self) -> list[tuple[str, PositionRange | None]]:
        """The warnings, oldest first."""
        return list(self._warnings)

    @property
    def infos(self) -> list[tuple[str, PositionRange | None]]:
        """The infos, oldest first."""
        return list(self._infos)


@value_class(frozen=True, slots=True)
class QueryStats:
    """Seconds spent per stage and samples read, for `stats=` and our own metrics.

    `samples_per_step` int64 [n_steps] counts the samples each step read; None if steps were reused.
    `reused_steps` is the number of steps taken from an earlier answer without reading samples.
    """

    timings_seconds: dict[str, float] = field(default_factory=dict)
    total_samples: int = 0
    peak_samples: int = 0
    reused_steps: int = 0
    samples_per_step: IntArray | None = None


@value_class(frozen=True, slots=True)
class QueryResult:
    """The answer to a query.

    `value` is a Matrix (rows sorted by labels for a range query, in result order for an instant
    query), a ScalarGrid, a StringValue, or, for an instant query of a range vector, a SampleBlock.
    `timestamps` int64 ms [n_steps] are the eval times. `warnings` and `infos` are the final texts
    with prefix and `(line:col)`, at most ten of each, as in Prometheus.
    """

    value: Matrix | ScalarGrid | StringValue | SampleBlock
    timestamps: IntArray
    is_range: bool
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    stats: QueryStats = field(default_factory=QueryStats)
