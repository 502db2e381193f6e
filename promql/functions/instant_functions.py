"""The functions that take no range vector, by name: each works on a whole step grid at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EMPTY_LABELS, METRIC_NAME, BoolArray, Labels
from promql.ast import Expr, MatrixSelector, VectorSelector, unwrap_parens
from promql.functions.classic_histograms import histogram_fraction, histogram_quantile
from promql.functions.date_functions import DATE_FUNCTIONS, date_part
from promql.functions.function_calls import InstantCall
from promql.functions.label_functions import label_join, label_replace
from promql.functions.math_functions import (
    SAMPLE_FUNCTIONS,
    apply_to_samples,
    clamp,
    clamp_max,
    clamp_min,
    round_to,
)
from promql.functions.sort_functions import sort, sort_by_label, sort_by_label_desc, sort_desc
from promql.values.matrix import Matrix, ScalarGrid, Value
from promql.values.name_removal import drop_names

__all__ = ["INSTANT_FUNCTIONS", "InstantCall", "absent_labels"]

InstantFunction = Callable[[InstantCall], Value]


def absent_labels(expr: Expr) -> Labels:
    """The labels of what `absent` and `absent_over_time` return for this argument.

    They are what a selector matches by equality, less the metric name; a label the selector
    matches more than once, or afterwards in another way, is left out. Other expressions give none.
    """
    match unwrap_parens(expr):
        case MatrixSelector(vector_selector=selector) | (VectorSelector() as selector):
            return _equality_labels(selector)
        case _:
            return EMPTY_LABELS


def _equality_labels(selector: VectorSelector) -> Labels:
    found: dict[str, str] = {}
    equal_seen: set[str] = set()
    for matcher in _in_order_of_use(selector.matchers):
        if matcher.name == METRIC_NAME:
            continue
        if matcher.op is MatchOp.EQUAL and matcher.name not in equal_seen:
            found[matcher.name] = matcher.value
            equal_seen.add(matcher.name)
        else:
            found.pop(matcher.name, None)
    return Labels.of(found)


def _in_order_of_use(matchers: Sequence[LabelMatcher]) -> list[LabelMatcher]:
    """As Prometheus' index leaves them in the query: those that only exclude series come last."""
    required = {matcher.name for matcher in matchers if not matcher.matches_empty()}

    def excludes(matcher: LabelMatcher) -> bool:
        negative = matcher.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX)
        return matcher.name not in required or (negative and matcher.matches_empty())

    return sorted(matchers, key=excludes)


def _absent(call: InstantCall) -> Value:
    absent: BoolArray = ~np.logical_or.reduce(call.matrix(0).present, axis=0)
    if not absent.any():
        return Matrix.empty(call.n_steps)
    labels = absent_labels(call.arg_exprs[0])
    return Matrix.of((labels,), np.ones((1, call.n_steps)), absent[None, :])


def _time(call: InstantCall) -> Value:
    return ScalarGrid(call.timestamps / 1000)


def _vector(call: InstantCall) -> Value:
    values = call.scalar(0)[None, :]
    return Matrix.of((EMPTY_LABELS,), values, np.ones(values.shape, bool))


def _scalar(call: InstantCall) -> Value:
    matrix = call.floats(0)
    values = np.full(call.n_steps, np.nan)
    alone = matrix.present.sum(axis=0) == 1
    rows = matrix.present[:, alone].argmax(axis=0) if alone.any() else np.empty(0, np.intp)
    values[alone] = matrix.values[rows, np.flatnonzero(alone)]
    return ScalarGrid(values)


def _pi(call: InstantCall) -> Value:
    return ScalarGrid(np.full(call.n_steps, np.pi))


def _timestamp(call: InstantCall) -> Value:
    """The eval time of each sample; of a plain selector the evaluator knows the samples' own."""
    matrix = call.matrix(0)
    values = np.broadcast_to(call.timestamps / 1000, matrix.values.shape)
    stamped = replace(matrix, values=values, histograms=None)
    return drop_names(stamped, call.delayed_name_removal)


def _of_native_histograms(call: InstantCall) -> Value:
    """Functions of native histograms skip floats, and no other samples are stored yet."""
    return Matrix.empty(call.n_steps)


INSTANT_FUNCTIONS: Mapping[str, InstantFunction] = {
    "absent": _absent,
    "clamp": clamp,
    "clamp_max": clamp_max,
    "clamp_min": clamp_min,
    "histogram_avg": _of_native_histograms,
    "histogram_count": _of_native_histograms,
    "histogram_fraction": histogram_fraction,
    "histogram_quantile": histogram_quantile,
    "histogram_stddev": _of_native_histograms,
    "histogram_stdvar": _of_native_histograms,
    "histogram_sum": _of_native_histograms,
    "label_join": label_join,
    "label_replace": label_replace,
    "pi": _pi,
    "round": round_to,
    "scalar": _scalar,
    "sort": sort,
    "sort_by_label": sort_by_label,
    "sort_by_label_desc": sort_by_label_desc,
    "sort_desc": sort_desc,
    "time": _time,
    "timestamp": _timestamp,
    "vector": _vector,
    **dict.fromkeys(DATE_FUNCTIONS, date_part),
    **dict.fromkeys(SAMPLE_FUNCTIONS, apply_to_samples),
}
"""Each returns the finished value; metric names are dropped already where the function does so."""
