"""The functions that take a range vector, by name: each reduces every window of a grid at once.

`absent_over_time` is not one of them: its result is one series whatever goes in, so it is made by
`absent_over_time` below from all windows together.
"""

from collections.abc import Callable, Mapping

import numpy as np

from promcompat.core.model import BoolArray, FloatArray, Labels
from promql.functions.extrapolation import delta, idelta, increase, irate, rate
from promql.functions.function_calls import RangeCall
from promql.functions.linear_regression import deriv, predict_linear
from promql.functions.smoothing import double_exponential_smoothing
from promql.functions.window_order import (
    mad_over_time,
    max_over_time,
    min_over_time,
    quantile_over_time,
    ts_of_max_over_time,
    ts_of_min_over_time,
)
from promql.functions.window_reductions import (
    changes,
    count_over_time,
    last_over_time,
    present_over_time,
    resets,
    ts_of_last_over_time,
)
from promql.functions.window_sums import (
    avg_over_time,
    stddev_over_time,
    stdvar_over_time,
    sum_over_time,
)
from promql.values.matrix import Matrix

__all__ = ["KEEPS_NAME", "RANGE_FUNCTIONS", "RangeCall", "absent_over_time"]

RangeFunction = Callable[[RangeCall], tuple[FloatArray, BoolArray]]

RANGE_FUNCTIONS: Mapping[str, RangeFunction] = {
    "avg_over_time": avg_over_time,
    "changes": changes,
    "count_over_time": count_over_time,
    "delta": delta,
    "deriv": deriv,
    "double_exponential_smoothing": double_exponential_smoothing,
    "idelta": idelta,
    "increase": increase,
    "irate": irate,
    "last_over_time": last_over_time,
    "mad_over_time": mad_over_time,
    "max_over_time": max_over_time,
    "min_over_time": min_over_time,
    "predict_linear": predict_linear,
    "present_over_time": present_over_time,
    "quantile_over_time": quantile_over_time,
    "rate": rate,
    "resets": resets,
    "stddev_over_time": stddev_over_time,
    "stdvar_over_time": stdvar_over_time,
    "sum_over_time": sum_over_time,
    "ts_of_last_over_time": ts_of_last_over_time,
    "ts_of_max_over_time": ts_of_max_over_time,
    "ts_of_min_over_time": ts_of_min_over_time,
}
"""Each returns `values` float64 and `present` bool, both [n_series, n_steps].

The labels of the result are those of the windows' series, row by row; unless the function is in
`KEEPS_NAME` the caller passes the result through `drop_names(…, merge=False)`.
"""

KEEPS_NAME: frozenset[str] = frozenset({"last_over_time"})
"""The functions whose result keeps the metric name."""


def absent_over_time(has_sample: BoolArray, labels: Labels) -> Matrix:
    """One series of `labels` with the value 1 at every step where no window has a sample.

    `has_sample` bool [n_steps] is where one has. `labels` are those
    `promql.functions.instant_functions.absent_labels` derives from the argument.
    """
    absent = ~has_sample
    if not absent.any():
        return Matrix.empty(len(absent))
    return Matrix.of((labels,), np.ones((1, len(absent))), absent[None, :])
