"""The texts of annotations, and how an answer shows them."""

from collections.abc import Sequence

from promcompat.core.texts.strconv import format_g, quote
from promql.ast import PositionRange, line_col
from promql.values.matrix import Annotations

MAX_ANNOTATIONS = 10
"""The most warnings, and the most infos, in an answer; the rest is only counted."""

SORT_IN_RANGE = "sort is ineffective for range queries since results are always ordered by labels"
"""Warning: the order of a vector is lost in the answer to a range query."""
_MONOTONICITY_DOCS = (
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile"
)


def possible_non_counter(metric_name: str) -> str:
    """Info: the argument of a function for counters is not named like a counter."""
    return (
        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "
        f"{quote(metric_name)}"
    )


def invalid_quantile(quantile: float) -> str:
    """Warning: a quantile outside [0, 1], or NaN."""
    return f"quantile value should be between 0 and 1, got {format_g(quantile)}"


def bad_bucket_label(metric_name: str, le: str) -> str:
    """Warning: a bucket was left out because its `le` is not a number."""
    return _of_metric(
        f'bucket label "le" is missing or has a malformed value of {quote(le)}', metric_name
    )


def forced_monotonicity(metric_name: str) -> str:
    """Info: bucket counts fall with rising bounds by more than a rounding error."""
    return _of_metric(
        f"input to histogram_quantile needed to be fixed for monotonicity (see "
        f"{_MONOTONICITY_DOCS})",
        metric_name,
    )


def mixed_classic_native(metric_name: str) -> str:
    """Warning: a series has classic buckets and native histograms at the same time."""
    return _of_metric("vector contains a mix of classic and native histograms", metric_name)


def nan_quantile(metric_name: str) -> str:
    """Info: a quantile is among the observations of NaN."""
    return _of_metric(
        "input to histogram_quantile has NaN observations, result is NaN", metric_name
    )


def skewed_quantile(metric_name: str) -> str:
    """Info: observations of NaN count as the largest ones."""
    return _of_metric(
        "input to histogram_quantile has NaN observations, result is skewed higher", metric_name
    )


def nan_in_fraction(metric_name: str) -> str:
    """Info: observations of NaN are in no fraction."""
    return _of_metric(
        "input to histogram_fraction has NaN observations, which are excluded from all fractions",
        metric_name,
    )


def ignored_in_aggregation(op: str) -> str:
    """Info: an aggregation of floats left out histograms."""
    return f"ignored histogram in {op} aggregation"


def incompatible_types(op: str, left: str, right: str) -> str:
    """Info: an operator has no result for such samples; each is `float` or `histogram`."""
    return (
        "incompatible sample types encountered for binary operator "
        f"{quote(op)}: {left} {op} {right}"
    )


def incompatible_layout(op: str) -> str:
    """Warning: an operator has no result for exponential with custom buckets."""
    return f"incompatible bucket layout encountered for binary operator {op}"


def mixed_in_aggregation() -> str:
    """Warning: a group has floats and histograms."""
    return "encountered a mix of histograms and floats for aggregation"


def mixed_in_range(metric_name: str) -> str:
    """Warning: a window has floats and histograms."""
    return f"encountered a mix of histograms and floats for metric name {quote(metric_name)}"


def ignored_in_range(metric_name: str) -> str:
    """Info: a function of floats left out the histograms of a window."""
    return (
        "ignored histograms in a range containing both floats and histograms "
        f"for metric name {quote(metric_name)}"
    )


def mixed_schemas(metric_name: str) -> str:
    """Warning: histograms with exponential and with custom buckets cannot be added."""
    return (
        "vector contains a mix of histograms with exponential and custom buckets schemas "
        f"for metric name {quote(metric_name)}"
    )


def not_a_counter(metric_name: str) -> str:
    """Warning: a function of counters has a gauge histogram."""
    return f"this native histogram metric is not a counter: {quote(metric_name)}"


def not_a_gauge(metric_name: str) -> str:
    """Warning: a function of gauges has a counter histogram."""
    return f"this native histogram metric is not a gauge: {quote(metric_name)}"


def reset_collision(operation: str) -> str:
    """Warning: one histogram was reset, another one not; addition, subtraction or aggregation."""
    return f"conflicting counter resets during histogram {operation}"


def reconciled_bounds(operation: str) -> str:
    """Info: custom bounds differ; the result has those that all histograms have."""
    return f"mismatched custom buckets were reconciled during {operation}"


def overlapping_start(metric_name: str) -> str:
    """Warning: a counter began, as a sample says, before a sample that says otherwise."""
    return (
        "sample has start time that overlaps with previous sample timestamp for metric "
        f"{quote(metric_name)}"
    )


def _of_metric(text: str, metric_name: str) -> str:
    return f"{text} for metric name {quote(metric_name)}" if metric_name else text


def annotation_texts(
    annotations: Annotations, text: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings and infos as the API shows them, with their positions in the query `text`."""
    warnings, infos = (
        [(found + annotations.tail_of(found), pos) for found, pos in kind]
        for kind in (annotations.warnings, annotations.infos)
    )
    return _texts("warning", warnings, text), _texts("info", infos, text)


def _texts(
    kind: str, found: Sequence[tuple[str, PositionRange | None]], query: str
) -> tuple[str, ...]:
    if not found:
        return ()
    # Prometheus merges annotations with equal texts, and shows the position of the last one.
    positions = dict(found)
    texts = [
        f"PromQL {kind}: {text}" + ("" if pos is None else f" ({line_col(query, pos.start)})")
        for text, pos in positions.items()
    ]
    n_omitted = len(texts) - MAX_ANNOTATIONS
    if n_omitted > 0:
        texts[MAX_ANNOTATIONS:] = [f"{n_omitted} more {kind} annotations omitted"]
    return tuple(texts)
