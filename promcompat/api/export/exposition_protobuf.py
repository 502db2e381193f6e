"""The protobuf exposition format of federation: metric families, each after its length.

As in Prometheus' federation, floats are untyped and histograms are float histograms, those with
custom buckets as classic ones.
"""

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import groupby
from typing import Final

import numpy as np
from google.protobuf.proto import serialize_length_prefixed

from promcompat.api.export.exposition_text import ClassicHistogram, Escaping, escape_name
from promcompat.core.histograms.columns import Histograms
from promcompat.core.model import METRIC_NAME, Labels
from promcompat.core.texts.strconv import to_unicode
from promcompat.remote_write.remote_pb2 import BucketSpan
from promcompat.scraping.metric_family_pb2 import (
    Bucket,
    Histogram,
    LabelPair,
    Metric,
    MetricFamily,
    Value,
)
from promql.values.histogram_columns import GAUGE

_UNTYPED, _HISTOGRAM, _GAUGE_HISTOGRAM = 3, 4, 5
_EMPTY_INSTANCE: Final = b"\n\x08instance\x12\x00"
"""A LabelPair; its value is there, though empty, as Prometheus writes it."""
Sample = tuple[Labels, int, float | ClassicHistogram | Histograms]
"""Labels, Unix milliseconds and value: one of `Histograms` has one row, with float counts."""


def encode_families(samples: Iterable[Sample], escaping: Escaping) -> bytes:
    """The families of samples; those of a metric come together.

    Where a metric goes on with another type, another family begins. An empty `instance` keeps a
    scraper that honours labels from adding its own.
    """
    out = BytesIO()
    for (name, kind), family in groupby(samples, _family_of):
        shown = MetricFamily(name=to_unicode(escape_name(name, escaping)), type=kind)
        shown.metric.extend(_metric(*sample, escaping) for sample in family)
        serialize_length_prefixed(shown, out)
    return out.getvalue()


def _family_of(sample: Sample) -> tuple[str, int]:
    labels, _, value = sample
    if isinstance(value, float):
        kind = _UNTYPED
    elif isinstance(value, ClassicHistogram):
        kind = _GAUGE_HISTOGRAM if value.is_gauge else _HISTOGRAM
    else:
        kind = _GAUGE_HISTOGRAM if value.hints[0] == GAUGE else _HISTOGRAM
    return labels.get(METRIC_NAME), kind


def _metric(
    labels: Labels, time_ms: int, value: float | ClassicHistogram | Histograms, escaping: Escaping
) -> Metric:
    metric = Metric(label=_label_pairs(labels, escaping), timestamp_ms=time_ms)
    if isinstance(value, float):
        metric.untyped.CopyFrom(Value(value=value))
    elif isinstance(value, ClassicHistogram):
        metric.histogram.CopyFrom(_classic(value))
    else:
        metric.histogram.CopyFrom(_native(value))
    return metric


def _label_pairs(labels: Labels, escaping: Escaping) -> Iterator[bytes]:
    for name, text in labels:
        if name != METRIC_NAME:
            pair = LabelPair(name=to_unicode(escape_name(name, escaping)), value=to_unicode(text))
            yield pair.SerializeToString()
    if not labels.get("instance"):
        yield _EMPTY_INSTANCE


def _classic(value: ClassicHistogram) -> Histogram:
    buckets = zip(value.bounds, value.bucket_counts, strict=True)
    return Histogram(
        sample_count_float=value.n_observations,
        sample_sum=value.total,
        bucket=[
            Bucket(upper_bound=bound, cumulative_count_float=count) for bound, count in buckets
        ],
    )


def _native(value: Histograms) -> Histogram:
    return Histogram(
        sample_count_float=value.counts.view(np.float64)[0],
        sample_sum=value.sums[0],
        schema=int(value.schemas[0]),
        zero_threshold=value.zero_thresholds[0],
        zero_count_float=value.zero_counts.view(np.float64)[0],
        negative_span=_spans(value.negative_spans.cells),
        negative_count=value.negative.cells.view(np.float64).tolist(),
        positive_span=_spans(value.positive_spans.cells),
        positive_count=value.positive.cells.view(np.float64).tolist(),
    )


def _spans(cells: np.ndarray) -> list[bytes]:
    return [
        BucketSpan(offset=offset, length=length).SerializeToString()
        for offset, length in cells.tolist()
    ]
