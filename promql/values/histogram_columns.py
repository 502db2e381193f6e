"""Native histograms as PromQL computes with them: floats, and an index for each bucket."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.histograms.columns import CUSTOM_BUCKETS, Histograms, Index, Ragged
from promcompat.core.histograms.layout import spans_of
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.values.bucket_column_kernels import count_spans, place_buckets

UNKNOWN, RESET, NO_RESET, GAUGE = 0, 1, 2, 3
"""Counter reset hints."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets of one side of n histograms.

    Histogram i has the buckets `offsets[i]` to `offsets[i + 1]`: `indices` int64, ascending, and
    `counts` float64. Buckets of custom bounds are counted from 0. A bucket may be empty.
    """

    offsets: IntArray
    indices: IntArray
    counts: FloatArray

    @classmethod
    def none(cls, n: int) -> "Buckets":
        """No bucket for any of n histograms."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int64), np.empty(0))

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return int(self.offsets.nbytes + self.indices.nbytes + self.counts.nbytes)

    def take(self, index: Index) -> "Buckets":
        """The buckets of the histograms at an index, in its order."""
        indices = Ragged(self.offsets, self.indices).take(index)
        counts = Ragged(self.offsets, self.counts).take(index)
        return Buckets(indices.offsets, indices.cells, counts.cells)

    @staticmethod
    def joined(parts: "Sequence[Buckets]") -> "Buckets":
        """The buckets of the histograms of all parts."""
        indices = Ragged.joined([Ragged(part.offsets, part.indices) for part in parts])
        return Buckets(
            indices.offsets, indices.cells, np.concatenate([part.counts for part in parts])
        )


@dataclass(frozen=True, slots=True)
class HistogramColumns:
    """n float histograms.

    `schemas` int64 and `hints` int64 are as in `promcompat.core.histograms.columns.Histograms`;
    counts, sums and thresholds are float64. `bound_sets` has every list of custom bounds once;
    `bounds` int64 is the place of each histogram's list in it, -1 with exponential buckets.
    """

    schemas: IntArray
    hints: IntArray
    zero_thresholds: FloatArray
    zero_counts: FloatArray
    counts: FloatArray
    sums: FloatArray
    positive: Buckets
    negative: Buckets
    bounds: IntArray
    bound_sets: tuple[tuple[float, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.schemas)

    @property
    def n_bytes(self) -> int:
        """The size of the arrays."""
        return 64 * len(self) + self.positive.n_bytes + self.negative.n_bytes

    def n_samples_like(self) -> IntArray:
        """How many samples each histogram counts as in limits and statistics."""
        lengths = np.array([*(len(bounds) for bounds in self.bound_sets), 0], np.int64)
        cells = lengths[self.bounds]
        for side in (self.positive, self.negative):
            cells = cells + np.diff(side.offsets)
            count_spans(side.offsets, side.indices, cells)
        return np.asarray((176 + 8 * cells) // 16)

    def take(self, index: Index) -> "HistogramColumns":
        """The histograms at an index, in its order."""
        return HistogramColumns(
            self.schemas[index],
            self.hints[index],
            self.zero_thresholds[index],
            self.zero_counts[index],
            self.counts[index],
            self.sums[index],
            self.positive.take(index),
            self.negative.take(index),
            self.bounds[index],
            self.bound_sets,
        )

    def with_hint(self, hint: int) -> "HistogramColumns":
        """The same histograms, all with one hint."""
        return replace(self, hints=np.full(len(self), hint, np.int64))

    def without_reset_hints(self) -> "HistogramColumns":
        """The same histograms, of which only gauges keep their hint."""
        return replace(self, hints=np.where(self.hints == GAUGE, GAUGE, UNKNOWN))

    def without_buckets(self) -> "HistogramColumns":
        """The same histograms, of which only schemas, hints, counts and sums are left."""
        n, zeros = len(self), np.zeros(len(self))
        none = Buckets.none(n)
        bounds = np.full(n, -1, np.int64)
        return HistogramColumns(
            self.schemas, self.hints, zeros, zeros, self.counts, self.sums, none, none, bounds
        )

    @classmethod
    def without_observations(cls, bound_sets: tuple[tuple[float, ...], ...]) -> "HistogramColumns":
        """A histogram of each list of custom bounds that has no observations."""
        n = len(bound_sets)
        zeros, none = np.zeros(n), Buckets.none(n)
        schemas, hints = np.full(n, CUSTOM_BUCKETS, np.int64), np.full(n, UNKNOWN, np.int64)
        return cls(schemas, hints, zeros, zeros, zeros, zeros, none, none, np.arange(n), bound_sets)

    @staticmethod
    def joined(parts: "Sequence[HistogramColumns]") -> "HistogramColumns":
        """The histograms of all parts, of which there is at least one, one after the other."""
        places: dict[tuple[float, ...], int] = {}
        return HistogramColumns(
            np.concatenate([part.schemas for part in parts]),
            np.concatenate([part.hints for part in parts]),
            np.concatenate([part.zero_thresholds for part in parts]),
            np.concatenate([part.zero_counts for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.sums for part in parts]),
            Buckets.joined([part.positive for part in parts]),
            Buckets.joined([part.negative for part in parts]),
            np.concatenate([_renumbered(part, places) for part in parts]),
            tuple(places),
        )

    @classmethod
    def of(cls, stored: Histograms) -> "HistogramColumns":
        """Stored histograms as floats."""
        bounds = np.full(len(stored), -1, np.int64)
        places: dict[tuple[float, ...], int] = {}
        for row in np.flatnonzero(stored.schemas == CUSTOM_BUCKETS).tolist():
            start, end = stored.bounds.offsets[row : row + 2].tolist()
            listed = tuple(stored.bounds.cells[start:end].tolist())
            bounds[row] = places.setdefault(listed, len(places))
        return cls(
            stored.schemas.astype(np.int64),
            stored.hints.astype(np.int64),
            stored.zero_thresholds,
            _as_floats(stored.zero_counts, stored.is_float),
            _as_floats(stored.counts, stored.is_float),
            stored.sums,
            _buckets(stored.positive_spans, stored.positive, stored.is_float),
            _buckets(stored.negative_spans, stored.negative, stored.is_float),
            bounds,
            tuple(places),
        )

    @classmethod
    def counts_of(cls, stored: Histograms) -> "HistogramColumns":
        """The same `without_buckets`."""
        n, zeros = len(stored), np.zeros(len(stored))
        return cls(
            stored.schemas.astype(np.int64),
            stored.hints.astype(np.int64),
            zeros,
            zeros,
            _as_floats(stored.counts, stored.is_float),
            stored.sums,
            Buckets.none(n),
            Buckets.none(n),
            np.full(n, -1, np.int64),
        )

    def stored(self) -> Histograms:
        """The histograms as they are stored, with counts that are floats."""
        lists = [self.bound_sets[place] if place >= 0 else () for place in self.bounds.tolist()]
        lengths = np.array([len(one) for one in lists], np.int64)
        listed = np.array([bound for one in lists for bound in one], np.float64)
        return Histograms(
            self.schemas.astype(np.int8),
            self.hints.astype(np.uint8),
            np.ones(len(self), bool),
            self.zero_thresholds,
            self.zero_counts.view(np.int64),
            self.counts.view(np.int64),
            self.sums,
            spans_of(Ragged(self.positive.offsets, self.positive.indices)),
            spans_of(Ragged(self.negative.offsets, self.negative.indices)),
            Ragged(self.positive.offsets, self.positive.counts.view(np.int64)),
            Ragged(self.negative.offsets, self.negative.counts.view(np.int64)),
            Ragged.of_lengths(lengths, listed),
        )


def _renumbered(part: HistogramColumns, places: dict[tuple[float, ...], int]) -> IntArray:
    """The places of a part's custom bounds among `places`, to which they are added."""
    if not part.bound_sets:
        return part.bounds
    moved = [places.setdefault(bounds, len(places)) for bounds in part.bound_sets]
    return np.array([*moved, -1], np.int64)[part.bounds]


def _as_floats(bits: IntArray, is_float: BoolArray) -> FloatArray:
    """Counts as float64, whose bits may be those of unsigned integers."""
    return np.where(is_float, bits.view(np.float64), bits.view(np.uint64).astype(np.float64))


def _buckets(spans: Ragged[np.int32], stored: Ragged[np.int64], is_float: BoolArray) -> Buckets:
    """The buckets that spans place; they have as many as are stored."""
    indices, counts = np.empty(len(stored.cells), np.int64), np.empty(len(stored.cells))
    place_buckets(
        spans.offsets,
        np.ascontiguousarray(spans.cells),
        stored.offsets,
        stored.cells,
        stored.cells.view(np.float64),
        is_float,
        indices,
        counts,
    )
    return Buckets(stored.offsets, indices, counts)
