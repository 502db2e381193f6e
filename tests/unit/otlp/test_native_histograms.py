"""Exponential and explicit histograms of OTLP become the native ones that Prometheus makes."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, ScopeMetrics

from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import STALE_NAN_BITS
from promcompat.otlp.batches import PointBatch, make_batch
from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.export_pb2 import Buckets, ExponentialHistogramDataPoint
from promcompat.otlp.native_points import CountedBuckets, ExponentialCounts, NativeHistograms
from promcompat.otlp.requests import parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.samples import Samples
from promcompat.otlp.translation import translate
from promcompat.remote_write.series_key import decode_series_key
from tests.support.formats.remote_write import WireHistogram, columns_of, same_histograms
from tests.support.known_series import NOTHING_KNOWN

NS = 1_000_000
CUMULATIVE, DELTA = 2, 1


def batch_of(
    fill: Callable[[ScopeMetrics], object],
    options: OtlpOptions = OtlpOptions(),  # noqa: B008 - frozen
    totals: DeltaTotals | None = None,
) -> tuple[PointBatch, Samples]:
    request = ExportMetricsServiceRequest()
    fill(request.resource_metrics.add().scope_metrics.add())
    message = parse_protobuf(request.SerializeToString())
    samples = translate(message, options, (totals or DeltaTotals()).request("default"))
    return make_batch(samples, NOTHING_KNOWN, LabelLimits()), samples


def exponential(temporality: int = CUMULATIVE, **fields: object) -> Callable[[ScopeMetrics], None]:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h", unit="s").exponential_histogram
        histogram.aggregation_temporality = temporality  # type: ignore[assignment]
        histogram.data_points.add(**({"time_unix_nano": 5 * NS} | fields))  # type: ignore[arg-type]

    return fill


def buckets(offset: int, *counts: int) -> dict[str, object]:
    return {"offset": offset, "bucket_counts": counts}


def assert_stored(made: PointBatch, *expected: WireHistogram) -> None:
    assert made.refused == {}
    assert made.batch.histograms is not None
    assert same_histograms(made.batch.histograms, columns_of(expected))


def test_the_published_example() -> None:
    made, samples = batch_of(
        exponential(
            count=41,
            sum=3.5,
            zero_count=4,
            zero_threshold=0.25,
            scale=3,
            positive=buckets(3, 10, 0, 0, 20, 5, 2),
            exemplars=[Exemplar(time_unix_nano=NS, as_double=1.5)],
        )
    )
    assert_stored(
        made,
        WireHistogram(
            schema=3,
            count=41,
            sum=3.5,
            zero_threshold=1e-128,
            zero_count=4,
            positive_spans=((4, 1), (2, 3)),
            positive=(10, 20, 5, 2),
        ),
    )
    (key,) = made.batch.unknown_keys
    assert decode_series_key(key).as_dict() == {"__name__": "h_seconds"}
    assert made.batch.timestamps.tolist() == [5]
    assert samples.metadata["h_seconds"].type == "histogram"
    assert [(item.key, item.value) for item in samples.exemplars] == [(key, 1.5)]


def test_finer_scales_are_reduced_and_counts_of_an_index_added() -> None:
    made, _ = batch_of(
        exponential(
            count=16,
            scale=9,
            positive=buckets(0, 0, 0, 3, 4),
            negative=buckets(-3, 1, 2, 6),
        )
    )
    assert_stored(
        made,
        WireHistogram(
            schema=8,
            count=16,
            zero_threshold=1e-128,
            positive_spans=((2, 1),),
            positive=(7,),
            negative_spans=((-1, 2),),
            negative=(1, 8),
        ),
    )


@given(
    scale=st.integers(-4, 20),
    offset=st.integers(-(1 << 31), (1 << 31) - 1),
    counts=st.lists(st.integers(0, 3) | st.just((1 << 63) + 5), max_size=20),
)
def test_every_bucket_has_the_index_of_its_bounds(
    scale: int, offset: int, counts: list[int]
) -> None:
    """Bucket k of OTLP covers (base^k, base^(k+1)]; index i of schema n (2^((i-1)/2^n), …]."""
    expected: dict[int, int] = {}
    for place, count in enumerate(counts):
        index = (offset + place >> max(0, scale - 8)) + 1
        expected[index] = (expected.get(index, 0) + count) % (1 << 64)
    side = CountedBuckets(
        offset + np.arange(len(counts)), np.array(counts, np.uint64).view(np.int64)
    )
    none = CountedBuckets(side.numbers[:0], side.counts[:0])
    found = ExponentialCounts(scale, 0, 0.0, 0, side, none).at_scale(min(scale, 8))
    indices = {
        number + 1: count % (1 << 64)
        for number, count in zip(
            found.positive.numbers.tolist(), found.positive.counts.tolist(), strict=True
        )
    }
    assert indices == expected


sides = st.builds(
    Buckets,
    offset=st.integers(-(1 << 31), (1 << 31) - 1),
    bucket_counts=st.lists(st.integers(0, 3) | st.just((1 << 64) - 1), max_size=20),
)
data_points = st.builds(
    ExponentialHistogramDataPoint,
    scale=st.integers(-4, 100),
    count=st.integers(0, 9),
    zero_count=st.integers(0, 9),
    positive=sides,
    negative=sides,
)


@given(
    points=st.lists(st.tuples(data_points, st.booleans()), max_size=6), all_together=st.booleans()
)
def test_points_that_are_read_together_are_those_read_one_by_one(
    points: list[tuple[ExponentialHistogramDataPoint, bool]], *, all_together: bool
) -> None:
    together, one_by_one = NativeHistograms(), NativeHistograms()
    for point, is_read_together in points:
        one_by_one.add_exponential(ExponentialCounts.of(point))
        if all_together or is_read_together:
            together.add_point(point)
        else:
            together.add_exponential(ExponentialCounts.of(point))
    assert same_histograms(together.columns(), one_by_one.columns())


def test_no_recorded_value_is_a_stale_marker() -> None:
    made, _ = batch_of(exponential(flags=1, count=3))
    assert made.batch.values.view(np.uint64).tolist() == [STALE_NAN_BITS]
    assert made.batch.histograms is None


def test_what_is_not_valid_costs_only_its_point() -> None:
    def fill(scope: ScopeMetrics) -> None:
        exponential(count=3, zero_count=2)(scope)
        exponential(count=2, zero_count=2)(scope)
        exponential(scale=-5)(scope)

    made, samples = batch_of(fill)
    assert samples.rejected == {
        "cannot convert exponential to native histogram. Scale must be >= -4, was -5": 1
    }
    assert list(made.refused) == [0]
    assert made.refused[0].startswith("2 observations found in buckets, but the Count field is 3")
    assert made.points.tolist() == [1]
    assert made.batch.histograms is not None
    assert made.batch.histograms.counts.tolist() == [2]


def test_deltas_are_refused_or_added_up_at_the_lower_scale() -> None:
    first = exponential(DELTA, count=3, sum=1.5, scale=1, positive=buckets(0, 1, 2))
    second = exponential(
        DELTA, count=6, sum=2.0, scale=0, zero_count=1, positive=buckets(0, 4, 1),
        time_unix_nano=9 * NS,
    )  # fmt: skip
    _, samples = batch_of(first)
    assert samples.rejected == {'invalid temporality and type combination for metric "h"': 1}
    totals, options = DeltaTotals(), OtlpOptions(sums_deltas=True)
    batch_of(first, options, totals)
    expected = WireHistogram(
        count=9,
        sum=3.5,
        zero_threshold=1e-128,
        zero_count=1,
        positive_spans=((1, 2),),
        positive=(7, 1),
    )
    for _ in range(2):
        assert_stored(batch_of(second, options, totals)[0], expected)


@pytest.mark.parametrize("is_exponential", [True, False])
def test_an_invalid_delta_is_not_added_to_the_totals(is_exponential: bool) -> None:
    totals = DeltaTotals()
    options = OtlpOptions(sums_deltas=True, converts_to_custom_buckets=True)
    largest = 1 << 63

    def fill(count: int, bucket: int, seconds: int) -> Callable[[ScopeMetrics], None]:
        if is_exponential:
            return exponential(
                DELTA, count=count, positive=buckets(0, bucket), time_unix_nano=seconds * NS
            )

        def explicit(scope: ScopeMetrics) -> None:
            histogram = scope.metrics.add(name="h").histogram
            histogram.aggregation_temporality = DELTA
            histogram.data_points.add(
                count=count, bucket_counts=[bucket], time_unix_nano=seconds * NS
            )

        return explicit

    for seconds, (count, bucket, is_valid) in enumerate(
        [(2, 2, True), (5, 4, False), (largest, largest, False), (3, 3, True)]
    ):
        made, samples = batch_of(fill(count, bucket, seconds), options, totals)
        assert (samples.rejected.total() + len(made.refused) == 0) is is_valid
    assert made.batch.histograms is not None
    assert made.batch.histograms.counts.tolist() == [5]


def test_totals_of_deltas_have_a_bound() -> None:
    numbers = np.arange(4_000)
    side = CountedBuckets(numbers, np.ones(len(numbers), np.int64))
    none = CountedBuckets(numbers[:0], numbers[:0])
    many = ExponentialCounts(8, 4_000, 0.0, 0, side, none)
    added = many.plus(many)
    assert (added.scale, added.n_buckets) == (6, 1_000)
    assert int(added.positive.counts.sum()) == 8_000
    first = DeltaTotals().request("t").add_exponential(b"a", 1, many)
    assert isinstance(first, ExponentialCounts)
    assert first.n_buckets == 1_000


def test_a_delta_bucket_of_the_largest_count_does_not_fail_the_request() -> None:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = DELTA
        largest = (1 << 64) - 1
        histogram.data_points.add(count=largest, bucket_counts=[largest])

    options = OtlpOptions(converts_to_custom_buckets=True, sums_deltas=True)
    made, samples = batch_of(fill, options)
    assert (len(made.batch), samples.rejected.total()) == (0, 1)


@pytest.mark.parametrize("temporality", [CUMULATIVE, DELTA])
def test_explicit_histograms_become_custom_buckets_by_a_setting(temporality: int) -> None:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = temporality  # type: ignore[assignment]
        histogram.data_points.add(
            count=37, sum=5.0, bucket_counts=[10, 0, 0, 20, 5, 2], explicit_bounds=[-2, -1, 0, 1, 2]
        )
        histogram.data_points.add(flags=1)

    options = OtlpOptions(converts_to_custom_buckets=True, sums_deltas=True)
    made, samples = batch_of(fill, options)
    assert_stored(
        made,
        WireHistogram(
            schema=-53,
            count=37,
            sum=5.0,
            positive_spans=((0, 1), (2, 3)),
            positive=(10, 20, 5, 2),
            custom_values=(-2, -1, 0, 1, 2),
        ),
    )
    assert {decode_series_key(key).get("__name__") for key in samples.keys} == {"h"}
    assert made.batch.values.view(np.uint64).tolist()[1] == STALE_NAN_BITS


def test_no_histograms_are_no_columns() -> None:
    assert len(NativeHistograms().columns()) == 0
