"""Functions over time that need no arithmetic on the samples of a window."""

import numpy as np

from promcompat.core.model import BoolArray, FloatArray
from promql.function_calls import RangeCall


def count_over_time(call: RangeCall) -> tuple[FloatArray, BoolArray]:
    """How many samples each window has."""
    counts = call.windows.hi - call.windows.lo
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
