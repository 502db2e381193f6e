"""The aggregations that select samples: `topk`, `bottomk`, `limitk` and `limit_ratio`.

They select at each step separately. The rows keep their labels, name included.
"""

from dataclasses import dataclass, replace

import numpy as np
import xxhash

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels
from promcompat.core.strconv import format_g
from promql.aggregation.grouping import Grouping, group_series
from promql.aggregation.step_heaps import StepHeaps
from promql.ast import AggregateExpr, unwrap_parens
from promql.budget import QueryBudget
from promql.numbers.value_order import Less, larger_first, smaller_first
from promql.values.matrix import Annotations, Matrix
from promql.values.shapes import take_rows

SELECTIONS = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})

_MAX_INT64 = 9223372036854774784.0
"""The largest float that Prometheus accepts as k."""

_BYTES_PER_PLACE = 40
"""A sample in a heap: its value and row, and its position once it is chosen."""

_MAX_UINT64 = float((1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The samples to choose from; `limits` int64 [n_steps] is k at each step (0: choose none)."""

    matrix: Matrix
    grouping: Grouping
    limits: IntArray


def select_samples(
    expr: AggregateExpr,
    matrix: Matrix,
    param: FloatArray,
    annotations: Annotations,
    budget: QueryBudget,
) -> Matrix:
    """The chosen samples of `matrix`; `param` float64 [n_steps] is k or the ratio.

    On a grid of one step the rows come in Prometheus' order (`topk` descending, `bottomk`
    ascending, group by group), otherwise in the order of `matrix`. Raises ExecutionError for a k
    that does not fit int64 or a ratio that is NaN, at a step with samples.
    """
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    if expr.op == "limit_ratio":
        return _limit_ratio(expr, _Choice(matrix, grouping, _no_limits(matrix)), param, annotations)
    if param.max(initial=-np.inf) < 1:
        return take_rows(matrix, ())
    choice = _Choice(matrix, grouping, _limits(matrix, param))
    budget.check_scratch(_heap_places(choice) * _BYTES_PER_PLACE)
    if expr.op == "limitk":
        return _take_first(choice)
    return _take_best(choice, smaller_first if expr.op == "topk" else larger_first)


def _heap_places(choice: _Choice) -> int:
    """The most samples that the heaps of a block can hold together."""
    deepest = int(choice.limits.max(initial=0))
    sizes = (len(groups) * min(rows.shape[1], deepest) for groups, rows in choice.grouping.blocks())
    return max(sizes, default=0) * len(choice.limits)


def _no_limits(matrix: Matrix) -> IntArray:
    return np.full(matrix.present.shape[1], len(matrix.labels), np.int64)


def _limits(matrix: Matrix, param: FloatArray) -> IntArray:
    usable = (param <= _MAX_INT64) & (param >= -(2.0**63))
    refused = np.flatnonzero(~usable & matrix.present.any(axis=0))
    if len(refused):
        value = format_g(float(param[refused[0]]))
        raise ExecutionError(f"Scalar value {value} overflows int64")
    return np.clip(np.where(usable, param, 0), 0, len(matrix.labels)).astype(np.int64)


def _take_best(choice: _Choice, less: Less) -> Matrix:
    matrix = choice.matrix
    chosen = np.zeros(matrix.present.shape, bool)
    order: dict[int, list[int]] = {}
    for groups, rows in choice.grouping.blocks():
        limits = np.minimum(choice.limits, rows.shape[1])
        if len(limits) > 1 and limits.min() >= rows.shape[1]:
            chosen[rows] = matrix.present[rows]
            continue
        heaps = StepHeaps(np.tile(limits, len(groups)), less)
        _fill_heaps(heaps, matrix, rows, matrix.present)
        _mark_chosen(heaps, len(groups), chosen)
        if len(limits) == 1:
            order.update((int(g), heaps.ordered_rows(k)) for k, g in enumerate(groups))
    return _chosen_samples(matrix, chosen, order)


def _fill_heaps(heaps: StepHeaps, matrix: Matrix, rows: IntArray, offered: BoolArray) -> None:
    """Offer the members `rows` [g, size] in their order to a heap per group and step."""
    n_steps = offered.shape[1]
    for member in rows.T:
        heaps.offer(
            np.repeat(member, n_steps), matrix.values[member].ravel(), offered[member].ravel()
        )


def _mark_chosen(heaps: StepHeaps, n_groups: int, chosen: BoolArray) -> None:
    n_steps = chosen.shape[1]
    steps = np.tile(np.arange(n_steps), n_groups)
    filled = np.arange(len(heaps.rows))[:, None] < heaps.sizes
    chosen[heaps.rows[filled], np.broadcast_to(steps, filled.shape)[filled]] = True


def _chosen_samples(matrix: Matrix, chosen: BoolArray, order: dict[int, list[int]]) -> Matrix:
    result = replace(matrix, present=chosen)
    if chosen.shape[1] == 1:
        return take_rows(result, [row for group in sorted(order) for row in order[group]])
    return result


def _take_first(choice: _Choice) -> Matrix:
    """The first k present members of each group."""
    present = choice.matrix.present
    if present.shape[1] == 1:
        return _in_heap_order(choice, present)
    chosen = np.zeros(present.shape, bool)
    for _, rows in choice.grouping.blocks():
        taken = np.zeros((len(rows), present.shape[1]), np.int64)
        for member in rows.T:
            chosen[member] = present[member] & (taken < choice.limits)
            taken += chosen[member]
    return replace(choice.matrix, present=chosen)


def _in_heap_order(choice: _Choice, offered: BoolArray) -> Matrix:
    """For one step Prometheus returns an unsorted heap: rows in the order of its array."""
    order: dict[int, list[int]] = {}
    chosen = np.zeros(offered.shape, bool)
    for groups, rows in choice.grouping.blocks():
        limits = np.minimum(choice.limits, rows.shape[1])
        heaps = StepHeaps(np.tile(limits, len(groups)), smaller_first, replacing=False)
        _fill_heaps(heaps, choice.matrix, rows, offered)
        _mark_chosen(heaps, len(groups), chosen)
        for k, group in enumerate(groups.tolist()):
            order[group] = heaps.rows[: heaps.sizes[k], k].tolist()
    return _chosen_samples(choice.matrix, chosen, order)


def _limit_ratio(
    expr: AggregateExpr, choice: _Choice, ratios: FloatArray, annotations: Annotations
) -> Matrix:
    matrix = choice.matrix
    if not ratios.any():
        return take_rows(matrix, ())
    pos = expr.pos if expr.param is None else unwrap_parens(expr.param).pos
    for extreme, bound in ((ratios.max(), 1), (ratios.min(), -1)):
        if extreme * bound > 1:
            got = format_g(float(extreme))
            text = f"ratio value should be between -1 and 1, got {got}, capping to {bound}"
            annotations.warn(text, pos)
    if (np.isnan(ratios) & matrix.present.any(axis=0)).any():
        raise ExecutionError("Ratio value NaN is NaN")
    offsets = np.array([hash_labels(row) / _MAX_UINT64 for row in matrix.labels])[:, None]
    ratios = np.clip(ratios, -1, 1)
    sampled = np.where(ratios >= 0, offsets < ratios, offsets >= 1 + ratios) & (ratios != 0)
    sampled &= matrix.present
    if len(ratios) == 1:
        return _in_heap_order(choice, sampled)
    return replace(matrix, present=sampled)


def hash_labels(labels: Labels) -> int:
    """The 64-bit hash of a label set by which `limit_ratio` chooses, as Prometheus' `Labels.Hash`.

    Prometheus hashes the bytes it stores labels in by XXH64 (seed 0): names and values in order,
    each after its length as one byte, or as 255 and three little-endian bytes.
    """
    return xxhash.xxh64_intdigest(b"".join(_with_length(part) for pair in labels for part in pair))


def _with_length(text: str) -> bytes:
    data = text.encode(errors="surrogateescape")
    size = len(data)
    return (bytes((size,)) if size < 255 else b"\xff" + size.to_bytes(3, "little")) + data
