"""Short ways to make the values that tests speak of: label sets, batches, matchers, blocks."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from promcompat.core.histograms.columns import Histograms, histogram_cells
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import (
    METRIC_NAME,
    STALE_NAN_BITS,
    Labels,
    MetricMetadata,
    SampleBlock,
    SeriesSelection,
    WriteBatch,
)
from promql.values.histogram_columns import HistogramColumns

STALE_NAN = float(np.array([STALE_NAN_BITS], np.uint64).view(np.float64)[0])
"""Only for columns that are built with `float_column`: arithmetic may quieten the NaN."""

Points = Sequence[tuple[int, float]]
MixedPoints = Sequence[tuple[int, float | HistogramColumns]]
"""Samples that are floats or single histograms."""
Starts = Mapping[Labels, Mapping[int, int]]
"""When the counter of a series began, by the time of the sample that says so; both Unix ms."""


def make_labels(name: str = "", /, **labels: str) -> Labels:
    """The label set of a metric name and labels."""
    return Labels.of({METRIC_NAME: name, **labels})


def float_column(values: Iterable[float]) -> np.ndarray:
    """A float64 column of the exact bits of `values`."""
    return np.fromiter(values, np.float64)


def encode_varint(number: int) -> bytes:
    """An unsigned number below 2**64 as a protobuf varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode_field(field: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return encode_varint(field << 3 | 2) + encode_varint(len(payload)) + payload


def encode_labels(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The label messages of a remote-write 1.0 series, in the order given."""
    return b"".join(
        encode_field(1, encode_field(1, name.encode()) + encode_field(2, value.encode()))
        for name, value in pairs
    )


def series_key(labels: Labels) -> bytes:
    """The key under which a sender that sorts its labels names the series."""
    return encode_labels(labels)


def make_batch(
    series: Mapping[Labels, MixedPoints] | Iterable[tuple[Labels, MixedPoints]],
    metadata: Sequence[MetricMetadata] = (),
    starts: Starts | None = None,
) -> WriteBatch:
    """The batch of all points of all series, series by series."""
    items = list(series.items() if isinstance(series, Mapping) else series)
    keys = [series_key(labels) for labels, points in items for _ in points]
    rows = [point for _, points in items for point in points]
    values, histograms = mixed_column(value for _, value in rows)
    batch = WriteBatch.of_keys(
        keys,
        np.array([timestamp for timestamp, _ in rows], np.int64),
        values,
        {series_key(labels): labels for labels, _ in items},
    )
    if starts:
        began = [starts.get(labels, {}).get(time, 0) for labels, row in items for time, _ in row]
        batch = replace(batch, starts=np.array(began, np.int64))
    return replace(batch, metadata=tuple(metadata), histograms=histograms)


def mixed_column(
    samples: Iterable[float | HistogramColumns],
) -> tuple[np.ndarray, Histograms | None]:
    """A column of samples, and the histograms among them as they are stored."""
    columns = list(samples)
    histograms = [one for one in columns if isinstance(one, HistogramColumns)]
    if not histograms:
        return float_column(columns), None
    values = float_column(0.0 if isinstance(one, HistogramColumns) else one for one in columns)
    places = [place for place, one in enumerate(columns) if isinstance(one, HistogramColumns)]
    values[places] = histogram_cells(np.arange(len(places)))
    return values, HistogramColumns.joined(histograms).stored()


def make_matcher(name: str, op: str, value: str) -> LabelMatcher:
    """The matcher `name op value`, e.g. `make_matcher("job", "=~", "a.*")`."""
    return LabelMatcher(name, MatchOp(op), value)


def select_name(name: str, start_ms: int, end_ms: int) -> SeriesSelection:
    """The samples in `(start_ms, end_ms]` of every series of a metric."""
    matchers = (make_matcher(METRIC_NAME, "=", name),)
    return SeriesSelection(matchers=matchers, start_ms=start_ms, end_ms=end_ms)


def make_block(series: Mapping[Labels, Points]) -> SampleBlock:
    """The block of series, sorted as a repository sorts it; points must ascend in time."""
    ordered = sorted(series.items())
    rows = [point for _, points in ordered for point in points]
    return SampleBlock(
        tuple(labels for labels, _ in ordered),
        np.array([timestamp for timestamp, _ in rows], np.int64),
        float_column(value for _, value in rows),
        np.cumsum([0, *(len(points) for _, points in ordered)], dtype=np.int64),
    )


def block_rows(block: SampleBlock) -> dict[Labels, list[tuple[int, int]]]:
    """What a block holds, to compare: (time, bits of the value) of each series."""
    bits = np.ascontiguousarray(block.values).view(np.uint64)
    bounds = zip(block.offsets, block.offsets[1:], strict=False)
    return {
        labels: list(zip(block.timestamps[lo:hi].tolist(), bits[lo:hi].tolist(), strict=True))
        for labels, (lo, hi) in zip(block.labels, bounds, strict=True)
    }


def value_bits(value: float) -> int:
    """The bits of a value, as `block_rows` gives them."""
    return int(np.array([value]).view(np.uint64)[0])
