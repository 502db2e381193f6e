"""The order of samples by value, NaN included."""

import numpy as np

from promcompat.core.model import FloatArray, IntArray


def order_by_value(
    values: FloatArray, *, descending: bool, groups: IntArray | None = None
) -> list[int]:
    """The indices of `values` [n] by value, NaN last, or by group first and then by value.

    Equal values keep the order they came in. Prometheus' sort keeps it for up to twelve elements
    too.
    """
    is_nan = np.isnan(values)
    keys = (is_nan, np.where(is_nan, np.inf, -values if descending else values))
    order: list[int] = np.lexsort(keys if groups is None else (*keys, groups)).tolist()
    return order
