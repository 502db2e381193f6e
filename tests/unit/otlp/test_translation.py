"""Data points become the samples that Prometheus makes of them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar, Metric, ScopeMetrics

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.otlp import point_keys
from promcompat.otlp.attribute_text import text_of
from promcompat.otlp.batches import make_batch
from promcompat.otlp.deltas import DeltaTotals
from promcompat.otlp.export_pb2 import Request
from promcompat.otlp.names import TranslationStrategy
from promcompat.otlp.point_keys import PointKeys
from promcompat.otlp.reader import OtlpReader
from promcompat.otlp.requests import parse_protobuf
from promcompat.otlp.resources import OtlpOptions
from promcompat.otlp.samples import Samples
from promcompat.otlp.translation import translate
from promcompat.remote_write.series_key import decode_series_key
from tests.support.factories import encode_labels
from tests.support.formats.otlp_payloads import attributes, value
from tests.support.known_series import NOTHING_KNOWN

TIME_MS = 1_700_000_000_000
RESOURCE = {"service.name": "shop", "service.namespace": "demo", "service.instance.id": "a"}
DEFAULT = OtlpOptions()
Row = tuple[dict[str, str], int, float]


def rows_of(
    fill: Callable[[ScopeMetrics], object],
    options: OtlpOptions = DEFAULT,
    resource: dict[str, Any] | None = None,
) -> tuple[list[Row], Samples]:
    """The rows of what `fill` puts into a scope; those of `target_info` are left out."""
    request = ExportMetricsServiceRequest()
    wire = request.resource_metrics.add()
    wire.resource.attributes.extend(attributes(RESOURCE if resource is None else resource))
    fill(wire.scope_metrics.add(schema_url="https://schema"))
    message = parse_protobuf(request.SerializeToString())
    samples = translate(message, options, DeltaTotals().request("default"))
    labels = [decode_series_key(key).as_dict() for key in samples.keys]
    rows = list(zip(labels, samples.timestamps, samples.values, strict=True))
    return [row for row in rows if row[0]["__name__"] != "target_info"], samples


def read_all(reader: OtlpReader, request: ExportMetricsServiceRequest) -> Samples:
    totals = reader.totals.request("default")
    return reader.read(request.SerializeToString(), totals, is_json=False)


def labels_of_gauge(
    raw: dict[str, Any],
    options: OtlpOptions = DEFAULT,
    resource: dict[str, Any] | None = None,
) -> dict[str, str]:
    """The labels of a gauge with attributes."""

    def fill(scope: ScopeMetrics) -> None:
        scope.scope.name, scope.scope.version = "lib", "v1"
        scope.scope.attributes.extend(attributes({"s.attr": 7}))
        metric = scope.metrics.add(name="g")
        metric.gauge.data_points.add(time_unix_nano=TIME_MS * 1_000_000, attributes=attributes(raw))

    ((labels, _, _),), _ = rows_of(fill, options, resource)
    return {name: text for name, text in labels.items() if name != "__name__"}


def test_labels_that_many_samples_share_are_bounded_together() -> None:
    def points(scope: ScopeMetrics) -> None:
        gauge = scope.metrics.add(name="g").gauge
        for number in range(100):
            gauge.data_points.add(attributes=attributes({"n": number}))

    def buckets(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = 2
        point = histogram.data_points.add(explicit_bounds=range(100), bucket_counts=[0] * 101)
        point.attributes.extend(attributes({"a": "x" * 2_000_000}))

    for fill, resource in ((points, {"service.name": "x" * 2_000_000}), (buckets, RESOURCE)):
        with pytest.raises(BadDataError, match="the labels of the samples take more than"):
            rows_of(fill, resource=resource)


@given(
    st.lists(st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats()), max_size=6),
    st.lists(st.one_of(st.sampled_from([1.0, 2.0, 3.0]), st.floats()), max_size=4),
)
def test_an_exemplar_belongs_to_the_first_bucket_that_its_value_fits_in(
    bounds: list[float], exemplars: list[float]
) -> None:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = 2
        point = histogram.data_points.add(
            explicit_bounds=bounds, bucket_counts=[0] * (len(bounds) + 1)
        )
        for number in exemplars:
            point.exemplars.add(as_double=number)

    _, samples = rows_of(fill)
    keys = [key for key in samples.keys if b"h_bucket" in key]
    for number, found in zip(exemplars, samples.exemplars, strict=True):
        first = next((n for n, bound in enumerate(bounds) if number <= bound), len(bounds))
        assert found.key == keys[first]


def test_resources_give_job_and_instance() -> None:
    assert labels_of_gauge({}) == {"job": "demo/shop", "instance": "a"}
    assert labels_of_gauge({"job": "x"}, resource={"service.name": "y"}) == {"job": "y"}
    assert labels_of_gauge({"job": "x"}, resource={}) == {"job": "x"}


def test_attributes_with_one_name_are_joined_in_order_of_their_keys() -> None:
    labels = labels_of_gauge({"a_b": "2", "a.b": "1", "a-b": "0", "empty": "", "none": None})
    assert labels == {"a_b": "0;1;2", "job": "demo/shop", "instance": "a"}


def test_promoted_attributes_give_way_to_those_of_points() -> None:
    resource = {"host.name": "h", "region": "eu", "other": 1}
    options = OtlpOptions(promoted=frozenset(("host.name", "region")))
    labels = labels_of_gauge({"host.name": "own"}, options, resource)
    assert labels == {"host_name": "own", "region": "eu"}
    every = OtlpOptions(promotes_all=True, promoted=frozenset(("region",)))
    assert labels_of_gauge({}, every, resource) == {"host_name": "h", "other": "1"}


def test_scopes_become_labels_if_wanted() -> None:
    options = OtlpOptions(promotes_scope=True, strategy=TranslationStrategy.KEPT)
    assert labels_of_gauge({}, options, {}) == {
        "otel_scope_name": "lib",
        "otel_scope_version": "v1",
        "otel_scope_schema_url": "https://schema",
        "otel_scope_s.attr": "7",
    }


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (True, "true"),
        (-5, "-5"),
        (b"\x00\xff", "AP8="),
        (1.0, "1"),
        (0.1, "0.1"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (None, ""),
        ([1, "ü\n", 2.5, None, [b"\x01"]], '[1,"ü\\n",2.5,null,["AQ=="]]'),
        ({"b": 1, "a": {"<": "&"}}, '{"a":{"<":"&"},"b":1}'),
    ],
)
def test_values_of_attributes(raw: object, text: str) -> None:
    assert text_of(value(raw)) == text


def test_histograms_become_classic_ones() -> None:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h", unit="ms").histogram
        histogram.aggregation_temporality = 2
        histogram.data_points.add(
            time_unix_nano=TIME_MS * 1_000_000 + 999_999,
            count=9,
            sum=12.5,
            bucket_counts=[1, 2, 3, 1],
            explicit_bounds=[0.005, 1, 250_000_000],
            attributes=attributes({"le": "x", "zone": "z"}),
        )
        histogram.data_points.add(time_unix_nano=TIME_MS * 1_000_000, count=3)

    rows, samples = rows_of(fill, resource={})
    assert {time for _, time, _ in rows} == {TIME_MS}
    name = "h_milliseconds"
    assert [(labels, number) for labels, _, number in rows] == [
        ({"__name__": f"{name}_sum", "zone": "z", "le": "x"}, 12.5),
        ({"__name__": f"{name}_count", "zone": "z", "le": "x"}, 9.0),
        ({"__name__": f"{name}_bucket", "zone": "z", "le": "0.005"}, 1.0),
        ({"__name__": f"{name}_bucket", "zone": "z", "le": "1"}, 3.0),
        ({"__name__": f"{name}_bucket", "zone": "z", "le": "250000000"}, 6.0),
        ({"__name__": f"{name}_bucket", "zone": "z", "le": "+Inf"}, 9.0),
        ({"__name__": f"{name}_count"}, 3.0),
        ({"__name__": f"{name}_bucket", "le": "+Inf"}, 3.0),
    ]
    assert samples.metadata[name].type == "histogram"


def test_summaries_have_quantiles() -> None:
    def fill(scope: ScopeMetrics) -> None:
        point = scope.metrics.add(name="s").summary.data_points.add(count=4, sum=2.0)
        point.quantile_values.add(quantile=0.5, value=7.0)

    rows, _ = rows_of(fill, resource={})
    assert [(labels, number) for labels, _, number in rows] == [
        ({"__name__": "s_sum"}, 2.0),
        ({"__name__": "s_count"}, 4.0),
        ({"__name__": "s", "quantile": "0.5"}, 7.0),
    ]


def test_sums_and_counts_keep_attributes_with_the_name_of_the_label_of_buckets() -> None:
    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = 2
        raw = attributes({"le": "own"})
        histogram.data_points.add(
            sum=1.0, count=1, bucket_counts=[1], explicit_bounds=[2], attributes=raw
        )
        raw = attributes({"quantile": "own"})
        point = scope.metrics.add(name="s").summary.data_points.add(attributes=raw)
        point.quantile_values.add(quantile=0.5)

    rows, _ = rows_of(fill, resource={})
    found = {(row[0]["__name__"], row[0].get("le"), row[0].get("quantile")) for row in rows}
    assert found == {
        ("h_sum", "own", None),
        ("h_count", "own", None),
        ("h_bucket", "2", None),
        ("h_bucket", "+Inf", None),
        ("s_sum", None, "own"),
        ("s_count", None, "own"),
        ("s", None, "0.5"),
    }


def test_an_empty_attribute_is_none() -> None:
    options = OtlpOptions(promoted=frozenset({"promoted"}))
    resource = {"promoted": "p", "service.name": "", "service.instance.id": ""}
    raw = {"promoted": "", "job": "j", "instance": "i", "a.b": "", "a_b": "v"}
    found = labels_of_gauge(raw, options, resource)
    assert found == {"promoted": "p", "job": "j", "instance": "i", "a_b": "v"}


@pytest.mark.parametrize(
    ("resource", "has_info"),
    [
        ({"service.name": "", "host.name": "h"}, False),
        ({"service.name": "", "service.namespace": "n", "host.name": "h"}, True),
        ({"job": "j"}, True),
        ({"instance": "i"}, True),
        ({"host.name": "h"}, False),
        ({"service.name": "s"}, False),
    ],
)
def test_target_info_needs_a_job_or_an_instance(resource: dict[str, Any], has_info: bool) -> None:
    def fill(scope: ScopeMetrics) -> None:
        scope.metrics.add(name="g").gauge.data_points.add(time_unix_nano=TIME_MS * 1_000_000)

    _, samples = rows_of(fill, resource=resource)
    assert any(b"target_info" in key for key in samples.keys) is has_info


def test_attributes_of_a_scope_do_not_replace_its_name_and_version() -> None:
    def fill(scope: ScopeMetrics) -> None:
        scope.scope.name, scope.scope.version = "lib", "v1"
        scope.scope.attributes.extend(attributes({"name": "x", "version": "y", "schema_url": "z"}))
        scope.metrics.add(name="g").gauge.data_points.add()

    ((labels, _, _),), _ = rows_of(fill, OtlpOptions(promotes_scope=True), {})
    found = labels["otel_scope_name"], labels["otel_scope_version"], labels["otel_scope_schema_url"]
    assert found == ("lib", "v1", "https://schema")


def test_target_info_covers_the_time_of_the_points() -> None:
    def fill(scope: ScopeMetrics) -> None:
        for minutes in (0, 4):
            moment = (TIME_MS + minutes * 60_000) * 1_000_000
            scope.metrics.add(name="g").gauge.data_points.add(time_unix_nano=moment)

    _, samples = rows_of(fill, resource=RESOURCE | {"host.name": "h"})
    info = [
        (decode_series_key(key).as_dict(), time)
        for key, time in zip(samples.keys, samples.timestamps, strict=True)
        if b"target_info" in key
    ]
    labels = {"__name__": "target_info", "job": "demo/shop", "instance": "a", "host_name": "h"}
    times = (TIME_MS, TIME_MS + 150_000, TIME_MS + 240_000)
    assert info == [(labels, time) for time in times]
    assert not [key for key in rows_of(fill)[1].keys if b"target_info" in key]
    assert not [key for key in rows_of(fill, resource={"host.name": "h"})[1].keys if b"info" in key]


def test_target_info_of_many_resources_is_bounded_together() -> None:
    request = ExportMetricsServiceRequest()
    for number in range(30):
        resource = request.resource_metrics.add()
        raw = {"service.name": f"s{number}", "host.name": "h"}
        resource.resource.attributes.extend(attributes(raw))
        points = resource.scope_metrics.add().metrics.add(name="g").gauge.data_points
        points.add(time_unix_nano=0)
        points.add(time_unix_nano=TIME_MS * 1_000_000)
    samples = read_all(OtlpReader(), request)
    n_rows = Counter(key for key in samples.keys if b"target_info" in key)
    assert sorted(n_rows.values()) == [1] * 20 + [1_001] * 10


def test_exemplars_belong_to_their_bucket_and_lose_attributes_that_are_too_long() -> None:
    trace, span = bytes(range(16)), bytes(range(8))

    def fill(scope: ScopeMetrics) -> None:
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = 2
        point = histogram.data_points.add(bucket_counts=[1, 1], explicit_bounds=[1.0])
        for number, length in ((1.0, 5), (2.0, 200)):
            raw = attributes({"key": "x" * length})
            point.exemplars.append(
                Exemplar(
                    time_unix_nano=5_000_000,
                    as_double=number,
                    trace_id=trace,
                    span_id=span,
                    filtered_attributes=raw,
                )
            )

    _, samples = rows_of(fill, resource={})
    ids = [("trace_id", trace.hex()), ("span_id", span.hex())]
    found = [
        (decode_series_key(item.key).get("le"), item.labels, item.value, item.timestamp_ms)
        for item in samples.exemplars
    ]
    assert found == [("1", [*ids, ("key", "xxxxx")], 1.0, 5), ("+Inf", ids, 2.0, 5)]


@pytest.mark.parametrize("temporality", [0, 1])
def test_only_cumulative_sums_are_accepted(temporality: int) -> None:
    def fill(scope: ScopeMetrics) -> None:
        metric = Metric(name="m")
        metric.sum.aggregation_temporality = temporality
        metric.sum.data_points.add()
        metric.sum.data_points.add()
        scope.metrics.append(metric)

    rows, samples = rows_of(fill)
    assert not rows
    assert dict(samples.rejected) == {'invalid temporality and type combination for metric "m"': 2}


texts = st.text(st.characters(codec="utf-8"), max_size=4)


@given(st.dictionaries(texts, texts, max_size=5), st.sampled_from(["", "le", "quantile"]), texts)
def test_keys_are_those_of_a_sender_of_remote_write(
    labels: dict[str, str], label_name: str, label_value: str
) -> None:
    chosen = {**labels, "__name__": "m", **({label_name: label_value} if label_name else {})}
    pairs = sorted(pair for pair in chosen.items() if pair[1])
    assert PointKeys(point_keys.encode_labels(labels), label_name).key(
        "m", label_value
    ) == encode_labels(pairs)


@pytest.mark.parametrize("part", ["attributes", "exemplars"])
def test_a_request_with_a_malformed_part_adds_no_delta_to_the_totals(part: str) -> None:
    totals, options = DeltaTotals(), OtlpOptions(sums_deltas=True)

    def translate_deltas(last_part: list[bytes]) -> list[float]:
        message = Request()
        counter = message.resource_metrics.add().scope_metrics.add().metrics.add(name="m").sum
        counter.aggregation_temporality = 1
        counter.data_points.add(time_unix_nano=1, as_double=5.0)
        counter.data_points.add(time_unix_nano=2, as_double=2.0)
        counter.data_points.add(time_unix_nano=3, as_double=1.0, **{part: last_part})
        return translate(message, options, totals.request("default")).values

    with pytest.raises(BadDataError, match=f"cannot decode the {part}"):
        translate_deltas([b"\x0a\xff"])
    assert translate_deltas([]) == [5.0, 7.0, 8.0]


def test_the_streams_of_deltas_are_bounded() -> None:
    seconds = 0.0
    every = DeltaTotals(max_streams=2, now_seconds=lambda: seconds)
    totals = every.request("t")
    assert totals.add(b"a", 1, (1.0,)) == (1.0,)
    assert totals.add(b"b", 1, (1.0,)) == (1.0,)
    assert totals.add(b"c", 1 << 62, (1.0,)) == "there are more than 2 series of deltas"
    assert totals.add(b"b", 2, (1.0,)) == (2.0,)
    seconds = 3_600.0
    assert totals.add(b"c", 1, (5.0,)) == (5.0,)
    assert totals.add(b"b", 3, (1.0,)) == (3.0,)


def test_the_bytes_of_deltas_are_bounded() -> None:
    seconds = 0.0
    every = DeltaTotals(max_bytes=4_570, now_seconds=lambda: seconds)
    totals = every.request("t")
    refused, wide = "the totals of deltas take more than 3999 bytes", (1.0,) * 40
    assert totals.add(b"a", 1, wide) == wide
    assert totals.add(b"b", 1, wide) == wide
    assert totals.add(b"c", 1, wide) == refused
    assert totals.add(b"b", 2, (1.0,) * 80) == refused
    assert totals.add(b"b", 2, wide) == (2.0,) * 40
    seconds = 3_600.0
    assert totals.add(b"c", 1, wide) == wide


def test_a_request_that_is_sent_again_has_the_same_totals() -> None:
    every = DeltaTotals()
    deltas = [(time, (1.0,)) for time in range(1, 6)]
    for n_before_failure in (2, 3, 5, 5):
        totals = every.request("t")
        found = [totals.add(b"a", *delta) for delta in deltas[:n_before_failure]]
        assert found == [(float(number),) for number in range(1, n_before_failure + 1)]
    assert every.request("t").add(b"a", 6, (1.0,)) == (6.0,)
    older = "a delta is older than the last one of its series"
    assert every.request("other").add(b"a", 1, (1.0,)) == (1.0,)
    assert every.request("other").add(b"a", 0, (1.0,)) == older


def test_totals_of_earlier_points_have_a_bound() -> None:
    every = DeltaTotals(max_bytes=8 * 5_500)
    totals = every.request("t")
    for time in range(100):
        assert totals.add(b"a", time, (1.0,)) == (time + 1.0,)
    again = every.request("t")
    is_known = [not isinstance(again.add(b"a", time, (1.0,)), str) for time in range(100)]
    assert is_known == [False] * 89 + [True] * 11


def test_histograms_of_deltas_with_other_bounds_begin_again() -> None:
    totals = DeltaTotals().request("t")
    assert totals.add(b"h", 1, (5.0, 2.0, 2.0), (1.0,)) == (5.0, 2.0, 2.0)
    assert totals.add(b"h", 2, (5.0, 2.0, 2.0), (9.0,)) == (5.0, 2.0, 2.0)
    assert totals.add(b"h", 3, (5.0, 2.0, 2.0), (9.0,)) == (10.0, 4.0, 4.0)


def test_a_delta_too_far_in_the_future_is_not_added() -> None:
    every = DeltaTotals()
    totals = every.request("t", latest_ms=TIME_MS)
    text = "out of bounds: timestamp is too far in the future"
    assert totals.add(b"a", (TIME_MS + 1) * 1_000_000, (5.0,)) == text
    assert totals.add(b"a", TIME_MS * 1_000_000, (2.0,)) == (2.0,)


def test_what_is_remembered_is_bounded_though_nothing_is_remembered_of_a_resource(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys of summaries are not remembered, but where they come from is."""
    monkeypatch.setattr(point_keys, "_MAX_KNOWN_BYTES", 13_000)
    reader = OtlpReader()
    reader.known.of("kept", 0).remember("what", 0, (b"key",))
    for number in range(4):
        request = ExportMetricsServiceRequest()
        wire = request.resource_metrics.add()
        wire.resource.attributes.extend(attributes({"id": f"{number}" * 3_000}))
        metric = wire.scope_metrics.add().metrics.add(name="s")
        metric.summary.data_points.add(count=4, sum=2.0)
        assert reader.known.of("kept", 0).find("what") == (b"key",)
        read_all(reader, request)
    assert reader.known.of("kept", 0).find("what") is None


@pytest.mark.parametrize("sums_deltas", [False, True])
def test_cumulative_points_say_since_when_they_count(sums_deltas: bool) -> None:
    times = {"time_unix_nano": TIME_MS * 10**6, "start_time_unix_nano": 7_999_999}

    def fill(scope: ScopeMetrics) -> None:
        scope.metrics.add(name="g").gauge.data_points.add(**times)
        counter = scope.metrics.add(name="c").sum
        counter.aggregation_temporality = 2
        counter.data_points.add(**times)
        counter.data_points.add(time_unix_nano=TIME_MS * 10**6)
        delta = scope.metrics.add(name="d").sum
        delta.aggregation_temporality = 1
        delta.data_points.add(**times)
        histogram = scope.metrics.add(name="h").histogram
        histogram.aggregation_temporality = 2
        histogram.data_points.add(**times)
        native = scope.metrics.add(name="e").exponential_histogram
        native.aggregation_temporality = 2
        native.data_points.add(**times)
        scope.metrics.add(name="s").summary.data_points.add(**times)

    resource = {**RESOURCE, "region": "eu"}
    _, samples = rows_of(fill, OtlpOptions(sums_deltas=sums_deltas), resource)
    made = make_batch(samples, NOTHING_KNOWN, LabelLimits())
    assert made.batch.starts is not None
    names = [decode_series_key(key).get("__name__") for key in samples.keys]
    expected = [("g", 0), ("c", 7), ("c", 0), ("h_count", 7), ("h_bucket", 7), ("e", 7)]
    expected += [("s_sum", 7), ("s_count", 7), ("target_info", 0)]
    if sums_deltas:
        expected.insert(3, ("d", 0))
    assert list(zip(names, made.batch.starts.tolist(), strict=True)) == expected
