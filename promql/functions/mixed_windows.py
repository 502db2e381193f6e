"""Windows over samples that are floats or histograms."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.histograms.columns import histogram_numbers, is_histogram
from promcompat.core.model import (
    METRIC_NAME,
    BoolArray,
    FloatArray,
    IntArray,
    SampleBlock,
)
from promql.functions.function_calls import RangeCall
from promql.functions.started_counters import began_after_last, begin_inside
from promql.histograms.arithmetic import were_reset
from promql.values.histogram_columns import HistogramColumns
from promql.values.label_columns import label_pairs
from promql.values.matrix import Windows


@dataclass(frozen=True, slots=True)
class MixedWindows:
    """The windows of some series of a call.

    The window of series i at step j has the samples `[lo[i, j], hi[i, j])` of `block`,
    `is_histogram` and `numbers`, which are the places of histograms in `columns`, and 0 for floats.
    `n_histograms` int64 [n_series, n_steps] counts those of each window. `began` says of each
    sample whether its counter began after the sample before; None where that does not count.
    """

    block: SampleBlock
    is_histogram: BoolArray
    numbers: IntArray
    columns: HistogramColumns
    lo: IntArray
    hi: IntArray
    n_histograms: IntArray
    call: RangeCall
    began: BoolArray | None = None

    @classmethod
    def of(
        cls, block: SampleBlock, columns: HistogramColumns, windows: Windows, call: RangeCall
    ) -> "MixedWindows":
        """The windows over the samples of a block."""
        chosen = is_histogram(block.values)
        numbers = np.where(chosen, histogram_numbers(block.values), 0)
        until = np.concatenate(([0], np.cumsum(chosen)))
        lo, hi = windows.lo, windows.hi
        return cls(
            block,
            chosen,
            numbers,
            columns,
            lo,
            hi,
            until[hi] - until[lo],
            call,
            began_after_last(block),
        )

    @property
    def timestamps(self) -> IntArray:
        """The times of all samples."""
        return self.block.timestamps

    @property
    def values(self) -> FloatArray:
        """The cells of all samples."""
        return self.block.values

    def have_histograms(self, only_last: bool) -> BoolArray:
        """Which windows have histograms, or with `only_last` one among their last two samples."""
        if not only_last:
            return self.n_histograms > 0
        found = self.n_histograms > 0
        last, before = self._last_two()
        return np.asarray(found & (self.is_histogram[last] | self.is_histogram[before]))

    def are_mixed(self, only_last: bool) -> BoolArray:
        """Which windows have both kinds, or with `only_last` a last sample unlike that before."""
        is_mixed = (self.n_histograms > 0) & (self.n_histograms < self.hi - self.lo)
        if not only_last:
            return is_mixed
        last, before = self._last_two()
        return np.asarray(is_mixed & (self.is_histogram[last] != self.is_histogram[before]))

    def _last_two(self) -> tuple[IntArray, IntArray]:
        """The last samples of the windows and those before, which may be of earlier windows."""
        return np.maximum(self.hi - 1, 0), np.maximum(self.hi - 2, 0)

    def resets_at(self, samples: IntArray) -> BoolArray:
        """Whether a counter was reset before each sample; it and the one before are histograms."""
        resets = were_reset(self.columns, self.numbers[samples], self.numbers[samples - 1])
        return resets if self.began is None else resets | self.began[samples]

    def begin_inside(self) -> BoolArray:
        """In which windows the counter of the first sample began: bool [n_series, n_steps]."""
        return begin_inside(self.block, self.lo, self.hi, self.call.vector)

    def warn(self, windows: BoolArray, text: Callable[[str], str]) -> None:
        """A warning for each metric with any of these windows [n_series, n_steps]."""
        for name in self._names(windows):
            self.call.annotations.warn(text(name), self.call.arg_positions[0])

    def inform(self, windows: BoolArray, text: Callable[[str], str]) -> None:
        """An info for each metric with any of these windows [n_series, n_steps]."""
        for name in self._names(windows):
            self.call.annotations.info(text(name), self.call.arg_positions[0])

    def _names(self, windows: BoolArray) -> list[str]:
        return self.names_of(np.flatnonzero(windows.any(axis=1)))

    def names_of(self, rows: IntArray) -> list[str]:
        """The metric names of these series, each once; empty for none."""
        chosen = [self.block.labels[row] for row in distinct(rows).tolist()]
        pairs = label_pairs(chosen, METRIC_NAME)
        return list(dict.fromkeys("" if pair is None else pair[1] for pair in pairs))
