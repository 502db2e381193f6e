"""Columns of histograms as kernels read them."""

import numpy as np

from promql.histograms.bucket_list_kernels import Lists
from promql.histograms.source_kernels import Source
from promql.values.histogram_columns import HistogramColumns


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
