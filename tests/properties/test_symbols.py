"""Requests of version 2.0 hold, written out, what the protobuf library reads in them."""

from dataclasses import dataclass, field

import numba
import numpy as np
import pytest
import snappy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import HISTOGRAM_BITS, HistogramCells
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.remote_pb2 import Label, WriteRequest
from promcompat.remote_write.remote_pb2 import TimeSeries as SeriesV1
from promcompat.remote_write.version_2.remote_v2_pb2 import (
    Exemplar,
    Metadata,
    Request,
    Sample,
    TimeSeries,
)
from promcompat.remote_write.version_2.request import SymbolPieces, SymbolRequest
from promcompat.remote_write.wire_fields import parse_message
from tests.support.factories import encode_field, encode_varint
from tests.support.fakes import columns_bytes
from tests.support.formats.remote_write import WireHistogram
from tests.support.known_series import NOTHING_KNOWN, known_series

LIMIT = 1 << 20


@dataclass
class Expected:
    """Labels and samples of all kinds of the series that are right, and counts of the rest."""

    series: list[tuple[list[object], ...]] = field(default_factory=list)
    n_faults: int = 0
    n_samples: int = 0
    n_histograms: int = 0
    n_starts: int = 0


def _labels(refs: list[int], symbols: list[bytes]) -> list[tuple[bytes, bytes]] | None:
    if len(refs) % 2 or any(ref >= len(symbols) for ref in refs):
        return None
    return [(symbols[a], symbols[b]) for a, b in zip(refs[::2], refs[1::2], strict=True)]


def _read(message: bytes) -> Expected | None:
    """None if the message is malformed."""
    expected = Expected()
    try:
        request = parse_message(Request, message, "a request")
        parsed = [parse_message(TimeSeries, wire, "a series") for wire in request.timeseries]
    except BadDataError:
        return None
    symbols = list(request.symbols)
    for series in parsed:
        expected.n_histograms += len(series.histograms)
        labels = _labels(list(series.labels_refs), symbols)
        meta = series.metadata
        exemplars = [_labels(list(item.labels_refs), symbols) for item in series.exemplars]
        if (
            labels is None
            or max(meta.help_ref, meta.unit_ref) >= max(1, len(symbols))
            or (not symbols and series.HasField("metadata") and _names_a_symbol(series))
        ):
            expected.n_faults += 1
            continue
        if not (series.samples or series.histograms or series.exemplars):
            expected.n_faults += 1
            continue
        expected.n_faults += any(found is None for found in exemplars)
        kept = [
            SeriesV1(
                labels=[Label(name=n, value=v).SerializeToString() for n, v in found]
            ).SerializeToString()
            for found in exemplars
            if found is not None
        ]
        samples = [(sample.timestamp, sample.value) for sample in series.samples]
        histograms = list(series.histograms)
        if samples or kept or histograms:
            expected.series.append(([*labels], [*samples], [*kept], [*histograms]))
    return expected


def _names_a_symbol(series: TimeSeries) -> bool:
    return bool(series.metadata.help_ref or series.metadata.unit_ref)


def _written(message: bytes) -> Expected:
    request, found = SymbolRequest(message, LabelLimits(), LIMIT, LIMIT), Expected()
    while not request.is_done:
        read = request.read_piece(NOTHING_KNOWN)
        request.advance(read)
        piece = read.others
        found.n_faults += piece.n_faults
        found.n_histograms += piece.n_histograms
        for wire in WriteRequest.FromString(piece.message).timeseries:
            series = SeriesV1.FromString(wire)
            labels = [Label.FromString(label) for label in series.labels]
            found.series.append(
                (
                    [(label.name, label.value) for label in labels],
                    [(sample.timestamp, sample.value) for sample in series.samples],
                    [
                        SeriesV1(labels=SeriesV1.FromString(item).labels).SerializeToString()
                        for item in series.exemplars
                    ],
                    list(series.histograms),
                )
            )
    return found


def _check(message: bytes) -> None:
    expected = _read(message)
    if expected is None:
        with pytest.raises(BadDataError):
            _written(message)
        return
    assert _written(message) == expected


texts = st.binary(max_size=4) | st.sampled_from([b"", b"__name__", b"x" * 60])
refs = st.lists(st.integers(0, 6), max_size=6)
words = st.integers(0, (1 << 64) - 1)
times = st.integers(-(1 << 63), (1 << 63) - 1)
samples = st.builds(
    Sample, value=words, timestamp=times, start_timestamp=st.sampled_from([0, 0, 5])
)
exemplars = st.builds(Exemplar, labels_refs=refs, value=words, timestamp=times)
series = st.builds(
    TimeSeries,
    labels_refs=refs,
    samples=st.lists(samples, max_size=2),
    histograms=st.lists(st.binary(max_size=3), max_size=1),
    exemplars=st.lists(exemplars, max_size=2),
    metadata=st.none() | st.builds(Metadata, type=st.integers(0, 9), help_ref=st.integers(0, 7)),
    created_timestamp=st.sampled_from([0, 0, 7]),
).map(lambda message: message.SerializeToString())
odd_fields = st.one_of(
    st.builds(encode_field, st.sampled_from([1, 2, 3, 4, 5, 9, 16]), st.binary(max_size=6)),
    st.builds(lambda number: b"\x08" + encode_varint(number), st.integers(0, 1 << 40)),
    st.builds(lambda number: b"\x30" + encode_varint(number), words),
    st.sampled_from([b"\x00", b"\x0b\x0c", b"\x0f", b"\x12\x80\x00", b"\x8a\x00\x00"]),
    st.binary(max_size=5),
)
odd_series = st.lists(st.one_of(series, series, odd_fields), max_size=4).map(b"".join)
messages = st.lists(
    st.one_of(
        st.builds(encode_field, st.just(4), texts),
        st.builds(encode_field, st.just(4), texts),
        st.builds(encode_field, st.just(5), series),
        st.builds(encode_field, st.just(5), odd_series),
        odd_fields,
    ),
    max_size=9,
).map(b"".join)


@settings(max_examples=500)
@given(messages)
@example(b"*\x03*\x01\x00")
@example(b" \x00")
@example(b"(\x00")
@example(b'*\x07"\x05\n\x01\x00\x00\x00\x18\x01')
def test_series_are_written_out_as_the_protobuf_library_reads_them(message: bytes) -> None:
    _check(message)


@settings(max_examples=200)
@given(messages, st.data())
def test_damaged_messages_are_read_as_the_protobuf_library_reads_them(
    message: bytes, data: st.DataObject
) -> None:
    if not message:
        return
    start = data.draw(st.integers(0, len(message) - 1))
    end = data.draw(st.integers(start, len(message)))
    _check(message[:start] + data.draw(st.binary(max_size=3)) + message[end:])


def _decode(message: bytes, known: KnownSeries, keys: list[bytes]) -> list[object] | None:
    """Everything that is decoded, with keys of series instead of ids; None if it is malformed."""
    pieces = SymbolPieces(snappy.compress(message), len(message), LIMIT)
    try:
        decoded = pieces.decode(known, LabelLimits(), LIMIT)
    except BadDataError:
        return None
    assert not pieces.advance()
    batch, unknown = decoded.batch, iter(decoded.batch.unknown_keys)
    shown = [keys[i - 100] if i >= 0 else next(unknown) for i in batch.series_ids.tolist()]
    assert next(unknown, None) is None
    cells = HistogramCells(batch.values, batch.histograms).compacted()
    return [
        shown,
        batch.timestamps.tolist(),
        cells.values.view(np.uint64).tolist(),
        None if cells.histograms is None else columns_bytes(cells.histograms),
        None if decoded.is_histogram is None else decoded.is_histogram.tolist(),
        (decoded.n_bad_histograms, sorted(decoded.histogram_faults)),
        batch.metadata,
        (decoded.n_received, decoded.n_exemplars, decoded.n_histograms),
        (decoded.n_start_timestamps, decoded.n_undescribed, decoded.refusals),
        decoded.exemplars,
        [0] * len(batch) if batch.starts is None else batch.starts.tolist(),
    ]


PLAIN = WireHistogram(
    timestamp_ms=7,
    schema=3,
    count=16,
    sum=17.5,
    zero_threshold=2.0**-128,
    zero_count=4,
    positive_spans=[(-2, 2), (3, 1)],
    positive=[1, 2, 3],
    negative_spans=[(0, 1)],
    negative=[6],
    hint=1,
)
STALE = 0x7FF0000000000002
HISTOGRAMS = [
    histogram.encode()
    for histogram in (
        PLAIN,
        PLAIN.but(start_ms=3, hint=3),
        PLAIN.but(is_float=True, count=16.5, zero_count=4.5, start_ms=4),
        PLAIN.but(sum=STALE),
        PLAIN.but(count=15),
        PLAIN.but(schema=53),
        PLAIN.but(schema=9, positive_spans=[(2, 2), (2, 1)]),
        WireHistogram(
            schema=-53, count=5, positive_spans=[(1, 2)], positive=[2, 3], custom_values=[1, 2, 3]
        ),
        WireHistogram(),
    )
]
HISTOGRAMS = [*4 * HISTOGRAMS, b"\x08"]

# Without negative times, which the kernels for version 1.0 cannot read when they run as Python.
later_samples = st.builds(
    Sample,
    value=words | st.sampled_from([HISTOGRAM_BITS, HISTOGRAM_BITS + 1]),
    timestamp=st.integers(0, (1 << 63) - 1),
    start_timestamp=st.sampled_from([0, 0, 5]),
)
valid_series = st.builds(
    TimeSeries,
    labels_refs=st.sampled_from([[1, 2], [1, 2, 3, 4], [1, 2, 3, 5], [1, 6, 3, 4], [3, 4], [1, 9]]),
    samples=st.lists(later_samples, max_size=3),
    histograms=st.just([]) | st.lists(st.sampled_from(HISTOGRAMS), max_size=3),
    exemplars=st.sampled_from([[], [], [], [Exemplar(labels_refs=[3, 4], value=1)]]),
    metadata=st.none() | st.builds(Metadata, type=st.integers(0, 3), help_ref=st.integers(0, 7)),
).map(lambda message: message.SerializeToString())
# Histograms before samples, metadata in between, and fields that are not as usual.
unusual_series = st.builds(
    lambda found, odd: b"".join([found, *odd]),
    valid_series,
    st.lists(
        st.sampled_from(HISTOGRAMS).map(lambda message: encode_field(3, message))
        | later_samples.map(lambda sample: encode_field(2, sample.SerializeToString()))
        | st.sampled_from([b"\x2a\x00", b"\x2a\x02\x08\x03", *4 * [b"\x30\x07"], b"\x1a\x05"]),
        min_size=1,
        max_size=3,
    ),
)
valid_messages = st.lists(valid_series | valid_series | unusual_series, max_size=9).map(
    lambda found: Request(
        symbols=[b"", b"__name__", b"metric_name", b"job", b"a" * 130, b"b", b"m"],
        timeseries=found,
    ).SerializeToString()
)


@settings(max_examples=30 if numba.config.DISABLE_JIT else 200)  # type: ignore[attr-defined]
@given(valid_messages, st.data())
def test_known_series_are_decoded_as_unknown_ones_are(message: bytes, data: st.DataObject) -> None:
    """Which series are known changes nothing of what a request holds, nor the order of its rows."""
    expected = _decode(message, NOTHING_KNOWN, [])
    keys = [] if expected is None else list(dict.fromkeys(expected[0]))
    if keys:
        keys = data.draw(st.lists(st.sampled_from(keys), unique=True))
    assert _decode(message, known_series(keys), keys) == expected
