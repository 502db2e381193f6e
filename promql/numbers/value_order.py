"""The orders of values, NaN among them, and how Prometheus sorts by them."""

from collections.abc import Callable

import numpy as np

from promcompat.core.model import BoolArray, FloatArray
from promql.numbers.go_sort import go_sorted

Less = Callable[[FloatArray, FloatArray], BoolArray]

_MAX_EXACT = 10_000
"""So many elements sort in a tenth of a second in Python; more than these keep their order."""


def smaller_first(a: FloatArray, b: FloatArray) -> BoolArray:
    """Whether `a` comes before `b`, the smallest first and NaN before all."""
    return np.asarray(np.isnan(a) | (a < b))


def larger_first(a: FloatArray, b: FloatArray) -> BoolArray:
    """Whether `a` comes before `b`, the largest first and NaN before all."""
    return np.asarray(np.isnan(a) | (a > b))


def sorted_by_value(values: FloatArray, less: Less) -> list[int]:
    """The places of `values` [n] in the reverse of the order `less`, NaN last.

    Equal values are where Go's sort leaves them. It takes any two NaN for misplaced, so that up to
    twelve values the NaN come in reverse.
    """
    is_nan = np.isnan(values)
    keys = np.where(is_nan, np.inf, values if less is larger_first else -values)
    order: list[int] = np.lexsort((is_nan, keys)).tolist()
    ranked = keys[order]
    has_equals = bool((ranked[1:] == ranked[:-1]).any())
    if not has_equals or len(order) > _MAX_EXACT:
        return order
    return _sorted_with_equals(keys.tolist(), is_nan.tolist())


def mixed_zero_columns(samples: FloatArray) -> list[int]:
    """The columns of `samples` [size, n] that hold zeros of both signs, those that can be afforded.

    Which of equal zeros a quantile takes is seen in the sign of the result.
    """
    is_zero = samples == 0
    if not is_zero.any():
        return []
    negative = np.signbit(samples)
    mixed = (is_zero & negative).any(axis=0) & (is_zero & ~negative).any(axis=0)
    return np.flatnonzero(mixed)[: _MAX_EXACT // max(len(samples), 1)].tolist()  # type: ignore[no-any-return]


def zeros_in_order(samples: FloatArray) -> FloatArray:
    """The zeros among `samples` [n], signs and all, as Go leaves them when it sorts the samples."""
    values, is_nan = samples.tolist(), np.isnan(samples).tolist()
    order = go_sorted(len(values), lambda a, b: is_nan[a] or values[a] < values[b])
    return np.array([values[place] for place in order if values[place] == 0])


def _sorted_with_equals(keys: list[float], is_nan: list[bool]) -> list[int]:
    def comes_before(a: int, b: int) -> bool:
        return is_nan[b] or keys[a] < keys[b]

    return go_sorted(len(keys), comes_before)
