"""What a remote-write request means, read by the protobuf library alone, one sample at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from promcompat.core.errors import BadDataError
from promcompat.core.model import Labels
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key

Row = tuple[Labels, int, int]


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
        request = WriteRequest.FromString(message)
    except DecodeError:
        return Reference(error="proto: cannot decode prometheus.WriteRequest")
    for wire in request.timeseries:
        try:
            series = TimeSeries.FromString(wire)
        except DecodeError:
            return Reference(error="proto: cannot decode prometheus.TimeSeries")
        try:
            labels = _labels_of(series)
        except BadDataError as exc:
            return Reference(error=str(exc))
        found.n_received += len(series.samples)
        found.n_exemplars += len(series.exemplars)
        if labels is not None:
            found.n_histograms += len(series.histograms)
            found.rows += _rows_of(series, labels)
    return found


def _labels_of(series: TimeSeries) -> Labels | None:
    key = TimeSeries(labels=series.labels).SerializeToString()
    try:
        return decode_series_key(key)
    except InvalidLabelsError:
        return None


def _rows_of(series: TimeSeries, labels: Labels) -> Iterator[Row]:
    for sample in series.samples:
        yield labels, sample.timestamp, sample.value
