"""A range vector: its samples, and the windows over them at every step."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.model import BoolArray, IntArray, SampleBlock
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Windows
from promql.values.windows import make_windows

_VISITS_PER_PIECE = 1 << 24
"""Visits of a sample by a window: a kernel does that many in about 50 ms, then may be stopped."""


@dataclass(frozen=True, slots=True)
class RangeVector:
    """The samples of a range vector and the ends of its windows, `end_ms` int64 [n_steps].

    `block` has no stale markers. `drop_name` as in Windows. `histograms` are what the cells of
    the block refer to; None if all are floats.
    """

    block: SampleBlock
    end_ms: IntArray
    range_ms: int
    drop_name: BoolArray
    histograms: HistogramColumns | None = None

    @classmethod
    def of(
        cls,
        block: SampleBlock,
        end_ms: IntArray,
        range_ms: int,
        histograms: HistogramColumns | None = None,
    ) -> "RangeVector":
        """A range vector whose names stay."""
        return cls(block, end_ms, range_ms, np.zeros(len(block.labels), bool), histograms)

    @property
    def n_steps(self) -> int:
        """The number of eval steps."""
        return len(self.end_ms)

    def windows(self) -> Windows:
        """All windows at once."""
        block = self.block
        if self.histograms is not None and block.histograms is None:
            block = replace(block, histograms=self.histograms.stored())
        return make_windows(block, self.end_ms, self.range_ms, self.drop_name)

    def step_pieces(self, series: slice) -> Iterator[slice]:
        """The steps of some series, few enough at a time for a query to be stopped in between."""
        n_series = max(1, series.stop - series.start)
        n_samples = int(self.block.offsets[series.stop] - self.block.offsets[series.start])
        # A range of less than a millisecond is 0, and has no samples.
        span_ms = max(1, int(self.end_ms[-1] - self.end_ms[0]) + self.range_ms)
        visits_each = n_series + n_samples * min(1.0, self.range_ms / span_ms)
        steps_each = max(1, int(_VISITS_PER_PIECE / visits_each))
        for first in range(0, self.n_steps, steps_each):
            yield slice(first, min(first + steps_each, self.n_steps))
