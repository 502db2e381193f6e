"""The texts of annotations, and how an answer shows them."""

from collections.abc import Sequence

from promcompat.core.strconv import format_g, quote
from promql.ast import PositionRange, line_col
from promql.values.matrix import Annotations

MAX_ANNOTATIONS = 10
"""The most warnings, and the most infos, in an answer; the rest is only counted."""

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
    return (
        f'bucket label "le" is missing or has a malformed value of {quote(le)} '
        f"for metric name {quote(metric_name)}"
    )


def forced_monotonicity(metric_name: str) -> str:
    """Info: bucket counts fall with rising bounds by more than a rounding error."""
    return (
        f"input to histogram_quantile needed to be fixed for monotonicity (see "
        f"{_MONOTONICITY_DOCS}) for metric name {quote(metric_name)}"
    )


def annotation_texts(
    annotations: Annotations, text: str, limit: int = MAX_ANNOTATIONS
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Warnings and infos as the API shows them, with their positions in the query `text`."""
    warnings = _texts("warning", annotations.warnings, text, limit)
    return warnings, _texts("info", annotations.infos, text, limit)


def _texts(
    kind: str, found: Sequence[tuple[str, PositionRange | None]], query: str, limit: int
) -> tuple[str, ...]:
    # Prometheus merges annotations with equal texts, and shows the position of the last one.
    positions = dict(found)
    texts = [
        f"PromQL {kind}: {text}" + ("" if pos is None else f" ({line_col(query, pos.start)})")
        for text, pos in positions.items()
    ]
    if len(texts) > limit:
        texts[limit:] = [f"{len(texts) - limit} more {kind} annotations omitted"]
    return tuple(texts)
