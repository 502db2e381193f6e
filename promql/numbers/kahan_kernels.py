"""Kahan's compensated summation, in Neumaier's form.

The sum of a window or a group is `total + compensation` (or `total` alone once it is infinite).
Prometheus sums this way, so a plain sum would differ in the last digits, and in all digits where
large samples cancel.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel


@kernel(allocates=False)
def kahan_add(total: float, compensation: float, x: float) -> tuple[float, float]:
    """Add `x` to a running sum; returns its new total and compensation.

    Neumaier's comparison of magnitudes and Knuth's branch-free two-sum both give the exact rounding
    error of an addition. As in Prometheus, the compensation of an infinite sum is 0.
    """
    new_total = total + x
    added = new_total - total
    error = (total - (new_total - added)) + (x - added)
    return new_total, 0.0 if np.isinf(new_total) else compensation + error
