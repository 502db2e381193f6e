"""The functions, aggregations and operators of PromQL 3.5 and their types.

Experimental ones are always enabled: Prometheus hides them behind a flag because they may change,
which is no reason to refuse a query here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from promql.ast import ValueType
from promql.parsing.lexer import AGGREGATORS

UNLIMITED = -1
"""The `variadic` of a function whose last argument may be given any number of times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function's signature.

    `variadic` 0 means exactly `arg_types`; otherwise the last type may be left out or be given up
    to `variadic` times (`UNLIMITED`: any number of times).
    """

    name: str
    arg_types: tuple[ValueType, ...]
    variadic: int = 0
    return_type: ValueType = ValueType.VECTOR
    experimental: bool = False


_SCALAR = ValueType.SCALAR
_STRING = ValueType.STRING
_VECTOR = ValueType.VECTOR
_MATRIX = ValueType.MATRIX

_OF_VECTOR = [
    "abs",
    "absent",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "cos",
    "cosh",
    "deg",
    "exp",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "ln",
    "log10",
    "log2",
    "rad",
    "sgn",
    "sin",
    "sinh",
    "sort",
    "sort_desc",
    "sqrt",
    "tan",
    "tanh",
    "timestamp",
]
_OF_OPTIONAL_VECTOR = [
    "days_in_month",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "hour",
    "minute",
    "month",
    "year",
]
_OF_MATRIX = [
    "absent_over_time",
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "deriv",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "max_over_time",
    "min_over_time",
    "present_over_time",
    "rate",
    "resets",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
]
_EXPERIMENTAL_OF_MATRIX = [
    "mad_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
]


def _signatures() -> Iterator[Function]:
    for name in _OF_VECTOR:
        yield Function(name=name, arg_types=(_VECTOR,))
    for name in _OF_OPTIONAL_VECTOR:
        yield Function(name=name, arg_types=(_VECTOR,), variadic=1)
    for name in _OF_MATRIX:
        yield Function(name=name, arg_types=(_MATRIX,))
    for name in _EXPERIMENTAL_OF_MATRIX:
        yield Function(name=name, arg_types=(_MATRIX,), experimental=True)
    for name in ("sort_by_label", "sort_by_label_desc"):
        yield Function(
            name=name, arg_types=(_VECTOR, _STRING), variadic=UNLIMITED, experimental=True
        )
    yield Function(name="clamp", arg_types=(_VECTOR, _SCALAR, _SCALAR))
    yield Function(name="clamp_max", arg_types=(_VECTOR, _SCALAR))
    yield Function(name="clamp_min", arg_types=(_VECTOR, _SCALAR))
    yield Function(
        name="double_exponential_smoothing",
        arg_types=(_MATRIX, _SCALAR, _SCALAR),
        experimental=True,
    )
    yield Function(name="histogram_fraction", arg_types=(_SCALAR, _SCALAR, _VECTOR))
    yield Function(name="histogram_quantile", arg_types=(_SCALAR, _VECTOR))
    yield Function(name="info", arg_types=(_VECTOR, _VECTOR), variadic=1, experimental=True)
    yield Function(
        name="label_join", arg_types=(_VECTOR, _STRING, _STRING, _STRING), variadic=UNLIMITED
    )
    yield Function(name="label_replace", arg_types=(_VECTOR, _STRING, _STRING, _STRING, _STRING))
    yield Function(name="pi", arg_types=(), return_type=_SCALAR)
    yield Function(name="predict_linear", arg_types=(_MATRIX, _SCALAR))
    yield Function(name="quantile_over_time", arg_types=(_SCALAR, _MATRIX))
    yield Function(name="round", arg_types=(_VECTOR, _SCALAR), variadic=1)
    yield Function(name="scalar", arg_types=(_VECTOR,), return_type=_SCALAR)
    yield Function(name="time", arg_types=(), return_type=_SCALAR)
    yield Function(name="vector", arg_types=(_SCALAR,))


FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {function.name: function for function in _signatures()}
)

AGGREGATIONS = frozenset(AGGREGATORS)

AGGREGATION_PARAM_TYPES: Mapping[str, ValueType] = MappingProxyType(
    {
        "bottomk": _SCALAR,
        "count_values": _STRING,
        "limit_ratio": _SCALAR,
        "limitk": _SCALAR,
        "quantile": _SCALAR,
        "topk": _SCALAR,
    }
)
"""The aggregations that take a parameter, and its type."""

EXPERIMENTAL_AGGREGATIONS = frozenset(("limitk", "limit_ratio"))

SET_OPERATORS = frozenset(("and", "or", "unless"))
COMPARISON_OPERATORS = frozenset(("==", "!=", "<", "<=", ">", ">="))
