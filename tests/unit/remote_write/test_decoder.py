"""What the decoder makes of requests as real senders write them."""

import numpy as np
import pytest
import snappy

from promcompat.core.errors import BadDataError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import (
    FIRST_REFUSED,
    STALE_NAN_BITS,
    UNKNOWN_SERIES,
    Labels,
    MetricMetadata,
)
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decoder import DecodedWrite, decode_write_request
from promcompat.remote_write.snappy_block import checked_length, unpack
from tests.support.factories import encode_field, encode_labels
from tests.support.formats.remote_write import encode_metadata, encode_request, encode_series
from tests.support.known_series import NOTHING_KNOWN, known_series

NOW = 1_700_000_000_123
UP = (("__name__", "up"), ("job", "node"))
DOWN = (("__name__", "down"), ("job", "node"))
LIMIT = 1 << 25


def decode(body: bytes, known: KnownSeries = NOTHING_KNOWN, limit: int = LIMIT) -> DecodedWrite:
    checked_length(body, limit)
    return decode_write_request(unpack(body), known, LabelLimits(), 250_000)


def rows(decoded: DecodedWrite) -> list[tuple[bytes, int, float]]:
    """The rows, all of unknown series, with their keys."""
    batch = decoded.batch
    assert set(batch.series_ids.tolist()) <= {UNKNOWN_SERIES}
    columns = batch.unknown_keys, batch.timestamps.tolist(), batch.values.tolist()
    return list(zip(*columns, strict=True))


def samples(decoded: DecodedWrite) -> list[tuple[int, float]]:
    batch = decoded.batch
    return list(zip(batch.timestamps.tolist(), batch.values.tolist(), strict=True))


def test_unknown_series_come_with_their_labels() -> None:
    decoded = decode(encode_request([encode_series(UP, (NOW, 1.5))]))
    key = encode_labels(UP)
    assert rows(decoded) == [(key, NOW, 1.5)]
    assert decoded.batch.labels == {key: Labels(UP)}
    assert decoded.n_received == 1


def test_known_series_are_not_decoded_again() -> None:
    key = encode_labels(UP)
    body = encode_request([encode_series(UP, (NOW, 1.5))])
    for known, series_id in ((known_series([key]), 100), (known_series([], [key]), 200)):
        batch = decode(body, known).batch
        assert (batch.series_ids.tolist(), batch.timestamps.tolist()) == ([series_id], [NOW])
        assert (batch.values.tolist(), batch.unknown_keys, batch.labels) == ([1.5], [], {})


def test_series_that_were_refused_lately_are_not_decoded_again() -> None:
    series = [
        encode_series(DOWN, (NOW, 0.5), (NOW + 1, 1.5)),
        encode_series((*DOWN, ("x", "1")), (NOW, 2.5)),
        encode_series(UP, (NOW, 3.5)),
    ]
    known = known_series([encode_labels(UP)], [], [encode_labels(DOWN)])
    batch = decode(encode_request(series), known).batch
    refused = FIRST_REFUSED
    assert batch.series_ids.tolist() == [refused, refused, UNKNOWN_SERIES, 100]
    assert batch.values.tolist() == [0.5, 1.5, 2.5, 3.5]
    assert batch.unknown_keys == list(batch.labels) == [encode_labels((*DOWN, ("x", "1")))]


def test_series_that_were_removed_are_new_again() -> None:
    series = [DOWN, UP, (*DOWN, ("x", "1"))]
    known = known_series(map(encode_labels, series))
    known.table.remove([101])
    batch = decode(encode_request(encode_series(one, (NOW, 1.5)) for one in series), known).batch
    assert batch.series_ids.tolist() == [100, UNKNOWN_SERIES, 102]
    assert batch.unknown_keys == list(batch.labels) == [encode_labels(UP)]


def test_the_batch_says_when_its_ids_were_known() -> None:
    known = known_series([encode_labels(UP)], version=7)
    assert decode(encode_request([]), known).batch.known_version == 7


@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, float("inf"), 5e-324])
def test_known_and_unknown_series_decode_to_the_same_rows(value: float) -> None:
    body = encode_request([encode_series(UP, (NOW, value)), encode_series(DOWN, (NOW + 1, 2.0))])
    known = known_series([encode_labels(UP)])
    assert repr(samples(decode(body, known))) == repr(samples(decode(body)))


@pytest.mark.parametrize("bits", [STALE_NAN_BITS, 0x7FF8000000000001, 0xFFF8000000000000])
@pytest.mark.parametrize("known", [NOTHING_KNOWN, known_series([encode_labels(UP)])])
def test_bits_of_nan_are_kept(bits: int, known: KnownSeries) -> None:
    decoded = decode(encode_request([encode_series(UP, (NOW, bits))]), known)
    assert decoded.batch.values.view(np.uint64).tolist() == [bits]


@pytest.mark.parametrize("time", [0, 1, -1, -(1 << 63), (1 << 63) - 1, 1 << 35, (1 << 35) - 1,
                                  (1 << 42) - 1, 1 << 42])  # fmt: skip
def test_every_timestamp_is_kept(time: int) -> None:
    body = encode_request([encode_series(UP, (time, 3.0), (time, 0.0))])
    single = encode_request([encode_series(UP, (time, 3.0)), encode_series(UP, (time, 0.0))])
    known = known_series([encode_labels(UP)])
    for decoded in (decode(body), decode(body, known), decode(single, known)):
        assert decoded.batch.timestamps.tolist() == [time, time]
        assert decoded.batch.values.tolist() == [3.0, 0.0]


def test_rows_keep_the_order_of_the_request() -> None:
    series = [
        encode_series(UP, (NOW, 0.0)),
        encode_series(DOWN, (NOW, 1.0), (NOW + 1, 2.0)),
        encode_series(UP, (NOW + 2, 3.0)),
        encode_series(UP, (5, 4.0)),
        encode_series(UP, (NOW + 3, 0.0)),
    ]
    decoded = decode(encode_request(series), known_series([encode_labels(UP)]))
    assert decoded.batch.timestamps.tolist() == [NOW, NOW, NOW + 1, NOW + 2, 5, NOW + 3]
    assert decoded.batch.values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 0.0]


def test_a_label_that_ends_like_a_sample_is_not_one() -> None:
    """The bytes before the last 18 must be whole label fields, not only start with known ones."""
    looks_like_a_sample = encode_series((), (NOW, 1.0))
    message = encode_labels(UP) + encode_field(
        1, encode_field(1, b"a") + encode_field(2, looks_like_a_sample)
    )
    decoded = decode(encode_request([message]), known_series([encode_labels(UP)]))
    assert len(decoded.batch) == 0


def test_samples_before_labels_and_unknown_fields_give_the_same_key() -> None:
    sample = encode_series((), (NOW, 1.0))
    message = sample + encode_labels(UP) + encode_field(15, b"from a later version")
    assert decode(encode_request([message])).batch.unknown_keys == [encode_labels(UP)]


def test_labels_are_sorted_and_empty_values_dropped() -> None:
    pairs = [("z", "1"), ("empty", ""), ("__name__", "up"), ("a", "2")]
    decoded = decode(encode_request([encode_series(pairs, (NOW, 1.0))]))
    (labels,) = decoded.batch.labels.values()
    assert labels.pairs == (("__name__", "up"), ("a", "2"), ("z", "1"))


@pytest.mark.parametrize(
    "pairs",
    [
        [("job", "node")],
        [("__name__", ""), ("job", "node")],
        [("__name__", "up"), ("job", "a"), ("job", "b")],
        [("__name__", "up"), ("job", ""), ("job", "b")],
        [("__name__", "up"), ("", "x")],
        [],
    ],
)
def test_series_with_invalid_labels_are_skipped(pairs: list[tuple[str, str]]) -> None:
    body = encode_request([encode_series(pairs, (NOW, 1.0)), encode_series(UP, (NOW, 2.0))])
    decoded = decode(body)
    assert rows(decoded) == [(encode_labels(UP), NOW, 2.0)]
    assert len(decoded.invalid_reasons) == 1
    assert decoded.n_received == 2


def test_series_with_invalid_utf8_are_skipped() -> None:
    bad = encode_field(1, encode_field(1, b"__name__") + encode_field(2, b"\xff\xfe"))
    decoded = decode(encode_request([bad + encode_series((), (NOW, 1.0))]))
    assert len(decoded.batch) == 0
    assert decoded.invalid_reasons == ("a label is not valid UTF-8",)


def test_utf8_names_are_accepted() -> None:
    pairs = [("__name__", "my metric.ü"), ("ключ", "a\nb")]
    decoded = decode(encode_request([encode_series(pairs, (NOW, 1.0))]))
    assert list(decoded.batch.labels.values()) == [Labels(pairs)]


def test_histograms_and_exemplars_are_counted() -> None:
    message = encode_series(UP, (NOW, 1.0)) + encode_field(3, b"\x11" + bytes(8)) * 2
    message += encode_field(4, b"\x08\x00") * 3
    decoded = decode(encode_request([message]))
    assert (decoded.n_exemplars, decoded.n_histograms, len(decoded.batch)) == (2, 3, 4)
    assert decoded.is_histogram is not None
    assert decoded.is_histogram.tolist() == [False, True, True, True]


def test_metadata_keeps_the_last_entry_of_a_family() -> None:
    metadata = [
        encode_metadata("up", 1, "first"),
        encode_metadata("up", 2, "second", "seconds"),
        encode_metadata("", 2),
        encode_metadata("x", 99),
        encode_metadata("y", 4, "nul \0 here"),
    ]
    assert decode(encode_request(metadata=metadata)).batch.metadata == (
        MetricMetadata("up", "gauge", "second", "seconds"),
        MetricMetadata("x", "unknown", "", ""),
        MetricMetadata("y", "gaugehistogram", "nul � here", ""),
    )


def test_empty_request_is_an_empty_batch() -> None:
    decoded = decode(encode_request())
    assert len(decoded.batch) == 0
    assert decoded.batch.timestamps.dtype == np.int64
    assert decoded.batch.values.dtype == np.float64


def test_series_without_samples_are_ignored() -> None:
    assert len(decode(encode_request([encode_labels(UP)])).batch) == 0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "snappy: corrupt input"),
        (b"x", "snappy: corrupt input"),
        (b"\xff\xff\xff\xff\xff\x01", "snappy: corrupt input"),
        (b"\xff\xff\xff\xff\x0f", "snappy: decoded length 4294967295 exceeds limit 33554432"),
        (bytes(snappy.compress(b"\xff\xff")), "proto: cannot decode prometheus.WriteRequest"),
        (encode_request([b"\xff\xff"]), "proto: cannot decode prometheus.TimeSeries"),
        # Known fields of other wire types, which the protobuf library takes for unknown ones.
        (bytes(snappy.compress(b"\x08\x05")), "wrong wireType = 0 for field timeseries"),
        (encode_request([encode_labels(UP) + b"\x10\x05"]), "wireType = 0 for field samples"),
        (
            encode_request([encode_labels(UP) + encode_field(2, b"\x08\x05\x10\x05")]),
            "proto: wrong wireType = 0 for field value",
        ),
        # A histogram that does not fit its series.
        (encode_request([encode_labels(UP) + b"\x22\x7f"]), "cannot decode prometheus.TimeSeries"),
        (
            encode_request([encode_field(1, b"\xff\xff") + encode_series((), (NOW, 1.0))]),
            "proto: cannot decode the labels of a series",
        ),
    ],
)
def test_malformed_requests_are_bad_data(body: bytes, text: str) -> None:
    with pytest.raises(BadDataError, match=text):
        decode(body)


def test_declared_length_is_bounded_before_anything_is_unpacked() -> None:
    body = bytes(snappy.compress(bytes(1000)))
    with pytest.raises(BadDataError, match="decoded length 1000 exceeds limit 999"):
        decode(body, limit=999)


def test_an_empty_known_key_does_not_mislead() -> None:
    """A message shorter than a sample field must not be cut from its neighbours."""
    series = [encode_labels([("__name__", "u")])[:4] + b"", encode_series(UP, (NOW, 1.0))]
    with pytest.raises(BadDataError):
        decode(encode_request(series), known_series([b""]))
