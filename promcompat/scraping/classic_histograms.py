"""Makes native histograms with custom buckets of the series of classic ones.

The rules are those of Prometheus' `convert_classic_histograms_to_nhcb`: the series `_bucket`,
`_count` and `_sum` of a family of the type `histogram` whose other labels are the same are one
histogram.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from promcompat.core.histograms.columns import CUSTOM_BUCKETS
from promcompat.core.histograms.layout import span_list
from promcompat.core.model import METRIC_NAME, MetricMetadata
from promcompat.core.texts.strconv import parse_float
from promcompat.remote_write.remote_pb2 import BucketSpan, Histogram

_BOUND: Final = "le"
_SUFFIXES: Final = ("_bucket", "_count", "_sum")
_TOO_LARGE: Final = 2.0**63
"""Counts from here on are floats, as in Prometheus, whose integers are signed."""
ExemplarFields = tuple[dict[str, str], float, int | None]


@dataclass(frozen=True, slots=True)
class ClassicPart:
    """What a series of a classic histogram is of it; `labels` are those of the whole one.

    `histogram` is a text that no other histogram of the target has.
    """

    histogram: str
    labels: Mapping[str, str]
    suffix: str
    bound: float = 0.0


def family_of_part(labels: Mapping[str, str]) -> str:
    """The family that the series with these labels is a part of if it is a histogram; or empty."""
    name = labels.get(METRIC_NAME, "")
    return next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), "")


def part_of(
    labels: Mapping[str, str], metadata: Mapping[str, MetricMetadata]
) -> ClassicPart | None:
    """What the series with these labels is a part of, if it is one."""
    name = labels.get(METRIC_NAME, "")
    for suffix in _SUFFIXES:
        described = metadata.get(name.removesuffix(suffix)) if name.endswith(suffix) else None
        if described is None or described.type != "histogram":
            continue
        whole = {**labels, METRIC_NAME: described.family}
        bound = 0.0
        if suffix == "_bucket":
            try:
                bound = parse_float(whole.pop(_BOUND, ""))
            except ValueError:
                return None
        text = "\0".join(part for pair in sorted(whole.items()) for part in pair)
        return ClassicPart(f"\1{text}", whole, suffix, bound)
    return None


@dataclass(slots=True)
class _Collected:
    labels: Mapping[str, str]
    time_ms: int | None
    buckets: dict[float, float] = field(default_factory=dict)
    count: float | None = None
    total: float = 0.0
    exemplars: list[ExemplarFields] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConvertedHistogram:
    """A histogram as a message of remote write; `text` is that of its parts."""

    text: str
    labels: Mapping[str, str]
    time_ms: int | None
    message: bytes
    exemplars: Sequence[ExemplarFields]


class ClassicHistograms:
    """Collects the parts of the classic histograms of one scrape."""

    def __init__(self) -> None:
        self._found: dict[str, _Collected] = {}

    def add(self, part: ClassicPart, time_ms: int | None, value: float) -> None:
        """Add the value of a part."""
        whole = self._of(part, time_ms)
        match part.suffix:
            case "_bucket":
                whole.buckets.setdefault(part.bound, value)
            case "_count":
                whole.count = value
            case _:
                whole.total = value

    def add_exemplar(self, part: ClassicPart, exemplar: ExemplarFields) -> None:
        """Add an exemplar of a part."""
        self._of(part, None).exemplars.append(exemplar)

    def converted(self) -> Iterator[ConvertedHistogram]:
        """The histograms that are valid; others are left out, as in Prometheus."""
        for text, whole in self._found.items():
            message = _converted(whole)
            if message is not None:
                yield ConvertedHistogram(
                    text,
                    whole.labels,
                    whole.time_ms,
                    message.SerializeToString(),
                    whole.exemplars,
                )

    def _of(self, part: ClassicPart, time_ms: int | None) -> _Collected:
        found = self._found.get(part.histogram)
        if found is None:
            found = self._found[part.histogram] = _Collected(part.labels, time_ms)
        return found


def _converted(whole: _Collected) -> Histogram | None:
    """The histogram, or None if its counts are not those of one."""
    bounds = sorted(whole.buckets)
    if any(math.isnan(bound) for bound in bounds):
        return None
    cumulative = [whole.buckets[bound] for bound in bounds]
    last = cumulative[-1] if cumulative else 0.0
    count = last if whole.count is None else whole.count
    if bounds and bounds[-1] == math.inf:
        if cumulative[-1] != count:
            return None
        bounds.pop()
    else:
        cumulative.append(count)
    # Not `<`: a NaN is no count.
    if not all(before <= after for before, after in pairwise([0.0, *cumulative])):
        return None
    counts = [after - before for before, after in pairwise([0.0, *cumulative])]
    return _message(whole.total, bounds, counts, count)


def _message(
    total: float, bounds: Sequence[float], counts: Sequence[float], count: float
) -> Histogram:
    populated = [index for index, number in enumerate(counts) if number]
    kept = [counts[index] for index in populated]
    sent = Histogram(
        sum=total, schema=CUSTOM_BUCKETS, custom_values=bounds, positive_spans=_spans(populated)
    )
    if count < _TOO_LARGE and all(number.is_integer() for number in kept):
        whole = [int(number) for number in kept]
        sent.count_int, sent.zero_count_int = int(count), 0
        sent.positive_deltas.extend(after - before for before, after in pairwise([0, *whole]))
    else:
        sent.count_float, sent.zero_count_float = count, 0.0
        sent.positive_counts.extend(kept)
    return sent


def _spans(indices: Sequence[int]) -> list[bytes]:
    """The spans of ascending indices, as messages."""
    return [
        BucketSpan(offset=offset, length=length).SerializeToString()
        for offset, length in span_list(indices)
    ]
