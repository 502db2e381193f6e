"""Sums of histograms: the arrays around the kernel that makes them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.histograms.bucket_list_kernels import Lists
from promql.histograms.combination_kernels import (
    ANY_SCHEMA,
    COLLISION,
    MIXED,
    N_BOUND_LISTS,
    N_LISTS,
    RECONCILED_IN_ADDITION,
    RECONCILED_IN_SUBTRACTION,
    combine,
)
from promql.histograms.source_kernels import BOUNDS, Source
from promql.values.histogram_columns import Buckets, HistogramColumns


@dataclass(frozen=True, slots=True)
class Combined:
    """The histograms of an operation, and what happened to each of them; bool arrays [n].

    `is_mixed`: exponential and custom buckets met, so there is no result, and the histogram is
    meaningless. `has_collision`: some terms say that a counter was reset, others that none was.
    `reconciled_additions` and `reconciled_subtractions`: custom bounds were reduced to those that
    all terms have, by an addition or by a subtraction; of a mixed result, before the kinds met.
    """

    histograms: HistogramColumns
    is_mixed: BoolArray
    has_collision: BoolArray
    reconciled_additions: BoolArray
    reconciled_subtractions: BoolArray

    @property
    def was_reconciled(self) -> BoolArray:
        """Whether custom bounds were reduced at all."""
        return self.reconciled_additions | self.reconciled_subtractions

    @staticmethod
    def joined(parts: "Sequence[Combined]") -> "Combined":
        """The results of all parts, of which there is at least one, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return Combined(
            HistogramColumns.joined([part.histograms for part in parts]),
            np.concatenate([part.is_mixed for part in parts]),
            np.concatenate([part.has_collision for part in parts]),
            np.concatenate([part.reconciled_additions for part in parts]),
            np.concatenate([part.reconciled_subtractions for part in parts]),
        )


def combined(
    mode: int,
    columns: HistogramColumns,
    offsets: IntArray,
    rows: IntArray,
    signs: FloatArray,
    max_schemas: IntArray | None = None,
) -> Combined:
    """Combine the terms of each result, see `combine`."""
    results = _Results.of(columns, offsets, rows)
    n, bound_lengths = len(offsets) - 1, _bound_lengths(columns)
    combine(
        mode,
        source_of(columns),
        offsets,
        rows,
        signs,
        np.full(n, ANY_SCHEMA) if max_schemas is None else max_schemas,
        work_lists(N_LISTS, results.longest),
        np.empty((N_BOUND_LISTS, int(bound_lengths.max()))),
        np.zeros(3, np.int64),
        results.integers,
        results.floats,
        results.flags,
        results.ends,
        results.buckets,
        results.bound_ends,
        results.bounds,
    )
    return results.combined(columns.bound_sets)


def longest_side(columns: HistogramColumns) -> int:
    """The most buckets that any histogram has on one side."""
    sides = columns.positive, columns.negative
    return max(int(np.diff(side.offsets).max(initial=0)) for side in sides)


@dataclass(frozen=True, slots=True)
class _Results:
    """What `combine` fills; `longest` is the most buckets that one side of a result can have."""

    integers: IntArray
    floats: FloatArray
    flags: IntArray
    ends: IntArray
    buckets: tuple[IntArray, FloatArray, IntArray, FloatArray]
    bound_ends: IntArray
    bounds: FloatArray
    longest: int

    @classmethod
    def of(cls, columns: HistogramColumns, offsets: IntArray, rows: IntArray) -> "_Results":
        """Room for the results of these terms."""
        n = len(offsets) - 1
        rooms = [
            np.minimum(
                _sums_of_terms(np.diff(side.offsets), offsets, rows), _distinct_indices(side)
            )
            for side in (columns.positive, columns.negative)
        ]
        n_positive, n_negative = (int(room.sum()) for room in rooms)
        n_bounds = _bound_lengths(columns)[columns.bounds[rows[offsets[:-1]]]].sum()
        return cls(
            np.zeros((n, 3), np.int64),
            np.zeros((n, 7)),
            np.zeros(n, np.int64),
            np.zeros((2, n), np.int64),
            (
                np.empty(n_positive, np.int64),
                np.empty(n_positive),
                np.empty(n_negative, np.int64),
                np.empty(n_negative),
            ),
            np.zeros(n, np.int64),
            np.empty(int(n_bounds)),
            max(int(room.max(initial=0)) for room in rooms),
        )

    def combined(self, known_bounds: tuple[tuple[float, ...], ...]) -> Combined:
        """The results as columns."""
        positive, positive_counts, negative, negative_counts = self.buckets
        places, bound_sets = _result_bounds(
            known_bounds, self.integers[:, BOUNDS], self.bound_ends, self.bounds
        )
        schemas, hints, _ = self.integers.T.copy()
        thresholds, zeros, counts, sums = self.floats[:, :4].T.copy()
        histograms = HistogramColumns(
            schemas,
            hints,
            thresholds,
            zeros,
            counts,
            sums,
            _result_buckets(self.ends[0], positive, positive_counts),
            _result_buckets(self.ends[1], negative, negative_counts),
            places,
            bound_sets,
        )
        return Combined(
            histograms,
            self.flags & MIXED > 0,
            self.flags & COLLISION > 0,
            self.flags & RECONCILED_IN_ADDITION > 0,
            self.flags & RECONCILED_IN_SUBTRACTION > 0,
        )


def _bound_lengths(columns: HistogramColumns) -> IntArray:
    """The length of each list of custom bounds; the last entry is that of no list."""
    return np.array([*(len(bounds) for bounds in columns.bound_sets), 0], np.int64)


def _sums_of_terms(lengths: IntArray, offsets: IntArray, rows: IntArray) -> IntArray:
    """The sum of the lengths of the terms of each result."""
    until = np.concatenate(([0], np.cumsum(lengths[rows])))
    return np.asarray(until[offsets[1:]] - until[offsets[:-1]])


def _distinct_indices(buckets: Buckets) -> int:
    """More indices than these cannot be in a result, at whatever schema."""
    if not len(buckets.indices):
        return 0
    lowest, highest = int(buckets.indices.min()), int(buckets.indices.max())
    return max(highest, 1) - min(lowest, 0) + 1


def _result_buckets(ends: IntArray, indices: IntArray, counts: FloatArray) -> Buckets:
    """The buckets of results that end there; the unused rest of the arrays is given back."""
    offsets = np.concatenate(([0], ends))
    n = int(offsets[-1])
    if 2 * n < len(indices):
        return Buckets(offsets, indices[:n].copy(), counts[:n].copy())
    return Buckets(offsets, indices[:n], counts[:n])


def _result_bounds(
    known: tuple[tuple[float, ...], ...], places: IntArray, ends: IntArray, bounds: FloatArray
) -> tuple[IntArray, tuple[tuple[float, ...], ...]]:
    """The places of results' custom bounds, and all lists, each once.

    `places` below -1 are lists of `bounds`, -2 the first one, -3 the second.
    """
    is_new = places < -1
    if not is_new.any():
        return places, known
    lists = {listed: place for place, listed in enumerate(known)}
    n_new = int(is_new.sum())
    starts = [0, *ends[: n_new - 1].tolist()]
    cells = bounds.tolist()
    new = [
        lists.setdefault(tuple(cells[start:end]), len(lists))
        for start, end in zip(starts, ends[:n_new].tolist(), strict=True)
    ]
    places = places.copy()
    places[is_new] = np.array(new)[-2 - places[is_new]]
    return places, tuple(lists)


def source_of(columns: HistogramColumns) -> Source:
    """All histograms of the columns."""
    bounds = columns.bound_sets
    offsets = np.zeros(len(bounds) + 1, np.int64)
    np.cumsum([len(listed) for listed in bounds], out=offsets[1:])
    floats = columns.zero_thresholds, columns.zero_counts, columns.counts, columns.sums
    return (
        np.column_stack((columns.schemas, columns.hints, columns.bounds)).astype(np.int64),
        np.column_stack(floats),
        columns.positive.offsets,
        columns.positive.indices,
        columns.positive.counts,
        columns.negative.offsets,
        columns.negative.indices,
        columns.negative.counts,
        offsets,
        np.array([bound for listed in bounds for bound in listed], np.float64),
    )


def work_lists(n_lists: int, room: int) -> Lists:
    """Lists for a kernel's own use, with room for so many buckets each."""
    shape = n_lists, room
    return np.empty(shape, np.int64), np.empty(shape), np.empty(shape), np.zeros(n_lists, np.int64)
