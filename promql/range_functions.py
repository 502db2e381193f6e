"""The functions that take a range vector, by name: each reduces every window of a grid at once.

`absent_over_time` is not one of them: its result is one series whatever goes in, so it is made by
`absent_over_time` below from all windows together.
"""

from collections.abc import Callable, Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, Labels
from promql.function_calls import RangeCall
from promql.values import Matrix, Windows
from promql.window_reductions import count_over_time, last_over_time, present_over_time

__all__ = ["KEEPS_NAME", "RANGE_FUNCTIONS", "RangeCall", "absent_over_time"]

RangeFunction = Callable[[RangeCall], tuple[FloatArray, BoolArray]]

RANGE_FUNCTIONS: Mapping[str, RangeFunction] = {
    "count_over_time": count_over_time,
    "last_over_time": last_over_time,
    "present_over_time": present_over_time,
}
"""Each returns `values` float64 and `present` bool, both [n_series, n_steps].

The labels of the result are those of the windows' series, row by row; unless the function is in
`KEEPS_NAME` the caller passes the result through `drop_names(…, merge=False)`.
"""

KEEPS_NAME: frozenset[str] = frozenset({"last_over_time"})
"""The functions whose result keeps the metric name."""


def absent_over_time(windows: Windows, labels: Labels) -> Matrix:
    """One series of `labels` with the value 1 at every step where no window has a sample.

    `labels` are those `promql.instant_functions.absent_labels` derives from the argument.
    """
    absent: BoolArray = ~np.logical_or.reduce(windows.hi > windows.lo, axis=0)
    if not absent.any():
        return Matrix.empty(len(absent))
    return Matrix.of((labels,), np.ones((1, len(absent))), absent[None, :])
