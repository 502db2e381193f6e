"""Datadog's distributions: the values of an interval, or their sketch, as a native histogram.

A sketch is a histogram with buckets of its own: bucket k has the values near
`sign(k) * gamma ** (abs(k) - 1338)` with gamma = 1 + 2 / 128, and bucket 0 those near 0. Each
counts in the bucket of schema 5, whose bounds grow by 2 ** (1 / 32), that its value is in: an error
of two percent at most. Like counts and rates, these histograms are those of one interval, so they
are gauges: `histogram_quantile(0.9, sum_over_time(m[5m]))`.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from promcompat.core.histograms.layout import span_list

_SCHEMA: Final = 5
_BUCKETS_OF_TWO: Final = 1 << _SCHEMA
_GAMMA: Final = 1 + 2 / 128
_KEY_OF_ONE: Final = 1338
_SMALLEST: Final = 1e-9
"""Values nearer to 0 are in bucket 0 of a sketch."""

Counts = Iterable[tuple[float, int]]
"""Values, and how many there are of each."""


def histogram_of_values(values: Iterable[float]) -> Mapping[str, Any]:
    """The histogram of some values, as `promcompat.imports.histogram_objects` has it."""
    known = list(values)
    return _histogram(((value, 1) for value in known), sum(known))


def histogram_of_sketch(
    keys: Iterable[int], counts: Iterable[int], total: float
) -> Mapping[str, Any]:
    """The histogram of a sketch. Raises ValueError if it has not as many counts as keys."""
    pairs = zip(keys, counts, strict=True)
    return _histogram(((_value_of(key), count) for key, count in pairs), total)


def _value_of(key: int) -> float:
    if not key:
        return 0.0
    # A key of 16 bits, as the agent has them; others would be no numbers.
    exponent = min(abs(key), 1 << 15) - _KEY_OF_ONE
    return math.copysign(_GAMMA**exponent, key)


def _histogram(counts: Counts, total: float) -> Mapping[str, Any]:
    sides: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    n_zero = n_all = 0
    for value, count in counts:
        n_all += count
        if abs(value) <= _SMALLEST:
            n_zero += count
        elif count:
            index = math.ceil(math.log2(abs(value)) * _BUCKETS_OF_TWO)
            sides[value < 0][index] += count
    positive, negative = (sorted(side.items()) for side in sides)
    return {
        "schema": _SCHEMA,
        "count": n_all,
        "sum": total,
        "zero_threshold": _SMALLEST,
        "zero_count": n_zero,
        "positive_spans": span_list([index for index, _ in positive]),
        "positive_counts": [count for _, count in positive],
        "negative_spans": span_list([index for index, _ in negative]),
        "negative_counts": [count for _, count in negative],
        "counter_reset_hint": "gauge",
    }
