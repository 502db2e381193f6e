"""The decoder says of any bytes what the protobuf library says, whatever series are known."""

from contextlib import suppress
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import STALE_NAN_BITS, UNKNOWN_SERIES, Labels
from promcompat.core.series_identity import identity_of
from promcompat.remote_write.decode_kernels import split_points
from promcompat.remote_write.decoder import DecodedWrite, decode_write_request
from promcompat.remote_write.new_series import NewSeries, identify_usual
from promcompat.remote_write.remote_pb2 import TimeSeries, WriteRequest
from promcompat.remote_write.series_key import InvalidLabelsError, decode_series_key
from promcompat.remote_write.snappy_block import unpack
from promcompat.remote_write.wire_fields import split_fields
from tests.support.factories import encode_field, encode_labels, encode_varint
from tests.support.formats.reference_decoder import Row, decode_reference, shown_value
from tests.support.formats.remote_write import (
    WireHistogram,
    encode_metadata,
    encode_request,
    encode_sample,
    encode_series,
)
from tests.support.known_series import NOTHING_KNOWN, known_series

LIMIT = 1 << 20
NOW = 1_700_000_000_000

texts = st.text(st.characters(codec="utf-8"), max_size=6)
bits = st.one_of(st.sampled_from([0, 1 << 63]), st.integers(0, (1 << 64) - 1))
timestamps = st.one_of(
    st.integers(1 << 35, (1 << 42) - 1), st.integers(-(1 << 63), (1 << 63) - 1), st.just(0)
)
samples = st.builds(encode_sample, timestamps, bits)
labels = st.builds(lambda name, value: encode_labels([(name, value)]), texts, texts)
named = st.builds(lambda name: encode_labels([("__name__", name)]), st.sampled_from("abcd"))
varints = st.integers(0, (1 << 64) - 1).map(encode_varint)
odd_varints = st.sampled_from(
    [b"\x80\x00", b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01", b"\x80" * 3]
)
unusual_fields = st.one_of(
    st.builds(encode_field, st.sampled_from([3, 4, 5, 15, 16, 2047]), st.binary(max_size=8)),
    st.builds(lambda tag, number: tag + number, st.sampled_from([b"\x28", b"\x08"]), varints),
    st.builds(lambda tag: bytes([tag]) + bytes(8), st.sampled_from([0x09, 0x21, 0x0D])),
    st.sampled_from([b"\x00", b"\x0b\x0c", b"\x0f", b"\x8a\x00\x00", b"\x12\x80\x00"]),
    st.just(b"\x0a\x82\x00\x0a\x00"),
    st.binary(max_size=6),
    odd_varints.map(lambda number: encode_field(2, b"\x10" + number)),
    st.builds(lambda content: encode_field(2, content), st.binary(max_size=12)),
)
histograms = st.builds(
    lambda histogram, time_ms, total: encode_field(
        4, histogram.but(timestamp_ms=time_ms, sum=total).encode()
    ),
    st.sampled_from(
        [
            WireHistogram(),
            WireHistogram(count=3, zero_count=1, positive_spans=[(1, 2)], positive=[0, 2]),
            WireHistogram(count=3, zero_count=1),
            WireHistogram(
                is_float=True, schema=-53, count=1.5, custom_values=[1.0],
                positive_spans=[(0, 2)], positive=[0.5, 1.0], hint=3,
            ),
        ]
    ),
    timestamps,
    st.one_of(st.sampled_from([0, STALE_NAN_BITS]), bits),
)  # fmt: skip
usual_series = st.builds(
    lambda name, others, points: name + b"".join(others) + b"".join(points),
    named,
    st.lists(labels, max_size=2),
    st.one_of(
        st.lists(samples, max_size=3),
        st.lists(histograms, max_size=3),
        st.tuples(samples, histograms),
    ),
)
odd_series = st.lists(
    st.one_of(named, labels, samples, samples, histograms, unusual_fields), max_size=6
).map(b"".join)
messages = st.lists(
    st.one_of(
        st.builds(encode_field, st.just(1), st.one_of(usual_series, usual_series, odd_series)),
        st.builds(encode_field, st.just(3), st.builds(encode_metadata, texts)),
        unusual_fields,
    ),
    max_size=6,
).map(b"".join)


def _keys_of(message: bytes) -> list[bytes]:
    """The distinct keys of the storable series of a message."""
    if decode_reference(message).error is not None:
        return []
    series = map(TimeSeries.FromString, WriteRequest.FromString(message).timeseries)
    keys = [TimeSeries(labels=parsed.labels).SerializeToString() for parsed in series]
    return [key for key in dict.fromkeys(keys) if _labels_of(key) is not None]


def _labels_of(key: bytes) -> Labels | None:
    try:
        return decode_series_key(key)
    except InvalidLabelsError:
        return None


def _check(message: bytes, choice: int) -> None:
    """Two bits of `choice` for each series: in the table, pending, refused lately or unknown."""
    keys = _keys_of(message)
    groups = {index: [key for place, key in enumerate(keys) if choice >> 2 * place & 3 == index]
              for index in range(3)}  # fmt: skip
    known = known_series(*groups.values())
    labels_of_id = {
        series_id: decode_series_key(key)
        for key, series_id in zip(keys, known.find(keys).tolist(), strict=True)
    }
    expected = decode_reference(message)
    if expected.error is not None:
        with pytest.raises(BadDataError) as raised:
            decode_write_request(message, known, LabelLimits(), LIMIT)
        assert str(raised.value) == expected.error
        return
    decoded = decode_write_request(message, known, LabelLimits(), LIMIT)
    _check_identities(decoded)
    assert _rows(decoded, labels_of_id) == expected.rows
    assert decoded.n_received == expected.n_received
    assert (decoded.n_exemplars, decoded.n_histograms) == (
        expected.n_exemplars,
        expected.n_histograms,
    )


def _check_identities(decoded: DecodedWrite) -> None:
    for key, identity in decoded.batch.identities.items():
        assert identity == identity_of(decode_series_key(key))


def _rows(decoded: DecodedWrite, labels_of_id: dict[int, Labels]) -> list[Row]:
    batch, unknown = decoded.batch, iter(decoded.batch.unknown_keys)
    value_bits = np.ascontiguousarray(batch.values).view(np.uint64).tolist()
    labels_of_rows = [
        batch.labels[next(unknown)] if series_id == UNKNOWN_SERIES else labels_of_id[series_id]
        for series_id in batch.series_ids.tolist()
    ]
    assert next(unknown, None) is None
    shown = [shown_value(bits, batch.histograms) for bits in value_bits]
    return list(zip(labels_of_rows, batch.timestamps.tolist(), shown, strict=True))


@settings(max_examples=600)
@given(messages, st.integers(0, 4**12 - 1))
def test_messages_of_every_kind_decode_as_the_protobuf_library_reads_them(
    message: bytes, choice: int
) -> None:
    _check(message, choice)


@settings(max_examples=300)
@given(messages, st.data())
def test_damaged_messages_decode_as_the_protobuf_library_reads_them(
    message: bytes, data: st.DataObject
) -> None:
    if not message:
        return
    start = data.draw(st.integers(0, len(message) - 1))
    end = data.draw(st.integers(start, len(message)))
    damage = data.draw(st.binary(max_size=3))
    _check(message[:start] + damage + message[end:], data.draw(st.integers(0, 4**6 - 1)))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_message(message: bytes) -> None:
    _check(message, 0)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_body(body: bytes) -> None:
    with suppress(BadDataError):
        _check(unpack(body), 0)


@given(st.lists(usual_series, max_size=8), st.integers(1, 200))
def test_pieces_hold_the_fields_of_a_message_in_order(series: list[bytes], n_bytes: int) -> None:
    message = b"".join(encode_field(1, wire) for wire in series)
    pieces = split_fields(message, n_bytes, LIMIT, "fields")
    ends = np.empty(len(message) // n_bytes, np.int64)
    n_pieces, n_fields = split_points(np.frombuffer(message, np.uint8), n_bytes, ends)
    bounds = [*ends[:n_pieces].tolist(), len(message)]
    assert n_fields == len(series)
    assert [end for end in dict.fromkeys(bounds) if end] == list(accumulate(map(len, pieces)))


@given(st.lists(st.tuples(texts, st.integers(0, 200), texts), max_size=4))
def test_metadata_of_any_text(entries: list[tuple[str, int, str]]) -> None:
    metadata = [encode_metadata(family, kind, text) for family, kind, text in entries]
    decoded = decode_write_request(
        unpack(encode_request(metadata=metadata)), NOTHING_KNOWN, LabelLimits(), LIMIT
    )
    families = [entry.family for entry in decoded.batch.metadata]
    assert len(set(families)) == len(families)


@given(st.binary(max_size=30))
def test_any_bytes_as_one_label(label: bytes) -> None:
    _check(encode_field(1, encode_field(1, label) + encode_series((), (NOW, 1.0))), 2)


plain = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=9)
awkward = st.text(st.characters(codec="utf-8", max_codepoint=0x17F), max_size=9)
label_names = st.one_of(st.just("__name__"), plain, awkward)
label_lists = st.lists(st.tuples(label_names, st.one_of(plain, plain, awkward)), max_size=5)
SMALL_LIMITS = LabelLimits(
    max_names=3, max_names_of_info=3, max_name_bytes=8, max_value_bytes=8, max_metadata_bytes=8
)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(label_lists, st.booleans(), st.binary(max_size=2)), max_size=4),
    st.sampled_from([LabelLimits(), SMALL_LIMITS]),
)
def test_labels_are_identified_as_those_that_are_decoded(
    series: list[tuple[list[tuple[str, str]], bool, bytes]], limits: LabelLimits
) -> None:
    """Whatever the kernel identifies, decoding would accept, and identify in the same way."""
    keys = [
        encode_labels(sorted(pairs) if is_sorted else pairs) + (b"" if is_sorted else rest)
        for pairs, is_sorted, rest in series
    ]
    for key, identity in identify_usual(keys, limits).items():
        labels = decode_series_key(key)
        assert limits.fault_of(labels) is None
        assert identity == identity_of(labels)


def test_usual_labels_are_not_decoded() -> None:
    key = encode_labels([("__name__", "up"), ("instance", "a:9100"), ("job", "x{y}")])
    new = NewSeries(LabelLimits())
    assert new.accept([key, key]) == [True, True]
    assert new.identities[key].document == '{"instance":"a:9100","job":"x{y}"}'
    assert new.labels == {key: decode_series_key(key)}
