"""The order of samples by value, NaN included.

Equal values keep the order they came in. Prometheus' sort keeps it for up to twelve elements too.
"""

from collections.abc import Callable

import numpy as np

from promcompat.core.model import BoolArray, FloatArray

Less = Callable[[FloatArray, FloatArray], BoolArray]


def smaller_first(a: FloatArray, b: FloatArray) -> BoolArray:
    """Whether `a` comes before `b`, the smallest first and NaN before all."""
    return np.asarray(np.isnan(a) | (a < b))


def larger_first(a: FloatArray, b: FloatArray) -> BoolArray:
    """Whether `a` comes before `b`, the largest first and NaN before all."""
    return np.asarray(np.isnan(a) | (a > b))


def sorted_by_value(values: FloatArray, less: Less) -> list[int]:
    """The indices of `values` [n] in the reverse of the order `less`, NaN last."""
    is_nan = np.isnan(values)
    keys = np.where(is_nan, np.inf, values if less is larger_first else -values)
    return np.lexsort((is_nan, keys)).tolist()  # type: ignore[no-any-return]


def sort_samples(samples: FloatArray) -> FloatArray:
    """`samples` sorted along axis 1, NaN last.

    Zeros of different signs are equal and keep their order: which of them a quantile picks shows in
    the sign of its result. The stable sort is slower, so it is used for them only.
    """
    has_negative_zero = bool(((samples == 0) & np.signbit(samples)).any())
    return np.sort(samples, axis=1, kind="stable" if has_negative_zero else None)
