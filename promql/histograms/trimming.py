"""Histograms cut off at a value."""

from dataclasses import replace

import numpy as np

from promcompat.core.model import FloatArray
from promql.histograms.arithmetic import compact
from promql.histograms.bucket_kernels import view_of
from promql.histograms.trim_kernels import trim
from promql.values.histogram_columns import HistogramColumns


def trimmed(
    columns: HistogramColumns, limits: FloatArray, *, keeps_below: bool
) -> HistogramColumns:
    """The observations of each histogram up to its limit, or else those from the limit on.

    A bucket around the limit is shared out as its distribution says, see `trim_kernels`.
    """
    zero_counts, counts, sums = (
        np.array(column) for column in (columns.zero_counts, columns.counts, columns.sums)
    )
    positive, negative = columns.positive.counts.copy(), columns.negative.counts.copy()
    trim(
        view_of(columns),
        np.ascontiguousarray(limits, np.float64),
        keeps_below,
        positive,
        negative,
        zero_counts,
        counts,
        sums,
    )
    return compact(
        replace(
            columns,
            zero_counts=zero_counts,
            counts=counts,
            sums=sums,
            positive=replace(columns.positive, counts=positive),
            negative=replace(columns.negative, counts=negative),
        )
    )
