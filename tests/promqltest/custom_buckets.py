"""The native histograms of custom buckets that classic ones in a script amount to."""

import re
from collections.abc import Mapping

import numpy as np

from promcompat.core.model import METRIC_NAME, Labels
from promql.values.histogram_columns import HistogramColumns
from tests.support.factories import MixedPoints
from tests.support.histograms import histogram

_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def custom_bucket_histograms(series: Mapping[Labels, MixedPoints]) -> dict[Labels, MixedPoints]:
    """A series of histograms for all buckets, counts and sums that differ in nothing else."""
    found: dict[Labels, dict[int, dict[str, float]]] = {}
    for labels, points in series.items():
        match = _SUFFIX.search(labels.get(METRIC_NAME))
        if match is None or (match[1] == "bucket" and not labels.get("le")):
            continue
        name = labels.get(METRIC_NAME)[: match.start()]
        target = labels.without(["le"]).with_label(METRIC_NAME, name)
        part = labels.get("le") if match[1] == "bucket" else match[1]
        for time_ms, value in points:
            if not isinstance(value, HistogramColumns):
                found.setdefault(target, {}).setdefault(time_ms, {})[part] = value
    return {
        labels: [(time_ms, _histogram(parts)) for time_ms, parts in sorted(times.items())]
        for labels, times in found.items()
    }


def _histogram(parts: dict[str, float]) -> HistogramColumns:
    total, count = parts.pop("sum", 0.0), parts.pop("count", None)
    cumulative = dict(sorted((float(le), value) for le, value in parts.items()))
    if count is None:
        count = max(cumulative.values(), default=0.0)
    cumulative.setdefault(np.inf, count)
    counts = np.diff([0.0, *cumulative.values()]).tolist()
    bounds = [bound for bound in cumulative if bound != np.inf]
    buckets = [(place, bucket) for place, bucket in enumerate(counts) if bucket]
    return histogram(count=count, total=total, positive=buckets, bounds=bounds)
