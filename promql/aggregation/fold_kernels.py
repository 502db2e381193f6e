"""Folds of the members of each group into one series, for all steps of a row at once.

Rows are folded in their order, as in Prometheus, because a float sum depends on it.
"""

import numpy as np

from promcompat.core.compiled_kernels import kernel
from promcompat.core.model import BoolArray, FloatArray, IntArray
from promql.functions.window_value_kernels import window_quantile
from promql.numbers.kahan_kernels import kahan_add
from promql.values.sample_kernels import FLOATS, INTEGERS

SUM, AVG, MIN, MAX, COUNT, GROUP, VARIANCE, DEVIATION = 0, 1, 2, 3, 4, 5, 6, 7
N_STATES = 4
"""Numbers that a fold keeps for each group and step."""

_CELLS = "Array(float64, 2, 'C', True)"
_MASK = "Array(boolean, 2, 'C', True)"


@kernel(allocates=False)
def _count_row(here: BoolArray, count: FloatArray) -> None:
    for step in range(len(here)):
        count[step] += here[step]


@kernel(allocates=False)
def _add_row(x: FloatArray, here: BoolArray, total: FloatArray, compensation: FloatArray) -> None:
    for step in range(len(x)):
        # Adding -0.0 changes nothing, not even the sign of a zero; it is faster than a branch.
        term = x[step] if here[step] else -0.0
        total[step], compensation[step] = kahan_add(total[step], compensation[step], term)


@kernel(allocates=False)
def _average_row(
    x: FloatArray,
    here: BoolArray,
    count: FloatArray,
    total: FloatArray,
    compensation: FloatArray,
    is_mean: FloatArray,
) -> None:
    """A sum as long as it is finite, and from there on a running mean, kept in `total`."""
    for step in range(len(x)):
        if not here[step]:
            continue
        n = count[step]
        if n == 1:
            total[step] = x[step]
            continue
        if not is_mean[step]:
            new_total, new_compensation = kahan_add(total[step], compensation[step], x[step])
            if not np.isinf(new_total):
                total[step], compensation[step] = new_total, new_compensation
                continue
            is_mean[step] = 1
            total[step] /= n - 1
            compensation[step] /= n - 1
        share = (n - 1) / n
        total[step], compensation[step] = kahan_add(
            share * total[step], share * compensation[step], x[step] / n
        )


@kernel(allocates=False)
def _extreme_row(
    is_max: bool, x: FloatArray, here: BoolArray, count: FloatArray, best: FloatArray
) -> None:
    """The first of the least or greatest members; NaN only if all members are NaN."""
    for step in range(len(x)):
        if here[step]:
            is_better = x[step] > best[step] if is_max else x[step] < best[step]
            if count[step] == 1 or is_better or np.isnan(best[step]):
                best[step] = x[step]


@kernel(allocates=False)
def _variance_row(
    x: FloatArray, here: BoolArray, count: FloatArray, mean: FloatArray, squares: FloatArray
) -> None:
    """Welford's method (Knuth, TAOCP 2, 4.2.2)."""
    for step in range(len(x)):
        if not here[step]:
            continue
        if count[step] == 1:
            # The mean of the first member is exactly its value; x - x is NaN if that is infinite.
            mean[step], squares[step] = x[step], x[step] - x[step]
            continue
        delta = x[step] - mean[step]
        mean[step] += delta / count[step]
        squares[step] += delta * (x[step] - mean[step])


@kernel(allocates=False)
def _result(operation: int, count: float, first: float, second: float, is_mean: float) -> float:
    """The value of a group with `count` members from what its fold kept."""
    if operation == SUM:
        return first if np.isinf(first) else first + second
    if operation == AVG:
        return first + second if is_mean else first / count + second / count
    if operation == COUNT:
        return count
    if operation == GROUP:
        return 1.0
    if operation >= VARIANCE:
        deviation: float = second / count if operation == VARIANCE else np.sqrt(second / count)
        return deviation
    return first


@kernel(
    f"void(int64, {_CELLS}, {_MASK}, {INTEGERS}, int64, float64[:, :, ::1],"
    "float64[:, ::1], boolean[:, ::1])",
    allocates=False,
)
def fold_groups(
    operation: int,
    values: FloatArray,
    present: BoolArray,
    group_of: IntArray,
    first_step: int,
    states: FloatArray,
    results: FloatArray,
    found: BoolArray,
) -> None:
    """Fold rows [n_series, n_steps] into the groups `group_of` [n_series], at some steps.

    `states` [N_STATES, n_groups, steps from `first_step` on] is 0. Fills these steps of `results`
    and `found`, which is where a group has a member, [n_groups, n_steps].
    """
    steps = slice(first_step, first_step + states.shape[2])
    for row in range(len(group_of)):
        x, here, group = values[row, steps], present[row, steps], group_of[row]
        count, first = states[0, group], states[1, group]
        second, is_mean = states[2, group], states[3, group]
        _count_row(here, count)
        if operation == SUM:
            _add_row(x, here, first, second)
        elif operation == AVG:
            _average_row(x, here, count, first, second, is_mean)
        elif operation <= MAX:
            _extreme_row(operation == MAX, x, here, count, first)
        elif operation >= VARIANCE:
            _variance_row(x, here, count, first, second)
    for group in range(states.shape[1]):
        for step in range(states.shape[2]):
            count, first, second, is_mean = states[:, group, step]
            found[group, first_step + step] = count > 0
            results[group, first_step + step] = _result(operation, count, first, second, is_mean)


@kernel(
    f"void({_CELLS}, {_MASK}, {INTEGERS}, {INTEGERS}, {FLOATS}, float64[::1],"
    "float64[:, ::1], boolean[:, ::1])",
    allocates=False,
)
def group_quantiles(
    values: FloatArray,
    present: BoolArray,
    members: IntArray,
    starts: IntArray,
    quantiles: FloatArray,
    scratch: FloatArray,
    results: FloatArray,
    found: BoolArray,
) -> None:
    """The quantile of each group at each step; NaN sorts before every number.

    Group i has the rows `members[starts[i]:starts[i + 1]]` of `values` and `present` [n_series,
    n_steps]; `quantiles` is [n_steps]; `scratch` has three times the size of the largest group.
    Fills `results` and `found`, which is where a group has a member, [n_groups, n_steps].
    """
    for group in range(len(starts) - 1):
        rows = members[starts[group] : starts[group + 1]]
        samples, rest = scratch[: len(rows)], scratch[len(rows) :]
        for step in range(len(quantiles)):
            n_samples = 0
            for row in rows:
                if present[row, step]:
                    samples[n_samples] = values[row, step]
                    n_samples += 1
            found[group, step] = n_samples > 0
            results[group, step] = 0.0
            if n_samples:
                results[group, step] = window_quantile(quantiles[step], samples[:n_samples], rest)
