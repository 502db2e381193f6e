"""Decides which incoming values can be stored; every write passes here."""

from typing import Final

import numpy as np

from promcompat.core.histograms.columns import (
    histogram_numbers,
    is_histogram,
    usual_nans,
    without_histogram_bits,
)
from promcompat.core.model import BoolArray, FloatArray, WriteBatch
from sql.samples.codec.histogram_sections import are_too_large

TOO_MANY_BUCKETS: Final = "histogram has too many buckets"


def storable_values(batch: WriteBatch) -> tuple[FloatArray, BoolArray]:
    """The values with references to the batch's histograms only, and which rows can be stored.

    A float whose bits would refer to a histogram becomes the usual NaN. The decoder has done that
    for a batch with histograms; here only references beyond its histograms are found.
    """
    can_be_stored = np.ones(len(batch), np.bool_)
    if batch.histograms is None:
        return without_histogram_bits(batch.values), can_be_stored
    places = np.flatnonzero(is_histogram(batch.values))
    numbers = histogram_numbers(batch.values[places])
    is_stray = numbers >= len(batch.histograms)
    values = batch.values
    if is_stray.any():
        values = values.copy()
        values[places[is_stray]] = usual_nans(int(is_stray.sum()))
        places, numbers = places[~is_stray], numbers[~is_stray]
    can_be_stored[places[are_too_large(batch.histograms)[numbers]]] = False
    return values, can_be_stored
