"""The texts of the annotations functions make, less their `PromQL warning: ` or `PromQL info: `."""

from promql.numbers.go_floats import format_g
from promql.parsing.literals import quote

_MONOTONICITY_DOCS = (
    "https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile"
)


def possible_non_counter(metric_name: str) -> str:
    """Info: a function for counters got a metric not named like one."""
    return (
        "metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "
        f"{quote(metric_name)}"
    )


def invalid_quantile(quantile: float) -> str:
    """Warning: a quantile outside [0, 1], or NaN."""
    return f"quantile value should be between 0 and 1, got {format_g(quantile)}"


def bad_bucket_label(metric_name: str, le: str) -> str:
    """Warning: a bucket whose `le` is no number; the bucket was left out."""
    return (
        f'bucket label "le" is missing or has a malformed value of {quote(le)} '
        f"for metric name {quote(metric_name)}"
    )


def forced_monotonicity(metric_name: str) -> str:
    """Info: bucket counts fell with rising bounds by more than rounding explains."""
    return (
        f"input to histogram_quantile needed to be fixed for monotonicity (see "
        f"{_MONOTONICITY_DOCS}) for metric name {quote(metric_name)}"
    )
