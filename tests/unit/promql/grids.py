"""Calls of functions for their tests, with samples and results as plain Python numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from promcompat.core.model import FloatArray, Labels, SampleBlock
from promql.ast import (
    NO_MODIFIERS,
    Expr,
    NumberLiteral,
    PositionRange,
    StringLiteral,
    VectorSelector,
)
from promql.budget import QueryBudget
from promql.functions.function_calls import InstantCall, RangeCall
from promql.functions.registry import FUNCTIONS, InstantFunction, RangeFunction
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue, Value
from promql.values.range_vectors import RangeVector

Series = Sequence[tuple[int, float]]
"""Samples of one series: (Unix ms, value), by time."""
POSITIONS = tuple(PositionRange(10 * n, 10 * n + 5) for n in range(8))


@dataclass(frozen=True)
class Grid:
    """Eval steps and the windows of `range_ms` that end `offset_ms` before each."""

    step_times_ms: Sequence[int]
    range_ms: int
    offset_ms: int = 0

    def window(self, series: Series, step: int) -> list[tuple[int, float]]:
        """The samples of the left-open, right-closed window of one step."""
        end = self.step_times_ms[step] - self.offset_ms
        return [sample for sample in series if end - self.range_ms < sample[0] <= end]


def range_vector(grid: Grid, series: Mapping[Labels, Series]) -> RangeVector:
    """The range vector of some series."""
    rows = list(series.values())
    samples = [sample for row in rows for sample in row]
    block = SampleBlock(
        tuple(series),
        np.array([t for t, _ in samples], np.int64),
        np.array([v for _, v in samples], np.float64),
        np.cumsum([0, *(len(row) for row in rows)]),
    )
    ends = np.array(grid.step_times_ms, np.int64) - grid.offset_ms
    return RangeVector.of(block, ends, grid.range_ms)


def run_range(
    func: str,
    grid: Grid,
    series: Mapping[Labels, Series] | Sequence[Series],
    *scalars: float | Sequence[float],
    annotations: Annotations | None = None,
) -> list[list[float | None]]:
    """What a range function gives: for each series and step a number, None where it is absent.

    A scalar is one number or one for each step.
    """
    if not isinstance(series, Mapping):
        series = {Labels.of({"__name__": "x", "n": str(n)}): row for n, row in enumerate(series)}
    n_steps = len(grid.step_times_ms)
    call = RangeCall(
        range_vector(grid, series),
        tuple(np.array(np.broadcast_to(scalar, n_steps), np.float64) for scalar in scalars),
        POSITIONS,
        np.array(grid.step_times_ms, np.int64),
        annotations or Annotations(),
        QueryBudget(float("inf"), 10**6),
        np.zeros(n_steps, np.int64),
    )
    function = FUNCTIONS[func]
    assert isinstance(function, RangeFunction)
    found = rows_of(function.body(call))
    assert all(any(value is not None for value in row) for row in found.values())
    return [found.get(labels, [None] * n_steps) for labels in series]


def _rows(values: FloatArray, present: np.ndarray) -> list[list[float | None]]:
    return [
        [value if is_present else None for value, is_present in zip(row, mask, strict=True)]
        for row, mask in zip(values.tolist(), present.tolist(), strict=True)
    ]


def matrix(
    rows: Mapping[Labels, Sequence[float | None]] | Sequence[Sequence[float | None]],
) -> Matrix:
    """A matrix of these rows; None is an absent sample."""
    if not isinstance(rows, Mapping):
        rows = {Labels.of({"__name__": "x", "n": str(n)}): row for n, row in enumerate(rows)}
    if not rows:
        return Matrix.empty(1)
    values = np.array([[0.0 if v is None else v for v in row] for row in rows.values()])
    present = np.array([[v is not None for v in row] for row in rows.values()], bool)
    return Matrix.of(tuple(rows), values, present)


def rows_of(value: Value) -> dict[Labels, list[float | None]]:
    """The rows of a matrix by label set; steps without a sample are None."""
    assert isinstance(value, Matrix)
    assert len(set(value.labels)) == len(value.labels)
    return dict(zip(value.labels, _rows(value.values, value.present), strict=True))


def run_instant(
    func: str,
    *args: Matrix | float | Sequence[float] | str,
    step_times_ms: Sequence[int] = (0,),
    delayed: bool = False,
    annotations: Annotations | None = None,
    exprs: Sequence[Expr] = (),
) -> Value:
    """Call an instant function; numbers become scalars, strings string arguments."""
    values: list[Value] = []
    default_exprs: list[Expr] = []
    for position, arg in zip(POSITIONS, args, strict=False):
        if isinstance(arg, Matrix):
            values.append(arg)
            default_exprs.append(VectorSelector("x", (), NO_MODIFIERS, position))
        elif isinstance(arg, str):
            values.append(StringValue(arg))
            default_exprs.append(StringLiteral(arg, position))
        else:
            grid = np.array(np.broadcast_to(arg, len(step_times_ms)), np.float64)
            values.append(ScalarGrid(grid))
            default_exprs.append(NumberLiteral(float(grid[0]), False, position))
    call = InstantCall(
        tuple(values),
        tuple(exprs or default_exprs),
        np.array(step_times_ms, np.int64),
        annotations or Annotations(),
        delayed,
        tuple(expr.pos for expr in exprs or default_exprs),
        QueryBudget(float("inf"), 10**6),
    )
    function = FUNCTIONS[func]
    assert isinstance(function, InstantFunction)
    return function.value_of(call)
