"""Quantiles and fractions of classic histograms, all steps at once.

A classic histogram is a group of series that differ only in `le`. Groups with the same bounds are
computed together: bounds along the first axis, groups and steps along the others.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels
from promcompat.core.texts.strconv import parse_float
from promql.ast import PositionRange
from promql.budget import BYTES_PER_CELL, QueryBudget
from promql.functions.function_calls import InstantCall
from promql.values.annotation_texts import bad_bucket_label, forced_monotonicity
from promql.values.forced_monotonicity import ForcedMonotonicity
from promql.values.matrix import Matrix
from promql.values.row_pieces import CELLS_PER_PIECE

BUCKET_LABEL = "le"
_BYTES_PER_BUCKET = 60
"""A bucket count while its histogram is computed: its bound, its order, and copies of them."""
_SMALL_DELTA = 1e-12
"""A smaller relative difference of neighbouring counts counts as a rounding error."""
_MIN_NORMAL = float(np.finfo(np.float64).tiny)
_MAX_FLOAT = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True)
class _Buckets:
    """The buckets of some histograms by rising bound; present ones come first along axis 0.

    `bounds` and `counts` are [n_bounds, n_groups, n_steps], meaningful below `n_buckets`
    [n_groups, n_steps]. `has_inf` is true where the last one is the +Inf bucket.
    """

    bounds: FloatArray
    counts: FloatArray
    n_buckets: IntArray
    has_inf: BoolArray

    @property
    def last(self) -> IntArray:
        """The index of the last bucket, 0 where there is none."""
        return np.maximum(self.n_buckets - 1, 0)

    def bound_at(self, index: IntArray) -> FloatArray:
        """The upper bound of one bucket of each histogram."""
        return np.asarray(np.take_along_axis(self.bounds, index[None], axis=0)[0])

    def count_at(self, index: IntArray) -> FloatArray:
        """The cumulative count of one bucket of each histogram."""
        return np.asarray(np.take_along_axis(self.counts, index[None], axis=0)[0])


@dataclass(frozen=True, slots=True)
class _Forced:
    """Where counts had to be made monotonic, [n_groups, n_steps] each.

    `lowest` and `highest` are the upper bounds of the first and the last bucket with too low a
    count, and `difference` is the greatest difference to the count before.
    """

    here: BoolArray
    lowest: FloatArray
    highest: FloatArray
    difference: FloatArray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> "_Forced":
        """All counts are monotonic."""
        infinite = np.full(shape, np.inf)
        return cls(np.zeros(shape, bool), infinite, -infinite, np.zeros(shape))

    def add(self, falls: BoolArray, bounds: FloatArray, difference: FloatArray) -> None:
        """Take in one more bucket of every histogram: where its count falls, and by how much."""
        self.here[falls] = True
        self.lowest[falls] = np.minimum(self.lowest, bounds)[falls]
        self.highest[falls] = np.maximum(self.highest, bounds)[falls]
        self.difference[falls] = np.maximum(self.difference, difference)[falls]

    def put(self, numbers: IntArray, found: "_Forced") -> None:
        """Set the rows of these histograms."""
        self.here[numbers] = found.here
        self.lowest[numbers], self.highest[numbers] = found.lowest, found.highest
        self.difference[numbers] = found.difference

    def extent(self, number: int, times_ms: IntArray) -> ForcedMonotonicity:
        """What there is to tell of one histogram, which is here at some step."""
        here = self.here[number]
        return ForcedMonotonicity(
            int(here.sum()),
            int(times_ms[here].min()),
            int(times_ms[here].max()),
            float(self.lowest[number, here].min()),
            float(self.highest[number, here].max()),
            float(self.difference[number, here].max()),
        )


_Groups = dict[Labels, list[tuple[float, int]]]
"""Labels without `le` -> (upper bound, row of the matrix) of each bucket."""


def classic_quantiles(
    call: InstantCall, matrix: Matrix, quantiles: Sequence[FloatArray], pos: PositionRange
) -> list[Matrix]:
    """Each of the quantiles [n_steps] of the classic histograms of a matrix, the argument at `pos`.

    A quantile is interpolated linearly within its bucket. Counts that had to be made monotonic are
    told of once, however many quantiles there are.
    """
    groups = _annotated_bucket_rows(call, matrix, pos)
    shape = len(groups), call.n_steps
    call.budget.check_bytes(len(quantiles) * len(groups) * call.n_steps * (BYTES_PER_CELL + 1))
    results = [np.zeros(shape) for _ in quantiles]
    present = np.zeros(shape, bool)
    forced = _Forced.none(shape)
    for numbers, buckets in _batches(matrix, groups, call.budget):
        with np.errstate(all="ignore"):
            monotonic, found = _made_monotonic(buckets)
            for result, wanted in zip(results, quantiles, strict=True):
                result[numbers] = _quantiles(monotonic, wanted)
        found.here[:] &= buckets.has_inf & _is_any_interpolated(quantiles)
        forced.put(numbers, found)
        present[numbers] = buckets.n_buckets > 0
    _annotate_forced(call, groups, forced, pos)
    return [Matrix.of(tuple(groups), result, present) for result in results]


def _is_any_interpolated(quantiles: Sequence[FloatArray]) -> BoolArray:
    """The steps at which counts matter: the other quantiles have a result without them."""
    within = [(wanted >= 0) & (wanted <= 1) for wanted in quantiles]
    found: BoolArray = np.logical_or.reduce(within, axis=0)
    return found


def classic_fractions(
    call: InstantCall, matrix: Matrix, lower: FloatArray, upper: FloatArray, pos: PositionRange
) -> Matrix:
    """The share of observations between two values, of the classic histograms of a matrix."""
    groups = _annotated_bucket_rows(call, matrix, pos)
    call.budget.check_bytes(len(groups) * call.n_steps * (BYTES_PER_CELL + 1))
    results = np.zeros((len(groups), call.n_steps))
    present = np.zeros(results.shape, bool)
    for numbers, buckets in _batches(matrix, groups, call.budget):
        with np.errstate(all="ignore"):
            results[numbers] = _fractions(buckets, lower, upper)
        present[numbers] = buckets.n_buckets > 0
    return Matrix.of(tuple(groups), results, present)


def _annotated_bucket_rows(call: InstantCall, matrix: Matrix, pos: PositionRange) -> _Groups:
    """The rows of each histogram, with a warning about each row that is no bucket."""
    groups, others = bucket_rows(matrix)
    for labels in others:
        text = bad_bucket_label(call.shown_name(labels), labels.get(BUCKET_LABEL))
        call.annotations.warn(text, pos)
    return groups


def bucket_rows(matrix: Matrix) -> tuple[_Groups, list[Labels]]:
    """The rows of each histogram, and the labels of the rows with samples but no valid `le`."""
    bounds: dict[str, float | None] = {}
    groups: _Groups = {}
    others: list[Labels] = []
    has_sample = np.logical_or.reduce(matrix.present, axis=1).tolist()
    for row, labels in enumerate(matrix.labels):
        if not has_sample[row]:
            continue
        le = labels.get(BUCKET_LABEL)
        if le not in bounds:
            bounds[le] = parse_bound(le)
        bound = bounds[le]
        if bound is None:
            others.append(labels)
            continue
        groups.setdefault(labels.without((BUCKET_LABEL,)), []).append((bound, row))
    return groups, others


def parse_bound(text: str) -> float | None:
    """The number of an `le` label, None for a text that is not a number."""
    try:
        return parse_float(text)
    except ValueError:
        return None


def _batches(
    matrix: Matrix, groups: _Groups, budget: QueryBudget
) -> Iterator[tuple[IntArray, _Buckets]]:
    """Groups with equal bounds, as their indices and buckets; a limited number at a time."""
    by_bounds: dict[tuple[float, ...], tuple[list[int], list[list[int]]]] = {}
    for number, buckets in enumerate(groups.values()):
        ordered = _by_bound(buckets)
        bounds = tuple(bound for bound, _ in ordered)
        numbers, rows = by_bounds.setdefault(bounds, ([], []))
        numbers.append(number)
        rows.append([row for _, row in ordered])
    n_steps = matrix.present.shape[1]
    for bounds, (numbers, rows) in by_bounds.items():
        at_once = max(1, CELLS_PER_PIECE // (len(bounds) * n_steps))
        budget.check_scratch(len(bounds) * n_steps * at_once * _BYTES_PER_BUCKET)
        for first in range(0, len(numbers), at_once):
            piece = slice(first, first + at_once)
            index = np.array(rows[piece]).T
            counts, present = matrix.values[index], matrix.present[index]
            yield np.array(numbers[piece]), _collect(np.array(bounds), counts, present)


def _by_bound(buckets: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The buckets by rising bound.

    A bound of NaN is neither less nor greater than others, which do not move past it in the
    insertion sort of Go, and so of Prometheus.
    """
    if not any(math.isnan(bound) for bound, _ in buckets):
        return sorted(buckets, key=lambda bucket: bucket[0])
    ordered: list[tuple[float, int]] = []
    for bucket in buckets:
        place = len(ordered)
        while place and bucket[0] < ordered[place - 1][0]:
            place -= 1
        ordered.insert(place, bucket)
    return ordered


def _collect(bounds: FloatArray, counts: FloatArray, present: BoolArray) -> _Buckets:
    """Add up buckets with equal bounds (`1` and `1.0`), and close the gaps of absent ones."""
    starts = np.flatnonzero(np.append(True, bounds[1:] != bounds[:-1]))
    if len(starts) < len(bounds):
        counts = np.add.reduceat(np.where(present, counts, 0.0), starts, axis=0)
        present = np.logical_or.reduceat(present, starts, axis=0)
        bounds = bounds[starts]
    n_buckets = present.sum(axis=0)
    has_inf = present[-1] & (bounds[-1] == np.inf)
    if present.all():
        wide = np.broadcast_to(bounds[:, None, None], counts.shape)
        return _Buckets(wide, counts, n_buckets, has_inf)
    order = np.argsort(~present, axis=0, kind="stable")
    return _Buckets(bounds[order], np.take_along_axis(counts, order, axis=0), n_buckets, has_inf)


def _quantiles(buckets: _Buckets, quantiles: FloatArray) -> FloatArray:
    """The quantiles [n_groups, n_steps] of buckets whose counts are monotonic."""
    last = buckets.last
    observations = buckets.count_at(last)
    rank = quantiles * observations
    found = _first_reaching(buckets, rank)
    before = np.maximum(found - 1, 0)
    count_before = np.where(found > 0, buckets.count_at(before), 0.0)
    start = np.where(found > 0, buckets.bound_at(before), 0.0)
    end = buckets.bound_at(found)
    share = (rank - count_before) / (buckets.count_at(found) - count_before)
    results = start + (end - start) * share
    results = np.where((found == 0) & (end <= 0), end, results)
    # A quantile in the +Inf bucket is reported as the highest finite bound.
    results = np.where(found == last, buckets.bound_at(np.maximum(last - 1, 0)), results)
    defined = buckets.has_inf & (buckets.n_buckets >= 2) & (observations != 0)
    results = np.where(defined & ~np.isnan(quantiles), results, np.nan)
    return np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, results))


def _made_monotonic(buckets: _Buckets) -> tuple[_Buckets, _Forced]:
    """Counts that never fall with rising bounds, and where that corrected more than rounding.

    A count that differs from the one before it only by rounding becomes equal to it.
    """
    counts = buckets.counts.copy()
    forced = _Forced.none(buckets.n_buckets.shape)
    previous = counts[0]
    for index in range(1, len(counts)):
        current = counts[index]
        rounding = _almost_equal(previous, current)
        falls = (current < previous) & ~rounding
        counted = falls & (index < buckets.n_buckets)
        if counted.any():
            forced.add(counted, buckets.bounds[index], previous - current)
        counts[index] = previous = np.where(rounding | falls, previous, current)
    return replace(buckets, counts=counts), forced


def _almost_equal(a: FloatArray, b: FloatArray) -> BoolArray:
    difference, magnitude = np.abs(a - b), np.abs(a) + np.abs(b)
    tiny = (a == 0) | (b == 0) | (magnitude < _MIN_NORMAL)
    near = difference / np.minimum(magnitude, _MAX_FLOAT) < _SMALL_DELTA
    near = np.where(tiny, difference < _SMALL_DELTA * _MIN_NORMAL, near)
    equal: BoolArray = (a == b) | near | (np.isnan(a) & np.isnan(b))
    return equal


def _first_reaching(buckets: _Buckets, rank: FloatArray) -> IntArray:
    """The first bucket whose count reaches the rank, else the last one.

    A binary search, as in Prometheus: where counts are NaN a linear search finds another bucket.
    """
    low, high = np.zeros_like(buckets.last), buckets.last
    while np.any(low < high):
        middle = (low + high) >> 1
        reaches = buckets.count_at(middle) >= rank
        searching = low < high
        high = np.where(searching & reaches, middle, high)
        low = np.where(searching & ~reaches, middle + 1, low)
    return low


def _fractions(buckets: _Buckets, lower: FloatArray, upper: FloatArray) -> FloatArray:
    total = buckets.count_at(buckets.last)
    results = (_rank_at(buckets, upper, total) - _rank_at(buckets, lower, total)) / total
    results = np.where(lower >= upper, 0.0, results)
    undefined = ~buckets.has_inf | (total == 0) | np.isnan(lower) | np.isnan(upper)
    return np.where(undefined, np.nan, results)


def _rank_at(buckets: _Buckets, bound: FloatArray, total: FloatArray) -> FloatArray:
    """The observations below `bound`, interpolated within its bucket, at most `total`."""
    rank = np.zeros(total.shape)
    result, found = np.zeros(total.shape), np.zeros(total.shape, bool)
    # Histograms of positive values begin at 0, others at -Inf, where nothing can be interpolated.
    below = np.where(buckets.bounds[0] > 0, 0.0, -np.inf)
    for index, (end, count) in enumerate(zip(buckets.bounds, buckets.counts, strict=True)):
        open_ = ~found & (index < buckets.n_buckets)
        at_start = open_ & (below >= bound)
        within = open_ & (below < bound) & (end > bound)
        inside = rank + (count - rank) * (bound - below) / (end - below)
        inside = np.where(below == -np.inf, count, inside)
        result = np.where(at_start, rank, np.where(within, inside, result))
        found |= at_start | within
        rank, below = count, end
    return np.where(~found | (result > total), total, result)


def _annotate_forced(
    call: InstantCall, groups: _Groups, forced: _Forced, pos: PositionRange
) -> None:
    """Add an info about each metric whose counts were not monotonic."""
    is_forced: BoolArray = np.logical_or.reduce(forced.here, axis=1)
    for number, labels in enumerate(groups):
        if is_forced[number]:
            text = forced_monotonicity(call.shown_name(labels))
            call.annotations.info_of_forced(text, pos, forced.extent(number, call.timestamps))
