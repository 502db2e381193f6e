"""Scripts of targets with histograms in every form, and how two histograms are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from promcompat.core.histograms.columns import Histograms
from promcompat.core.histograms.layout import bucket_indices
from promcompat.scraping.metric_family_pb2 import (
    Bucket,
    Counter,
    Exemplar,
    Histogram,
    LabelPair,
    Metric,
    MetricFamily,
    Quantile,
    Summary,
    Timestamp,
    Value,
)
from tests.support.factories import encode_varint
from tests.support.services.scripted_targets import Step

PROTOBUF = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)
CLASSIC = """\
# TYPE c histogram
c_bucket{{x="1",le="0.5"}} {0}
c_bucket{{x="1",le="1"}} {1}
c_bucket{{x="1",le="+Inf"}} {2}
c_sum{{x="1"}} 3.5
c_count{{x="1"}} {2}
c_bucket{{x="2",le="1"}} 2.5
c_sum{{x="2"}} 1
# TYPE g gauge
g_count 1
"""


def body(*families: MetricFamily) -> bytes:
    """A body of families."""
    encoded = [family.SerializeToString() for family in families]
    return b"".join(encode_varint(len(part)) + part for part in encoded)


def labels(**pairs: str) -> list[bytes]:
    """Labels as a metric has them."""
    return [LabelPair(name=name, value=value).SerializeToString() for name, value in pairs.items()]


def spans(*pairs: tuple[int, int]) -> list[bytes]:
    """Spans by offset and length."""
    return [
        (b"\x08" + encode_varint((offset << 1) ^ (offset >> 63)) if offset else b"")
        + (b"\x10" + encode_varint(length))
        for offset, length in pairs
    ]


def exemplar(value: float, seconds: int = 0) -> Exemplar:
    """An exemplar, with a time if there is one."""
    found = Exemplar(label=labels(trace_id=f"t{value}"), value=value)
    if seconds:
        found.timestamp.CopyFrom(Timestamp(seconds=seconds, nanos=5_000_000))
    return found


def native(scale: int = 1, **changes: Any) -> Histogram:
    """A histogram with 8 buckets, a gap and classic buckets; counts grow with the scale."""
    fields: dict[str, Any] = {
        "sample_count": 11 * scale,
        "sample_sum": 18.5 * scale,
        "schema": 3,
        "zero_threshold": 0.001,
        "zero_count": 2 * scale,
        "positive_span": spans((-2, 3), (4, 2)),
        "positive_delta": [scale, scale, -scale, scale, -scale],
        "negative_span": spans((0, 3)),
        "negative_delta": [scale, 0, -scale],
        "bucket": [
            Bucket(cumulative_count=5 * scale, upper_bound=1, exemplar=exemplar(0.5)),
            Bucket(cumulative_count=9 * scale, upper_bound=1e6, exemplar=exemplar(2, 1700000000)),
        ],
    }
    return Histogram(**fields | changes)


def family(name: str, kind: int, *metrics: Metric, **fields: Any) -> MetricFamily:
    """A family."""
    return MetricFamily(name=name, type=kind, metric=metrics, **fields)


def everything(scale: int, *more: Metric) -> bytes:
    """A family of each type."""
    floats = Histogram(
        sample_count_float=4.5 * scale,
        sample_sum=7,
        schema=0,
        zero_count_float=0.5,
        positive_span=spans((1, 2)),
        positive_count=[1.5 * scale, 2.5 * scale],
    )
    no_observations = Histogram(schema=2, positive_span=spans((0, 0)))
    classic = Histogram(
        sample_count=3,
        sample_sum=2.5,
        bucket=[Bucket(cumulative_count=2, upper_bound=0.5), Bucket(cumulative_count=3)],
    )
    classic.bucket[1].upper_bound = float("inf")
    return body(
        family(
            "req_seconds_total",
            COUNTER,
            Metric(label=labels(z="1", a=""), counter=Counter(value=5, exemplar=exemplar(1))),
            unit="seconds",
            help="Requests \\ in\nlines.",
        ),
        family("temp", GAUGE, Metric(gauge=Value(value=-1.5)), Metric(label=labels(b="ö"))),
        family("empty", GAUGE),
        family(
            "s",
            SUMMARY,
            Metric(
                summary=Summary(
                    sample_count=2, sample_sum=3, quantile=[Quantile(quantile=1, value=9)]
                )
            ),
        ),
        family("u", UNTYPED, Metric(untyped=Value(value=1), timestamp_ms=0)),
        family("dotted.name", GAUGE, Metric(label=labels(**{"l.m": "v"}))),
        family("h", HISTOGRAM, Metric(label=labels(p="/"), histogram=native(scale)), *more),
        family("gh", GAUGE_HISTOGRAM, Metric(histogram=native(scale, bucket=[]))),
        family("f", HISTOGRAM, Metric(histogram=floats)),
        family("none", HISTOGRAM, Metric(histogram=no_observations)),
        family("classic", HISTOGRAM, Metric(histogram=classic)),
    )


def of_histogram(histogram: Histogram) -> Step:
    """An answer with one histogram."""
    return Step(body(family("h", HISTOGRAM, Metric(histogram=histogram))), PROTOBUF)


ODD = native(sample_count=1)
MORE = Metric(label=labels(p="x"), histogram=native())
JOBS: dict[str, tuple[dict[str, Any], Sequence[Step]]] = {
    "protobuf": (
        {},
        [
            Step(everything(1, MORE), PROTOBUF),
            Step(everything(2), PROTOBUF),
            Step("temp 2"),
            Step(everything(3), PROTOBUF),
        ],
    ),
    "both_forms": (
        {"always_scrape_classic_histograms": True},
        [of_histogram(native()), of_histogram(native(2))],
    ),
    "converted": (
        {"convert_classic_histograms_to_nhcb": True},
        [
            Step(CLASSIC.format(1, 3, 4)),
            Step(CLASSIC.format(2, 3, 4)),
            Step(CLASSIC.format(2, 1, 4)),
            Step(everything(1), PROTOBUF),
        ],
    ),
    "converted_too": (
        {"convert_classic_histograms_to_nhcb": True, "always_scrape_classic_histograms": True},
        [Step(CLASSIC.format(1, 3, 4)), of_histogram(native())],
    ),
    "few_buckets": (
        {"native_histogram_bucket_limit": 4},
        [of_histogram(native()), of_histogram(native(positive_span=spans((0, 1), (1000, 4))))],
    ),
    "wide_buckets": ({"native_histogram_min_bucket_factor": 1.5}, [of_histogram(native())]),
    "few_samples": ({"sample_limit": 5}, [Step(everything(1), PROTOBUF), of_histogram(native())]),
    "invalid": (
        {},
        [of_histogram(native()), of_histogram(ODD), of_histogram(native(2))],
    ),
    "malformed": (
        {},
        [
            of_histogram(native()),
            Step(everything(1)[:-3], PROTOBUF),
            Step(body(family("a", 9, Metric(gauge=Value(value=1)))), PROTOBUF),
            Step(body(family("a", GAUGE, Metric(gauge=Value(value=1)), unit="b")), PROTOBUF),
        ],
    ),
    "protobuf_fallback": (
        {"fallback_scrape_protocol": "PrometheusProto"},
        [Step(everything(1), "")],
    ),
}


def as_text(histograms: Histograms, row: int) -> str:
    """What a histogram says, however its spans are cut and whatever its counters did before.

    Without custom bounds, which remote read of Prometheus 3.5.3 leaves out.
    """
    found = histograms.take(np.array([row]))
    kind = np.float64 if found.is_float[0] else np.int64
    sides = [
        {
            index: count
            for index, count in zip(
                bucket_indices(spans).tolist(), counts.cells.view(kind).tolist(), strict=True
            )
            if count
        }
        for spans, counts in (
            (found.positive_spans, found.positive),
            (found.negative_spans, found.negative),
        )
    ]
    return str(
        [
            int(found.schemas[0]),
            bool(found.hints[0] == 3),
            *(column.view(kind).tolist() for column in (found.counts, found.zero_counts)),
            found.sums.tolist(),
            found.zero_thresholds.tolist(),
            *sides,
        ]
    )
