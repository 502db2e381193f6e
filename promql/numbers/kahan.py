"""Kahan's compensated summation, in Neumaier's form, elementwise on NumPy columns.

The sum of a window or a group is `total + compensation` (or `total` alone once it is infinite).
Prometheus sums this way, so a plain `np.sum` would differ in the last digits, and in all digits
where large samples cancel.
"""

import numpy as np

from promcompat.core.model import FloatArray


def kahan_add(
    total: FloatArray, compensation: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Add `x` to each running sum. Returns new arrays of the operands' broadcast shape.

    Neumaier's comparison of magnitudes and Knuth's branch-free two-sum both give the exact rounding
    error of an addition; the latter takes half the NumPy passes. As in Prometheus, the compensation
    of an infinite sum is 0. Run it under `np.errstate(all="ignore")` if samples may be infinite.
    """
    new_total = total + x
    added = new_total - total
    error = (total - (new_total - added)) + (x - added)
    error += compensation
    error[np.isinf(new_total)] = 0.0
    return new_total, error


_WHOLE_BELOW = float(1 << 53)


def kahan_add_all(
    total: FloatArray, compensation: FloatArray, terms: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Add `terms[0]`, `terms[1]`, … to each running sum, as successive `kahan_add` would.

    Additions of whole numbers do not round while the sum of their magnitudes is below 2**53. Then
    neither the order nor the compensation matters, and NumPy adds thousands at once.
    """
    if _is_whole(terms[:1]) and _is_whole(total) and _is_whole(terms):
        magnitude = np.abs(total) + np.abs(terms).sum(axis=0)
        if magnitude.max(initial=0.0) < _WHOLE_BELOW:
            return total + terms.sum(axis=0), compensation
    for term in terms:
        total, compensation = kahan_add(total, compensation, term)
    return total, compensation


def _is_whole(numbers: FloatArray) -> bool:
    return bool((np.rint(numbers) == numbers).all())


def kahan_result(total: FloatArray, compensation: FloatArray) -> FloatArray:
    """The sum represented by a total and its compensation."""
    return np.where(np.isinf(total), total, total + compensation)
