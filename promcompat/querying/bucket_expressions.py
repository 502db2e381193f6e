"""PromQL for an aggregation: the native API computes buckets with the query engine."""

from collections.abc import Sequence
from typing import assert_never

from promcompat.core.definitions import Aggregation
from promcompat.core.errors import BadDataError
from promcompat.core.matchers import LabelMatcher
from promcompat.core.native_queries import BucketQuery
from promcompat.core.texts.durations import format_duration_ms
from promcompat.querying.metric_kinds import MetricShape
from promql.parsing.literals import quote_literal

_PERCENTILE_OF = {Aggregation.P50: 50.0, Aggregation.P95: 95.0, Aggregation.P99: 99.0}

Statistic = Aggregation | float
"""The value of a bucket: an aggregation other than percentiles, or a percentile from 0 to 100."""


def statistics_of(aggregation: Aggregation, percentiles: Sequence[float]) -> dict[str, Statistic]:
    """What to compute for each bucket, by its name in the answer."""
    if aggregation is Aggregation.PERCENTILE:
        return {percentile_name(percentile): percentile for percentile in percentiles}
    return {"value": _PERCENTILE_OF.get(aggregation, aggregation)}


def percentile_name(percentile: float) -> str:
    """`p95`, `p99.9`, `p0.00001`: a parameter has six decimals at most."""
    return f"p{percentile:.6f}".rstrip("0").rstrip(".")


def quantile_text(percentile: float) -> str:
    """A percentile as PromQL and the label `quantile` write it: `0.95`."""
    return f"{percentile / 100:.10g}"


def _matching_quantile(percentile: float) -> str:
    """What matches the label `quantile` of a percentile, with its operator.

    Prometheus 3 and OpenMetrics write whole numbers as `1.0`.
    """
    text = quantile_text(percentile)
    return f'=~"{text}(\\\\.0)?"' if text in ("0", "1") else f'="{text}"'


def selector_text(name: str, matchers: Sequence[LabelMatcher], suffix: str = "") -> str:
    """A series selector with everything quoted, so that any UTF-8 name is valid."""
    terms = [quote_literal(name + suffix)]
    terms += [f"{quote_literal(m.name)}{m.op.value}{quote_literal(m.value)}" for m in matchers]
    return "{" + ",".join(terms) + "}"


def bucket_expression(
    query: BucketQuery, shape: MetricShape, statistic: Statistic, width_ms: int
) -> str:
    """The expression whose value at the last millisecond of a bucket is that of the bucket.

    Raises BadDataError for a statistic that cannot be computed from a histogram.
    """
    text = _Expressions(query, width_ms)
    match shape:
        case MetricShape.SAMPLES:
            return text.of_samples(statistic)
        case MetricShape.HISTOGRAM:
            return text.of_histogram(statistic)
        case MetricShape.NATIVE_HISTOGRAM:
            # From before it was a native one, and after, there may be a classic one.
            return f"{text.of_native_histogram(statistic)} or {text.of_histogram(statistic)}"
        case MetricShape.SUMMARY:
            return text.of_summary(statistic)
        case _:
            assert_never(shape)


class _Expressions:
    """Expressions over the buckets of one query."""

    def __init__(self, query: BucketQuery, width_ms: int) -> None:
        self._query = query
        self._width = format_duration_ms(width_ms)

    def of_samples(self, statistic: Statistic) -> str:
        window = self._window()
        match statistic:
            case Aggregation.AVG:
                if self._query.group_by is None:
                    return f"avg_over_time({window})"
                # The mean of all samples; the mean of the series' means would weigh them wrongly.
                total = self._grouped("sum", f"sum_over_time({window})")
                count = self._grouped("sum", f"count_over_time({window})")
                return f"{total} / {count}"
            case Aggregation.SUM | Aggregation.COUNT:
                return self._grouped("sum", f"{statistic.value}_over_time({window})")
            case Aggregation.MIN | Aggregation.MAX:
                return self._grouped(statistic.value, f"{statistic.value}_over_time({window})")
            case Aggregation.LAST:
                return self._grouped("sum", f"last_over_time({window})")
            case Aggregation.RATE:
                return self._grouped("sum", f"rate({window})")
            case _:
                raise ValueError(f"no expression computes {statistic} of samples")

    def of_histogram(self, statistic: Statistic) -> str:
        match statistic:
            case float():
                rates = f"rate({self._window('_bucket')})"
                if self._query.group_by is not None:
                    rates = f"sum by ({_names((*self._query.group_by, 'le'))}) ({rates})"
                return f"histogram_quantile({quantile_text(statistic)}, {rates})"
            case Aggregation.MIN | Aggregation.MAX | Aggregation.LAST:
                raise _not_of_histograms(statistic)
            case _:
                return self._of_observations(statistic)

    def of_native_histogram(self, statistic: Statistic) -> str:
        rates = self._grouped("sum", f"rate({self._window()})")
        increases = self._grouped("sum", f"increase({self._window()})")
        match statistic:
            case float():
                return f"histogram_quantile({quantile_text(statistic)}, {rates})"
            case Aggregation.AVG:
                return f"histogram_avg({rates})"
            case Aggregation.SUM:
                return f"histogram_sum({increases})"
            case Aggregation.COUNT:
                return f"histogram_count({increases})"
            case Aggregation.RATE:
                return f"histogram_count({rates})"
            case _:
                raise _not_of_histograms(statistic)

    def of_summary(self, statistic: Statistic) -> str:
        match statistic:
            case float():
                # Quantiles cannot be combined exactly; their mean is an approximation.
                quantile = f'"quantile"{_matching_quantile(statistic)}'
                window = self._window(extra=quantile)
                by = "without (quantile)"
                if self._query.group_by is not None:
                    by = f"by ({_names(self._query.group_by)})"
                return f"avg {by} (avg_over_time({window}))"
            case Aggregation.MIN | Aggregation.MAX | Aggregation.LAST:
                return self.of_samples(statistic)
            case _:
                return self._of_observations(statistic)

    def _of_observations(self, statistic: Aggregation) -> str:
        """From `_sum` and `_count`, which a histogram and a summary both have."""
        match statistic:
            case Aggregation.AVG:
                total = self._grouped("sum", f"rate({self._window('_sum')})")
                count = self._grouped("sum", f"rate({self._window('_count')})")
                return f"{total} / {count}"
            case Aggregation.SUM:
                return self._grouped("sum", f"increase({self._window('_sum')})")
            case Aggregation.COUNT:
                return self._grouped("sum", f"increase({self._window('_count')})")
            case Aggregation.RATE:
                return self._grouped("sum", f"rate({self._window('_count')})")
            case _:
                raise ValueError(f"no expression computes {statistic} of observations")

    def _grouped(self, operator: str, expression: str) -> str:
        if self._query.group_by is None:
            return expression
        return f"{operator} by ({_names(self._query.group_by)}) ({expression})"

    def _window(self, suffix: str = "", extra: str = "") -> str:
        selector = selector_text(self._query.name, self._query.matchers, suffix)
        if extra:
            selector = f"{selector[:-1]},{extra}}}"
        return f"{selector}[{self._width}]"


def _not_of_histograms(statistic: Aggregation) -> BadDataError:
    return BadDataError(
        f"a histogram has no {statistic.value}; use percentile, avg, sum, count or rate"
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(quote_literal(name) for name in names)
