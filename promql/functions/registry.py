"""Every PromQL function as one record: its signature, its body and the facts evaluation needs.

To add a function, write its body in a module of this package and its record here.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass

import numpy as np

from promcompat.core.model import FloatArray
from promql.ast import Call, ValueType
from promql.functions import window_kernels as kernels
from promql.functions.absent_functions import absent
from promql.functions.date_functions import (
    day_of_month,
    day_of_week,
    day_of_year,
    days_in_month,
    hour,
    minute,
    month,
    time,
    timestamp,
    year,
)
from promql.functions.function_calls import InstantCall
from promql.functions.label_functions import (
    check_label_join,
    check_label_replace,
    label_join,
    label_replace,
)
from promql.functions.math_functions import (
    clamp,
    clamp_max,
    clamp_min,
    degrees,
    each_sample,
    max_of,
    min_of,
    pi,
    radians,
    round_to,
    scalar,
    sign,
    vector,
)
from promql.functions.native_histograms import (
    averages_of,
    counts_of,
    deviations_of,
    histogram_fraction,
    histogram_quantile,
    histogram_quantiles,
    of_each_histogram,
    sums_of,
    variances_of,
)
from promql.functions.sort_functions import sort, sort_by_label, sort_by_label_desc, sort_desc
from promql.functions.window_functions import (
    RangeBody,
    double_exponential_smoothing,
    increase,
    quantile_over_time,
    rate,
    window_function,
)
from promql.values.histogram_columns import HistogramColumns
from promql.values.matrix import Matrix, Value
from promql.values.name_removal import drop_names

UNLIMITED = -1
"""The `variadic` of a function whose last argument may be given any number of times."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function without a body: the evaluator computes it from the samples of a selector.

    `variadic` 0 means exactly `arg_types`; otherwise the last type may be left out, or be given up
    to `variadic` times (`UNLIMITED`: any number of times).
    `keeps_name`: the series of the result keep their metric names.
    `uses_eval_time`: the result depends on the eval time even if no argument does, so a fixed `@`
    in the arguments does not make the call the same at every step.
    `needs_whole_range`: a step cannot be computed without all others, because its value is of the
    whole query, or because two series with equal labels in the result fail the query even if they
    never share a step.
    `matches_patterns`: matching label values may take long however few the samples are.
    `is_experimental`: it needs the feature `promql-experimental-functions`.
    `check` raises ExecutionError for invalid strings; it runs before the arguments are evaluated.
    """

    name: str
    arg_types: tuple[ValueType, ...]
    _: KW_ONLY
    variadic: int = 0
    return_type: ValueType = ValueType.VECTOR
    keeps_name: bool = False
    uses_eval_time: bool = False
    needs_whole_range: bool = False
    matches_patterns: bool = False
    is_experimental: bool = False
    check: Callable[[Call], None] | None = None


@dataclass(frozen=True, slots=True)
class InstantFunction(Function):
    """A function of values on the step grid.

    Unless it `takes_histograms`, it has no result for them: the body does not see them.
    """

    body: Callable[[InstantCall], Value]
    sorts: bool = False
    _: KW_ONLY
    takes_histograms: bool = False

    def value_of(self, call: InstantCall) -> Value:
        """The value of a call, with the metric names dropped unless the function keeps them."""
        value = self.body(call if self.takes_histograms else call.without_histograms())
        if isinstance(value, Matrix) and call.args and not self.keeps_name:
            return drop_names(value, call.delayed_name_removal)
        return value


@dataclass(frozen=True, slots=True)
class RangeFunction(Function):
    """A function of windows; the evaluator drops metric names."""

    body: RangeBody


_NONE: tuple[ValueType, ...] = ()
_SCALAR = (ValueType.SCALAR,)
_STRING = (ValueType.STRING,)
_VECTOR = (ValueType.VECTOR,)
_MATRIX = (ValueType.MATRIX,)


def _histogram_statistic(
    name: str, statistic: Callable[[HistogramColumns], FloatArray]
) -> InstantFunction:
    """A function of native histograms; it removes the metric name itself."""
    return InstantFunction(
        name, _VECTOR, of_each_histogram(statistic), keeps_name=True, takes_histograms=True
    )


PRESENT_OVER_TIME = RangeFunction("present_over_time", _MATRIX, window_function(kernels.PRESENT))
"""Says where `absent_over_time` has samples too."""

_ALL: tuple[Function, ...] = (
    # Mathematics.
    InstantFunction("abs", _VECTOR, each_sample(np.abs)),
    InstantFunction("acos", _VECTOR, each_sample(np.arccos)),
    InstantFunction("acosh", _VECTOR, each_sample(np.arccosh)),
    InstantFunction("asin", _VECTOR, each_sample(np.arcsin)),
    InstantFunction("asinh", _VECTOR, each_sample(np.arcsinh)),
    InstantFunction("atan", _VECTOR, each_sample(np.arctan)),
    InstantFunction("atanh", _VECTOR, each_sample(np.arctanh)),
    InstantFunction("ceil", _VECTOR, each_sample(np.ceil)),
    InstantFunction("clamp", _VECTOR + 2 * _SCALAR, clamp),
    InstantFunction("clamp_max", _VECTOR + _SCALAR, clamp_max),
    InstantFunction("clamp_min", _VECTOR + _SCALAR, clamp_min),
    InstantFunction("cos", _VECTOR, each_sample(np.cos)),
    InstantFunction("cosh", _VECTOR, each_sample(np.cosh)),
    InstantFunction("deg", _VECTOR, each_sample(degrees)),
    InstantFunction("exp", _VECTOR, each_sample(np.exp)),
    InstantFunction("floor", _VECTOR, each_sample(np.floor)),
    InstantFunction("ln", _VECTOR, each_sample(np.log)),
    InstantFunction("log10", _VECTOR, each_sample(np.log10)),
    InstantFunction("log2", _VECTOR, each_sample(np.log2)),
    InstantFunction(
        "max_of", 2 * _SCALAR, max_of, return_type=ValueType.SCALAR, is_experimental=True
    ),
    InstantFunction(
        "min_of", 2 * _SCALAR, min_of, return_type=ValueType.SCALAR, is_experimental=True
    ),
    InstantFunction("pi", _NONE, pi, return_type=ValueType.SCALAR),
    InstantFunction("rad", _VECTOR, each_sample(radians)),
    InstantFunction("round", _VECTOR + _SCALAR, round_to, variadic=1),
    InstantFunction("scalar", _VECTOR, scalar, return_type=ValueType.SCALAR),
    InstantFunction("sgn", _VECTOR, each_sample(sign)),
    InstantFunction("sin", _VECTOR, each_sample(np.sin)),
    InstantFunction("sinh", _VECTOR, each_sample(np.sinh)),
    InstantFunction("sqrt", _VECTOR, each_sample(np.sqrt)),
    InstantFunction("tan", _VECTOR, each_sample(np.tan)),
    InstantFunction("tanh", _VECTOR, each_sample(np.tanh)),
    InstantFunction("vector", _SCALAR, vector, keeps_name=True),
    # Times and dates.
    InstantFunction("day_of_month", _VECTOR, day_of_month, variadic=1, uses_eval_time=True),
    InstantFunction("day_of_week", _VECTOR, day_of_week, variadic=1, uses_eval_time=True),
    InstantFunction("day_of_year", _VECTOR, day_of_year, variadic=1, uses_eval_time=True),
    InstantFunction("days_in_month", _VECTOR, days_in_month, variadic=1, uses_eval_time=True),
    InstantFunction("hour", _VECTOR, hour, variadic=1, uses_eval_time=True),
    InstantFunction("minute", _VECTOR, minute, variadic=1, uses_eval_time=True),
    InstantFunction("month", _VECTOR, month, variadic=1, uses_eval_time=True),
    InstantFunction("time", _NONE, time, return_type=ValueType.SCALAR, uses_eval_time=True),
    # The evaluator computes it from a selector; of other expressions it has no result.
    Function("start_timestamp", _VECTOR, is_experimental=True),
    InstantFunction("timestamp", _VECTOR, timestamp, uses_eval_time=True, takes_histograms=True),
    InstantFunction("year", _VECTOR, year, variadic=1, uses_eval_time=True),
    # The planner replaces these by numbers.
    *(
        Function(
            name,
            _NONE,
            return_type=ValueType.SCALAR,
            needs_whole_range=True,
            is_experimental=True,
        )
        for name in ("start", "end", "range", "step")
    ),
    # Histograms.
    _histogram_statistic("histogram_avg", averages_of),
    _histogram_statistic("histogram_count", counts_of),
    InstantFunction(
        "histogram_fraction", 2 * _SCALAR + _VECTOR, histogram_fraction, takes_histograms=True
    ),
    InstantFunction(
        "histogram_quantile", _SCALAR + _VECTOR, histogram_quantile, takes_histograms=True
    ),
    InstantFunction(
        "histogram_quantiles",
        _VECTOR + _STRING + 2 * _SCALAR,
        histogram_quantiles,
        variadic=9,
        takes_histograms=True,
        is_experimental=True,
    ),
    _histogram_statistic("histogram_stddev", deviations_of),
    _histogram_statistic("histogram_stdvar", variances_of),
    _histogram_statistic("histogram_sum", sums_of),
    # Labels and the order of series.
    Function(
        "info",
        2 * _VECTOR,
        variadic=1,
        keeps_name=True,
        needs_whole_range=True,
        matches_patterns=True,
        is_experimental=True,
    ),
    InstantFunction(
        "label_join",
        _VECTOR + 3 * _STRING,
        label_join,
        takes_histograms=True,
        variadic=UNLIMITED,
        keeps_name=True,
        needs_whole_range=True,
        check=check_label_join,
    ),
    InstantFunction(
        "label_replace",
        _VECTOR + 4 * _STRING,
        label_replace,
        takes_histograms=True,
        keeps_name=True,
        needs_whole_range=True,
        matches_patterns=True,
        check=check_label_replace,
    ),
    InstantFunction("sort", _VECTOR, sort, sorts=True, keeps_name=True),
    InstantFunction(
        "sort_by_label",
        _VECTOR + _STRING,
        sort_by_label,
        takes_histograms=True,
        variadic=UNLIMITED,
        keeps_name=True,
        is_experimental=True,
        sorts=True,
    ),
    InstantFunction(
        "sort_by_label_desc",
        _VECTOR + _STRING,
        sort_by_label_desc,
        takes_histograms=True,
        variadic=UNLIMITED,
        keeps_name=True,
        is_experimental=True,
        sorts=True,
    ),
    InstantFunction("sort_desc", _VECTOR, sort_desc, sorts=True, keeps_name=True),
    # Absence. The labels of the result are those of the selector, without the name.
    InstantFunction("absent", _VECTOR, absent, keeps_name=True, takes_histograms=True),
    Function("absent_over_time", _MATRIX, keeps_name=True),
    # Counters and trends.
    RangeFunction("changes", _MATRIX, window_function(kernels.CHANGES)),
    RangeFunction("delta", _MATRIX, window_function(kernels.DELTA)),
    RangeFunction("deriv", _MATRIX, window_function(kernels.DERIV)),
    RangeFunction(
        "double_exponential_smoothing",
        _MATRIX + 2 * _SCALAR,
        double_exponential_smoothing,
        is_experimental=True,
    ),
    RangeFunction("idelta", _MATRIX, window_function(kernels.IDELTA)),
    RangeFunction("increase", _MATRIX, increase),
    RangeFunction("irate", _MATRIX, window_function(kernels.IRATE)),
    RangeFunction(
        "predict_linear",
        _MATRIX + _SCALAR,
        window_function(kernels.PREDICT_LINEAR),
        uses_eval_time=True,
    ),
    RangeFunction("rate", _MATRIX, rate),
    RangeFunction("resets", _MATRIX, window_function(kernels.RESETS)),
    # Windows of samples.
    RangeFunction("avg_over_time", _MATRIX, window_function(kernels.AVG)),
    RangeFunction("count_over_time", _MATRIX, window_function(kernels.COUNT)),
    RangeFunction("first_over_time", _MATRIX, window_function(kernels.FIRST), keeps_name=True),
    RangeFunction("last_over_time", _MATRIX, window_function(kernels.LAST), keeps_name=True),
    RangeFunction(
        "mad_over_time", _MATRIX, window_function(kernels.MEDIAN_DISTANCE), is_experimental=True
    ),
    RangeFunction("max_over_time", _MATRIX, window_function(kernels.MAX)),
    RangeFunction("min_over_time", _MATRIX, window_function(kernels.MIN)),
    PRESENT_OVER_TIME,
    RangeFunction("quantile_over_time", _SCALAR + _MATRIX, quantile_over_time),
    RangeFunction("stddev_over_time", _MATRIX, window_function(kernels.DEVIATION)),
    RangeFunction("stdvar_over_time", _MATRIX, window_function(kernels.VARIANCE)),
    RangeFunction("sum_over_time", _MATRIX, window_function(kernels.SUM)),
    RangeFunction(
        "ts_of_first_over_time",
        _MATRIX,
        window_function(kernels.TIME_OF_FIRST),
        is_experimental=True,
    ),
    RangeFunction(
        "ts_of_last_over_time", _MATRIX, window_function(kernels.TIME_OF_LAST), is_experimental=True
    ),
    RangeFunction(
        "ts_of_max_over_time", _MATRIX, window_function(kernels.TIME_OF_MAX), is_experimental=True
    ),
    RangeFunction(
        "ts_of_min_over_time", _MATRIX, window_function(kernels.TIME_OF_MIN), is_experimental=True
    ),
)

FUNCTIONS: Mapping[str, Function] = {function.name: function for function in _ALL}
