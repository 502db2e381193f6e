"""What the body of a function receives: its arguments over the whole step grid at once."""

from dataclasses import dataclass, replace
from typing import TypeVar

from promcompat.core.model import METRIC_NAME, FloatArray, IntArray, Labels
from promql.ast import Expr, PositionRange
from promql.budget import QueryBudget
from promql.values.matrix import Annotations, Matrix, ScalarGrid, StringValue, Value
from promql.values.matrix_histograms import without_histograms
from promql.values.range_vectors import RangeVector


@dataclass(frozen=True, slots=True)
class RangeCall:
    """One call of a function that takes a range vector.

    `scalars` are the scalar arguments in argument order, each float64 [n_steps].
    `arg_positions` are the positions of all arguments, for annotations. `timestamps` int64 ms
    [n_steps] are the eval times, which offsets and `@` do not move. The function adds the number of
    samples that it reads at each step to `samples_per_step`, int64 [n_steps].
    """

    vector: RangeVector
    scalars: tuple[FloatArray, ...]
    arg_positions: tuple[PositionRange, ...]
    timestamps: IntArray
    annotations: Annotations
    budget: QueryBudget
    samples_per_step: IntArray


_ValueT = TypeVar("_ValueT", Matrix, ScalarGrid, StringValue)


@dataclass(frozen=True, slots=True)
class InstantCall:
    """One call of a function that takes no range vector.

    `args` are the values of `arg_exprs`; `arg_positions` are their positions, for annotations.
    """

    args: tuple[Value, ...]
    arg_exprs: tuple[Expr, ...]
    timestamps: IntArray
    annotations: Annotations
    delayed_name_removal: bool
    arg_positions: tuple[PositionRange, ...]
    budget: QueryBudget

    @property
    def n_steps(self) -> int:
        """The number of eval steps."""
        return len(self.timestamps)

    def without_histograms(self) -> "InstantCall":
        """The call with the floats of its arguments only."""
        if all(not isinstance(arg, Matrix) or arg.histograms is None for arg in self.args):
            return self
        args = (without_histograms(arg) if isinstance(arg, Matrix) else arg for arg in self.args)
        return replace(self, args=tuple(args))

    def _arg(self, index: int, kind: type[_ValueT]) -> _ValueT:
        value = self.args[index]
        # The type checker refuses queries with an argument of another type.
        if not isinstance(value, kind):
            raise TypeError(f"argument {index} is not a {kind.__name__}")
        return value

    def matrix(self, index: int) -> Matrix:
        """The instant vector argument at `index`."""
        return self._arg(index, Matrix)

    def scalar(self, index: int) -> FloatArray:
        """The scalar argument at `index`, float64 [n_steps]."""
        return self._arg(index, ScalarGrid).values

    def string(self, index: int) -> str:
        """The string argument at `index`."""
        return self._arg(index, StringValue).value

    def shown_name(self, labels: Labels) -> str:
        """The metric name of a series that annotations show.

        As in Prometheus, that is none unless name removal is delayed.
        """
        return labels.get(METRIC_NAME) if self.delayed_name_removal else ""
