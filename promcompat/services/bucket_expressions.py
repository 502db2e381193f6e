"""From an aggregation to PromQL: the native API computes buckets with the query engine."""

import json
from collections.abc import Sequence
from typing import assert_never

from promcompat.core.definitions import Aggregation, MetricType
from promcompat.core.durations import format_duration_ms
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.native_queries import BucketQuery

_DEFAULT_OF_TYPE = {
    MetricType.GAUGE: Aggregation.AVG,
    MetricType.COUNTER: Aggregation.RATE,
    MetricType.HISTOGRAM: Aggregation.P95,
    MetricType.SUMMARY: Aggregation.AVG,
}
_QUANTILES = {Aggregation.P50: "0.5", Aggregation.P95: "0.95", Aggregation.P99: "0.99"}


def default_aggregation(metric_type: MetricType) -> Aggregation:
    """What a bucket shows of a metric when nobody says: gauge avg, counter rate, …"""
    return _DEFAULT_OF_TYPE[metric_type]


def percentile_of(aggregation: Aggregation) -> float | None:
    """The percentile an aggregation asks for, if it asks for one."""
    text = _QUANTILES.get(aggregation)
    return None if text is None else float(text) * 100


def selector_text(name: str, matchers: Sequence[LabelMatcher], suffix: str = "") -> str:
    """A series selector, everything quoted, so that any UTF-8 name is one."""
    terms = [_quote(name + suffix)]
    terms += [f"{_quote(one.name)}{one.op.value}{_quote(one.value)}" for one in matchers]
    return "{" + ",".join(terms) + "}"


def bucket_expression(query: BucketQuery, metric_type: MetricType, aggregation: Aggregation) -> str:
    """The expression whose value at the end of a bucket is the bucket's.

    Raises BadDataError for what a classic histogram has no answer to.
    """
    if metric_type is MetricType.HISTOGRAM:
        return _histogram_expression(query, aggregation)
    if metric_type is MetricType.SUMMARY and aggregation is Aggregation.AVG:
        mean = _mean_of_observations(query)
        return f"{mean} or {_sample_expression(query, aggregation)}"
    return _sample_expression(query, aggregation)


def _sample_expression(query: BucketQuery, aggregation: Aggregation) -> str:
    window = _window(query)
    match aggregation:
        case Aggregation.AVG:
            if query.group_by is None:
                return f"avg_over_time({window})"
            # The mean of the samples: that of the series' means would weigh them wrongly.
            total = _grouped("sum", query, f"sum_over_time({window})")
            count = _grouped("sum", query, f"count_over_time({window})")
            return f"{total} / {count}"
        case Aggregation.SUM | Aggregation.COUNT:
            return _grouped("sum", query, f"{aggregation.value}_over_time({window})")
        case Aggregation.MIN | Aggregation.MAX:
            return _grouped(aggregation.value, query, f"{aggregation.value}_over_time({window})")
        case Aggregation.LAST:
            return _grouped("sum", query, f"last_over_time({window})")
        case Aggregation.RATE:
            return _grouped("sum", query, f"rate({window})")
        case Aggregation.P50 | Aggregation.P95 | Aggregation.P99:
            return f"quantile_over_time({_QUANTILES[aggregation]}, {window})"
        case _:
            assert_never(aggregation)


def _histogram_expression(query: BucketQuery, aggregation: Aggregation) -> str:
    """Of a classic histogram: its `_bucket`, `_sum` and `_count` series."""
    match aggregation:
        case Aggregation.P50 | Aggregation.P95 | Aggregation.P99:
            rates = f"rate({_window(query, '_bucket')})"
            if query.group_by is not None:
                labels = ", ".join(_quote(name) for name in (*query.group_by, "le"))
                rates = f"sum by ({labels}) ({rates})"
            return f"histogram_quantile({_QUANTILES[aggregation]}, {rates})"
        case Aggregation.AVG:
            return _mean_of_observations(query)
        case Aggregation.SUM:
            return _grouped("sum", query, f"increase({_window(query, '_sum')})")
        case Aggregation.COUNT:
            return _grouped("sum", query, f"increase({_window(query, '_count')})")
        case Aggregation.RATE:
            return _grouped("sum", query, f"rate({_window(query, '_count')})")
        case Aggregation.MIN | Aggregation.MAX | Aggregation.LAST:
            raise BadDataError(
                f"a histogram has no {aggregation.value}: ask for a percentile, avg, sum, count or "
                "rate"
            )
        case _:
            assert_never(aggregation)


def _mean_of_observations(query: BucketQuery) -> str:
    total = _grouped("sum", query, f"rate({_window(query, '_sum')})")
    count = _grouped("sum", query, f"rate({_window(query, '_count')})")
    return f"{total} / {count}"


def _grouped(operator: str, query: BucketQuery, expression: str) -> str:
    if query.group_by is None:
        return expression
    labels = ", ".join(_quote(name) for name in query.group_by)
    return f"{operator} by ({labels}) ({expression})"


def _window(query: BucketQuery, suffix: str = "") -> str:
    selector = selector_text(query.name, query.matchers, suffix)
    return f"{selector}[{format_duration_ms(query.bucket_ms)}]"


def _quote(text: str) -> str:
    """A PromQL string: JSON escapes are Go's, but for surrogate pairs, which are not used here."""
    return json.dumps(text, ensure_ascii=False)
