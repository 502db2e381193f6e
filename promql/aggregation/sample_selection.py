"""The aggregations that select samples: `topk`, `bottomk`, `limitk` and `limit_ratio`.

They select at each step separately. The rows keep their labels, name included.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import xxhash

from promcompat.core.errors import ExecutionError
from promcompat.core.model import BoolArray, FloatArray, IntArray, Labels
from promcompat.core.texts.strconv import format_g
from promql.aggregation.grouping import Grouping, group_series
from promql.aggregation.selection_kernels import (
    FIRST_COME,
    LARGEST_FIRST,
    SMALLEST_FIRST,
    choose_samples,
)
from promql.ast import AggregateExpr, unwrap_parens
from promql.budget import QueryBudget
from promql.numbers.value_order import order_by_value
from promql.values.annotation_texts import ignored_in_aggregation
from promql.values.matrix import Annotations, Matrix
from promql.values.matrix_histograms import are_histograms, without_histograms
from promql.values.shapes import take_rows

SELECTIONS = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})

_OF_FLOATS = frozenset(("topk", "bottomk"))
_MIN_INT64, _MAX_INT64 = -(2.0**63), 9223372036854774784.0
"""Prometheus accepts the floats between these as k."""

_BYTES_PER_PLACE = 16
"""A sample in a heap: its value and row."""
_ORDERS = {"topk": SMALLEST_FIRST, "bottomk": LARGEST_FIRST, "limitk": FIRST_COME}

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
    that does not fit int64 or a ratio that is NaN.
    """
    grouping = group_series(matrix.labels, expr.grouping, expr.without)
    if expr.op == "limit_ratio":
        return _limit_ratio(
            expr, _Choice(matrix, grouping, _no_limits(matrix)), param, annotations, budget
        )
    if param.max(initial=-np.inf) < 1:
        return take_rows(matrix, ())
    limits = _limits(matrix, param)
    if expr.op in _OF_FLOATS and (found := are_histograms(matrix)) is not None:
        if np.logical_or.reduce(found[:, limits > 0], axis=None):
            annotations.info(ignored_in_aggregation(expr.op), expr.pos)
        matrix = without_histograms(matrix)
    choice = _Choice(matrix, grouping, limits)
    return _choose(choice, _ORDERS[expr.op], matrix.present, budget)


def _no_limits(matrix: Matrix) -> IntArray:
    return np.full(matrix.present.shape[1], len(matrix.labels), np.int64)


def _limits(matrix: Matrix, param: FloatArray) -> IntArray:
    if np.isnan(param).any():
        raise ExecutionError("Parameter value is NaN")
    if (least := float(param.min())) <= _MIN_INT64:
        raise ExecutionError(f"Scalar value {format_g(least)} underflows int64")
    if (greatest := float(param.max())) >= _MAX_INT64:
        raise ExecutionError(f"Scalar value {format_g(greatest)} overflows int64")
    return np.clip(param, 0, len(matrix.labels)).astype(np.int64)


def _choose(choice: _Choice, order: int, offered: BoolArray, budget: QueryBudget) -> Matrix:
    """Choose from the samples where `offered`."""
    matrix = choice.matrix
    members, starts = choice.grouping.members()
    largest = int(np.diff(starts).max(initial=0))
    n_steps = len(choice.limits)
    # The heaps of a single step are kept, because they have the order of the result.
    n_kept = len(choice.grouping.labels) if n_steps == 1 else 1
    shape = n_kept, n_steps, min(largest, int(choice.limits.max(initial=0)))
    budget.check_scratch(math.prod(shape) * _BYTES_PER_PLACE)
    sizes, heap_values = np.zeros(shape[:2], np.int64), np.empty(shape)
    heap_rows, chosen = np.empty(shape, np.int64), np.zeros(offered.shape, bool)
    choose_samples(
        order,
        _compared_values(matrix),
        np.ascontiguousarray(offered),
        members,
        starts,
        choice.limits,
        sizes,
        heap_values,
        heap_rows,
        chosen,
    )
    result = replace(matrix, present=chosen)
    if n_steps > 1:
        return result
    filled = np.arange(shape[2]) < sizes
    rows, values = heap_rows[:, 0][filled], heap_values[:, 0][filled]
    if order != FIRST_COME:
        groups = np.repeat(np.arange(n_kept), sizes[:, 0])
        rows = rows[order_by_value(values, descending=order == SMALLEST_FIRST, groups=groups)]
    return take_rows(result, rows.tolist())


def _compared_values(matrix: Matrix) -> FloatArray:
    """The values by which samples are ordered; that of a histogram is 0, as in Prometheus."""
    found = are_histograms(matrix)
    values = matrix.values if found is None else np.where(found, 0.0, matrix.values)
    return np.ascontiguousarray(values)


def _limit_ratio(
    expr: AggregateExpr,
    choice: _Choice,
    ratios: FloatArray,
    annotations: Annotations,
    budget: QueryBudget,
) -> Matrix:
    matrix = choice.matrix
    if not ratios.any():
        return take_rows(matrix, ())
    if np.isnan(ratios).any():
        raise ExecutionError("Ratio value is NaN")
    pos = expr.pos if expr.param is None else unwrap_parens(expr.param).pos
    for extreme, bound in ((ratios.max(), 1), (ratios.min(), -1)):
        if extreme * bound > 1:
            got = format_g(float(extreme))
            text = f"ratio value should be between -1 and 1, got {got}, capping to {bound}"
            annotations.warn(text, pos)
    offsets = np.array([hash_labels(row) / _MAX_UINT64 for row in matrix.labels])[:, None]
    ratios = np.clip(ratios, -1, 1)
    sampled = np.where(ratios >= 0, offsets < ratios, offsets >= 1 + ratios) & (ratios != 0)
    sampled &= matrix.present
    if len(ratios) == 1:
        return _choose(choice, FIRST_COME, sampled, budget)
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
