"""The functions of range vectors: what they do besides the work of their kernel."""

from collections.abc import Callable, Sequence

from promcompat.core.model import METRIC_NAME, Labels, LabelSets
from promql.functions.function_calls import RangeCall
from promql.functions.histogram_windows import reduce_samples
from promql.functions.window_kernels import INCREASE, QUANTILE, RATE, SMOOTHING
from promql.values.annotation_texts import invalid_quantile, possible_non_counter
from promql.values.label_columns import Pair, label_pairs
from promql.values.matrix import Matrix
from promql.values.matrix_histograms import without_histograms
from promql.values.shapes import without_empty_rows

RangeBody = Callable[[RangeCall], Matrix]
"""Returns the series that have a value at any step; the evaluator drops metric names."""

_COUNTER_SUFFIXES = ("_total", "_sum", "_count", "_bucket")


def window_function(operation: int) -> RangeBody:
    """The function that is an operation of `window_kernels` and nothing else."""

    def body(call: RangeCall) -> Matrix:
        return reduce_samples(operation, call)

    return body


def rate(call: RangeCall) -> Matrix:
    """The per-second increase of a counter."""
    return annotated_non_counters(call, reduce_samples(RATE, call))


def increase(call: RangeCall) -> Matrix:
    """The increase of a counter over the window."""
    return annotated_non_counters(call, reduce_samples(INCREASE, call))


def annotated_non_counters(call: RangeCall, result: Matrix) -> Matrix:
    """The result; adds an info for every metric of floats whose name is not that of a counter."""
    floats = without_empty_rows(without_histograms(result))
    for pair in _metric_names(floats.labels):
        if pair is not None and not pair[1].endswith(_COUNTER_SUFFIXES):
            call.annotations.info(possible_non_counter(pair[1]), call.arg_positions[0])
    return result


def _metric_names(labels: Sequence[Labels]) -> Sequence[Pair | None]:
    """The different pairs of the metric name, in their order."""

    def find() -> Sequence[Pair | None]:
        return tuple(dict.fromkeys(label_pairs(labels, METRIC_NAME)))

    return labels.kept("metric names", find) if isinstance(labels, LabelSets) else find()


def quantile_over_time(call: RangeCall) -> Matrix:
    """The quantile of each window; the first argument may change it from step to step."""
    result = reduce_samples(QUANTILE, call)
    quantiles = call.scalars[0]
    outside = ~((quantiles >= 0) & (quantiles <= 1)) & result.present.any(axis=0)
    for quantile in dict.fromkeys(quantiles[outside].tolist()):
        call.annotations.warn(invalid_quantile(quantile), call.arg_positions[0])
    return result


def double_exponential_smoothing(call: RangeCall) -> Matrix:
    """The smoothed value at the end of each window of at least two samples.

    Raises ExecutionError if the factors of a window are not between 0 and 1.
    """
    return reduce_samples(SMOOTHING, call)
