"""`absent` and `absent_over_time`: one series that says where there are no samples."""

from collections.abc import Sequence

import numpy as np

from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import EMPTY_LABELS, METRIC_NAME, BoolArray, Labels
from promql.ast import Expr, MatrixSelector, VectorSelector, unwrap_parens
from promql.functions.function_calls import InstantCall
from promql.values.matrix import Matrix, Value


def absent(call: InstantCall) -> Value:
    """`absent(v)`: 1 at every step without any sample."""
    has_sample: BoolArray = np.logical_or.reduce(call.matrix(0).present, axis=0)
    return absence(has_sample, call.arg_exprs[0])


def absence(has_sample: BoolArray, expr: Expr) -> Matrix:
    """The value 1 at every step where no series of `expr` has a sample.

    `has_sample` bool [n_steps] is where one has; `expr` is an instant or range vector.
    """
    if has_sample.all():
        return Matrix.empty(len(has_sample))
    labels = absent_labels(expr)
    return Matrix.of((labels,), np.ones((1, len(has_sample))), ~has_sample[None, :])


def absent_labels(expr: Expr) -> Labels:
    """The labels of what `absent` and `absent_over_time` return for this argument.

    These are the labels that a selector matches by equality, without the metric name. A label that
    it matches a second time, or later in another way, is left out. Other expressions have none.
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
    """In the order Prometheus' index uses them: matchers that only exclude series come last."""
    required = {matcher.name for matcher in matchers if not matcher.matches_empty()}

    def excludes(matcher: LabelMatcher) -> bool:
        negative = matcher.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX)
        return matcher.name not in required or (negative and matcher.matches_empty())

    return sorted(matchers, key=excludes)
