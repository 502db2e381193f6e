"""What a remote-write request means, read by the protobuf library, one sample at a time.

What a histogram says is read as the decoder reads it: `test_histograms` is about that.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import HISTOGRAM_BITS, Histograms
from promcompat.core.model import Labels
from promcompat.remote_write.histograms import decode_histograms
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key
from promcompat.remote_write.wire_fields import parse_message
from tests.support.fakes import columns_bytes

Row = tuple[Labels, int, int | bytes]
"""Labels, Unix ms, and the bits of a float or all of a histogram."""


@dataclass(slots=True)
class Reference:
    """Rows as labels, time and value bits; an error instead when the request is refused."""

    rows: list[Row] = field(default_factory=list)
    n_received: int = 0
    n_exemplars: int = 0
    n_histograms: int = 0
    error: str | None = None


def decode_reference(message: bytes) -> Reference:
    """Decode a WriteRequest."""
    found = Reference()
    try:
        request = parse_message(WriteRequest, message, "prometheus.WriteRequest")
    except BadDataError as exc:
        return Reference(error=str(exc))
    parsed: list[tuple[TimeSeries, Labels | None]] = []
    for wire in request.timeseries:
        try:
            series = parse_message(TimeSeries, wire, "prometheus.TimeSeries")
            labels = _labels_of(series)
        except BadDataError as exc:
            return Reference(error=str(exc))
        found.n_received += len(series.samples)
        found.n_exemplars += len(series.exemplars)
        found.n_histograms += len(series.histograms)
        parsed.append((series, labels))
    try:
        _add_rows(found, parsed)
    except BadDataError as exc:
        return Reference(error=str(exc))
    return found


def _add_rows(found: Reference, parsed: list[tuple[TimeSeries, Labels | None]]) -> None:
    for series, labels in parsed:
        read = decode_histograms(series.histograms) if series.histograms else None
        if labels is None:
            continue
        found.rows += _rows_of(series, labels)
        if read is None:
            continue
        for row in sorted({*range(len(read.bits))} - {*read.faults}):
            value = shown_value(int(read.bits[row]), read.histograms)
            found.rows.append((labels, int(read.timestamps[row]), value))


def shown_value(bits: int, histograms: Histograms | None) -> int | bytes:
    """What the bits of a cell mean."""
    if histograms is None or bits >> 40 != HISTOGRAM_BITS >> 40:
        return bits
    return columns_bytes(histograms.take(np.array([bits ^ HISTOGRAM_BITS])))


def _labels_of(series: TimeSeries) -> Labels | None:
    key = TimeSeries(labels=series.labels).SerializeToString()
    try:
        return decode_series_key(key)
    except InvalidLabelsError:
        return None


def _rows_of(series: TimeSeries, labels: Labels) -> Iterator[Row]:
    for sample in series.samples:
        yield labels, sample.timestamp, sample.value
