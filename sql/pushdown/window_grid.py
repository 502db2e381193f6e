"""The evaluation times of a selection, as the time ranges to fetch samples of."""

from dataclasses import dataclass

import numpy as np

from promcompat.core.distinct_numbers import distinct
from promcompat.core.model import IntArray, SeriesSelection
from promcompat.core.value_classes import value_class


@dataclass(frozen=True, slots=True)
class TimeSegments:
    """Time ranges `(lows[i], highs[i]]`, Unix ms, ascending and disjoint."""

    lows: IntArray
    highs: IntArray

    def __len__(self) -> int:
        return len(self.lows)

    def until(self, end_ms: int) -> "TimeSegments":
        """Those that end at `end_ms` or before."""
        n_segments = int(np.searchsorted(self.highs, end_ms, "right"))
        return TimeSegments(self.lows[:n_segments], self.highs[:n_segments])

    @property
    def length_ms(self) -> int:
        """How much time they cover."""
        return int((self.highs - self.lows).sum())


@value_class(frozen=True, slots=True)
class WindowGrid:
    """The windows `(t - reach, t]` at `n_steps` times t, the first of them at `first_ms`."""

    first_ms: int
    step_ms: int
    n_steps: int
    reach_ms: int

    @classmethod
    def of(cls, selection: SeriesSelection) -> "WindowGrid | None":
        """The windows of a selection; None when its hints do not tell them."""
        hints = selection.hints
        first_ms = selection.start_ms + hints.reach_ms
        if hints.reach_ms <= 0 or first_ms > selection.end_ms:
            return None
        step_ms = max(hints.step_ms, 0)
        n_steps = (selection.end_ms - first_ms) // step_ms + 1 if step_ms else 1
        return cls(first_ms, step_ms, n_steps, hints.reach_ms)

    @property
    def has_gaps(self) -> bool:
        """Whether there is time between two windows."""
        return self.n_steps > 1 and self.reach_ms < self.step_ms

    def windows(self) -> TimeSegments:
        """The windows themselves, where they do not overlap."""
        return self.instants() if self.has_gaps else self._one_segment()

    def instants(self) -> TimeSegments:
        """For each time the range since the time before it, at most as long as the reach."""
        highs = self.first_ms + np.arange(self.n_steps, dtype=np.int64) * self.step_ms
        lows = np.maximum(highs - self.reach_ms, highs - self.step_ms)
        lows[0] = self.first_ms - self.reach_ms
        return TimeSegments(lows, highs)

    def between_edges(self) -> TimeSegments:
        """The time that windows cover, cut wherever a window starts or ends.

        Every window consists of whole segments, so the results of its segments combine to the
        result of the window.
        """
        if self.has_gaps or self.n_steps == 1:
            return self.instants()
        ends = self.first_ms + np.arange(self.n_steps, dtype=np.int64) * self.step_ms
        edges = distinct(ends, ends - self.reach_ms)
        return TimeSegments(edges[:-1], edges[1:])

    def _one_segment(self) -> TimeSegments:
        last_ms = self.first_ms + (self.n_steps - 1) * self.step_ms
        return TimeSegments(np.array([self.first_ms - self.reach_ms]), np.array([last_ms]))
