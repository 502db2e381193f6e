"""Rows of partial results as samples; `sql.pushdown.partial_translator` makes the rows."""

import numpy as np

from promcompat.core.model import IntArray
from sql.database.copy_format import DecodedSamples
from sql.pushdown.rules import Partial
from sql.samples.series_samples import SeriesSamples


def counted_samples(rows: DecodedSamples, partial: Partial) -> tuple[SeriesSamples, IntArray]:
    """The samples that stand for those of their series, and the series they cannot stand for.

    `rows` are sorted by series id and time. The ids of the series that have to be read whole are
    ascending; samples has none of them.
    """
    assert rows.numbers is not None
    if not partial.is_aggregate:
        return SeriesSamples.of(rows, _samples_since_the_last(rows)), np.empty(0, np.int64)
    inexact = np.unique(rows.series_ids[rows.numbers < 0])
    if len(inexact):
        rows = rows.take(~np.isin(rows.series_ids, inexact))
    return SeriesSamples.of(rows, rows.numbers), inexact


def _samples_since_the_last(rows: DecodedSamples) -> IntArray:
    """How many samples of the series each row is the last of, itself and those left out."""
    assert rows.numbers is not None
    is_first = np.diff(rows.series_ids, prepend=-1) != 0
    counts: IntArray = np.where(is_first, rows.numbers, np.diff(rows.numbers, prepend=0))
    return counts
