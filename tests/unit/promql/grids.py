"""Windows and calls for tests of functions, made series by series in plain Python."""

from bisect import bisect_right
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
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue, Value, Windows

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


def windows(grid: Grid, series: Mapping[Labels, Series] | Sequence[Series]) -> Windows:
    """The windows of a grid over some series (with labels, or numbered)."""
    if not isinstance(series, Mapping):
        series = {Labels.of({"__name__": "x", "n": str(n)}): row for n, row in enumerate(series)}
    rows = list(series.values())
    offsets = np.cumsum([0, *(len(row) for row in rows)])
    samples = [sample for row in rows for sample in row]
    block = SampleBlock(
        tuple(series),
        np.array([t for t, _ in samples], np.int64),
        np.array([v for _, v in samples], np.float64),
        offsets,
    )
    lo = np.zeros((len(rows), len(grid.step_times_ms)), np.int64)
    hi = lo.copy()
    ends = [t - grid.offset_ms for t in grid.step_times_ms]
    for number, row in enumerate(rows):
        times = [t for t, _ in row]
        for step, end in enumerate(ends):
            lo[number, step] = offsets[number] + bisect_right(times, end - grid.range_ms)
            hi[number, step] = offsets[number] + bisect_right(times, end)
    return Windows(
        block,
        lo,
        hi,
        np.array(ends, np.int64) - grid.range_ms,
        np.array(ends, np.int64),
        grid.range_ms,
        np.zeros(len(rows), bool),
    )


def range_call(
    grid: Grid,
    series: Mapping[Labels, Series] | Sequence[Series],
    *scalars: float | Sequence[float],
    annotations: Annotations | None = None,
) -> RangeCall:
    """A call of a range function; a scalar is one number or one for each step."""
    n_steps = len(grid.step_times_ms)
    return RangeCall(
        windows(grid, series),
        tuple(np.array(np.broadcast_to(scalar, n_steps), np.float64) for scalar in scalars),
        POSITIONS,
        np.array(grid.step_times_ms, np.int64),
        annotations or Annotations(),
    )


def run_range(
    func: str,
    grid: Grid,
    series: Mapping[Labels, Series] | Sequence[Series],
    *scalars: float | Sequence[float],
    annotations: Annotations | None = None,
) -> list[list[float | None]]:
    """What a range function gives: for each series and step a number, None where it is absent."""
    call = range_call(grid, series, *scalars, annotations=annotations)
    function = FUNCTIONS[func]
    assert isinstance(function, RangeFunction)
    values, present = function.body(call)
    assert values.shape == present.shape == call.windows.lo.shape
    return _rows(values, present)


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
