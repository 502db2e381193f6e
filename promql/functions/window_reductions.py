"""Functions over time that need no arithmetic on the samples of a window."""

import numpy as np

from promcompat.core.model import BoolArray, FloatArray
from promql.functions.function_calls import RangeCall


def count_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """How many samples each window has."""
    counts = call.windows.sizes()
    return counts.astype(np.float64), counts > 0


def present_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """1 for every window that has a sample."""
    present = call.windows.hi > call.windows.lo
    return present.astype(np.float64), present


def last_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The newest sample of each window."""
    windows = call.windows
    present = windows.hi > windows.lo
    values = np.zeros(present.shape)
    values[present] = windows.block.values[windows.hi[present] - 1]
    return values, present


def ts_of_last_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """The time of the newest sample of each window in Unix seconds, at least 0."""
    windows = call.windows
    present = windows.hi > windows.lo
    values = np.zeros(present.shape)
    # Prometheus takes the later of the newest float and the newest histogram, which is 0 here.
    values[present] = windows.block.timestamps[windows.hi[present] - 1].clip(min=0) / 1000
    return values, present


def changes(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """How often a sample differs from the one before it; NaN equals NaN here."""
    values = call.windows.block.values
    before, after = values[:-1], values[1:]
    return _count_pairs(call, (before != after) & ~(np.isnan(before) & np.isnan(after)))


def resets(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """How often a sample is less than the one before it."""
    values = call.windows.block.values
    return _count_pairs(call, values[1:] < values[:-1])


def _count_pairs(call: RangeCall, pairs: BoolArray) -> tuple[FloatArray, BoolArray]:
    """How many of the `pairs` (sample i with sample i + 1 of the block) lie in each window.

    A prefix sum of integers is exact, and no window contains a pair that spans two series.
    """
    windows = call.windows
    present = windows.hi > windows.lo
    until = np.cumsum(np.append(False, pairs))
    values = np.zeros(present.shape)
    values[present] = until[windows.hi[present] - 1] - until[windows.lo[present]]
    return values, present
