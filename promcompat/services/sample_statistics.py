"""Statistics of columns of samples, by group and by bucket, in numpy."""

from collections.abc import Sequence

import numpy as np

from promcompat.core.model import (
    EMPTY_LABELS,
    BoolArray,
    FloatArray,
    IntArray,
    Labels,
    SampleBlock,
    is_stale,
)
from promcompat.core.native_queries import Statistics

_PERCENTILES = (50.0, 95.0, 99.0)


def group_statistics(block: SampleBlock, group_by: Sequence[str]) -> list[Statistics]:
    """Statistics of each group of series, sorted by labels; without `group_by` of all together.

    Percentiles interpolate linearly between ranks, as numpy's and SQL's percentile_cont do.
    """
    groups, group_of_sample = _groups_of(block, group_by)
    values, group_of_sample = _without_stale(block, group_of_sample)
    order = np.argsort(group_of_sample, kind="stable")
    bounds = np.searchsorted(group_of_sample[order], np.arange(len(groups) + 1))
    sorted_values = values[order]
    return [
        _statistics_of(labels, sorted_values[bounds[index] : bounds[index + 1]])
        for index, labels in enumerate(groups)
    ]


def _statistics_of(labels: Labels, values: FloatArray) -> Statistics:
    if not len(values):
        return Statistics(labels=labels, count=0)
    # Infinities of both signs, and sums beyond the range of a float, are values like others.
    with np.errstate(invalid="ignore", over="ignore"):
        p50, p95, p99 = np.percentile(values, _PERCENTILES).tolist()
        return Statistics(
            labels=labels,
            count=len(values),
            avg=float(np.mean(values)),
            min=float(np.min(values)),
            max=float(np.max(values)),
            sum=float(np.sum(values)),
            p50=p50,
            p95=p95,
            p99=p99,
        )


def _groups_of(block: SampleBlock, group_by: Sequence[str]) -> tuple[list[Labels], IntArray]:
    """The distinct groups, sorted, and the number of the group of each sample."""
    if not group_by:
        return [EMPTY_LABELS], np.zeros(len(block.timestamps), np.int64)
    group_of_series = [labels.only(group_by) for labels in block.labels]
    groups = sorted(set(group_of_series), key=lambda labels: labels.pairs)
    number = {labels: index for index, labels in enumerate(groups)}
    numbers = np.array([number[labels] for labels in group_of_series], np.int64)
    return groups, np.repeat(numbers, np.diff(block.offsets))


def _without_stale(block: SampleBlock, groups: IntArray) -> tuple[FloatArray, IntArray]:
    stale = is_stale(block.values)
    return (block.values[~stale], groups[~stale]) if stale.any() else (block.values, groups)


def bucket_percentile(
    block: SampleBlock,
    group_by: Sequence[str],
    ends_ms: IntArray,
    bucket_ms: int,
    percentile: float,
) -> tuple[list[Labels], FloatArray, BoolArray]:
    """The percentile of all samples of a group in each bucket `(end - bucket_ms, end]`.

    Returns the groups, the values and where there is one, both [n_groups, n_buckets]. PromQL has
    percentiles of one series only: those of a group are not the percentiles of its series'.
    """
    groups, group_of_sample = _groups_of(block, group_by)
    n_buckets = len(ends_ms)
    bucket = -((int(ends_ms[0]) - block.timestamps) // bucket_ms) if n_buckets else block.timestamps
    inside = (bucket >= 0) & (bucket < n_buckets) & ~is_stale(block.values)
    cell = (group_of_sample * n_buckets + bucket)[inside]
    values = block.values[inside]
    order = np.lexsort((values, cell))
    cell, values = cell[order], values[order]
    starts = np.searchsorted(cell, np.arange(len(groups) * n_buckets + 1))
    counts = np.diff(starts)
    filled = np.flatnonzero(counts)
    result = np.zeros(len(groups) * n_buckets)
    result[filled] = _interpolate(values, starts[filled], counts[filled], percentile)
    shape = len(groups), n_buckets
    return groups, result.reshape(shape), (counts > 0).reshape(shape)


def _interpolate(
    values: FloatArray, starts: IntArray, counts: IntArray, percentile: float
) -> FloatArray:
    """The percentile of each run of sorted values; NaN, sorted last, makes its run NaN."""
    rank = (counts - 1) * (percentile / 100)
    below = np.floor(rank).astype(np.int64)
    fraction = rank - below
    low = values[starts + below]
    high = values[starts + np.minimum(below + 1, counts - 1)]
    with np.errstate(invalid="ignore", over="ignore"):
        # Not low + (high - low) * fraction alone: equal infinities would become NaN.
        found = np.where(low == high, low, low + (high - low) * fraction)
    last = values[starts + counts - 1]
    return np.where(np.isnan(last), np.nan, found)
