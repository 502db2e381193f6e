"""Native histograms of remote write 1.0 and 2.0, from wire bytes to columns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import STALE_NAN_BITS, Labels
from promcompat.core.series_table import KnownSeries
from promcompat.remote_write.decoder import DecodedWrite, decode_write_request
from promcompat.remote_write.histograms import decode_histograms, read_columns
from promcompat.remote_write.version_2.request import SymbolPieces
from tests.support.factories import encode_field, encode_labels, encode_varint
from tests.support.formats.remote_write import (
    RequestV2,
    WireHistogram,
    columns_of,
    encode_series,
    same_histograms,
    zigzag,
)
from tests.support.known_series import NOTHING_KNOWN, known_series

NOW = 1_700_000_000_123
H = (("__name__", "h"), ("job", "node"))
OTHER = (("__name__", "other"),)
PLAIN = WireHistogram(
    timestamp_ms=NOW,
    schema=3,
    count=21,
    sum=18.4,
    zero_threshold=2.0**-128,
    zero_count=2,
    positive_spans=((-2, 2), (1, 3)),
    positive=(1, 4, 0, 7, 3),
    negative_spans=((0, 1), (3, 1)),
    negative=(2, 2),
)
FLOAT = PLAIN.but(is_float=True, count=21.5, zero_count=2.25, positive=(1.5, 4, 0, 7, 3))
CUSTOM = WireHistogram(
    timestamp_ms=NOW,
    schema=-53,
    count=6,
    sum=1.0,
    positive_spans=((0, 1), (1, 2)),
    positive=(1, 2, 3),
    custom_values=(0.5, 1.0, 2.5),
)
FLOAT_BITS_LIKE_A_HISTOGRAM = 0x7FFD480000000000


def decode(*series: bytes, known: KnownSeries = NOTHING_KNOWN) -> DecodedWrite:
    message = b"".join(encode_field(1, one) for one in series)
    return decode_write_request(message, known, LabelLimits(), 1000)


def decode_v2(request: RequestV2, known: KnownSeries = NOTHING_KNOWN) -> DecodedWrite:
    pieces = SymbolPieces(request.body(), len(request.message()), 1 << 25)
    decoded = pieces.decode(known, LabelLimits(), 1000)
    assert not pieces.advance()
    return decoded


def series_of(*histograms: WireHistogram, labels: tuple[tuple[str, str], ...] = H) -> bytes:
    return encode_labels(labels) + b"".join(encode_field(4, h.encode()) for h in histograms)


def stored(decoded: DecodedWrite) -> Histograms:
    """The histograms of the batch in the order of its rows."""
    batch = decoded.batch
    assert batch.histograms is not None
    return batch.histograms.take(histogram_numbers(batch.values[is_histogram(batch.values)]))


ALL_KINDS = (
    PLAIN,
    FLOAT,
    CUSTOM,
    CUSTOM.but(custom_values=(), positive_spans=(), positive=(), count=0),
    PLAIN.but(hint=3, timestamp_ms=-5),
    PLAIN.but(schema=-4, positive_spans=((-2, 0), (0, 5))),
    PLAIN.but(sum=0x7FF8000000000001, count=25),
    WireHistogram(timestamp_ms=NOW),
    WireHistogram(is_float=True, sum=-0.0, hint=1),
)


@pytest.mark.parametrize("is_packed", [True, False])
def test_every_kind_is_decoded_to_the_bit(is_packed: bool) -> None:
    read = decode_histograms([h.encode(is_packed=is_packed) for h in ALL_KINDS])
    assert read.faults == {}
    assert same_histograms(read.histograms, columns_of(ALL_KINDS))
    assert read.timestamps.tolist() == [h.timestamp_ms for h in ALL_KINDS]
    assert histogram_numbers(read.bits.view(np.float64)).tolist() == list(range(len(ALL_KINDS)))


def test_both_versions_give_the_same_rows() -> None:
    request = RequestV2()
    request.add(H, (NOW + 1, 1.0), histograms=ALL_KINDS)
    request.add(OTHER, (NOW, 2.0))
    first = encode_series(H, (NOW + 1, 1.0)) + b"".join(
        encode_field(4, h.encode()) for h in ALL_KINDS
    )
    for known in (NOTHING_KNOWN, known_series([encode_labels(H)])):
        one = decode(first, encode_series(OTHER, (NOW, 2.0)), known=known)
        two = decode_v2(request, known)
        for decoded in (one, two):
            assert same_histograms(stored(decoded), columns_of(ALL_KINDS))
            assert (decoded.n_received, decoded.n_histograms) == (2, len(ALL_KINDS))
        assert one.batch.values.tobytes() == two.batch.values.tobytes()
        assert one.batch.timestamps.tolist() == two.batch.timestamps.tolist()
        assert one.batch.series_ids.tolist() == two.batch.series_ids.tolist()
        assert one.batch.unknown_keys == two.batch.unknown_keys


def test_stale_markers_become_the_float_one_whatever_else_they_say() -> None:
    stale = PLAIN.but(sum=STALE_NAN_BITS, count=1, schema=99)
    decoded = decode(series_of(stale))
    assert decoded.batch.values.view(np.uint64).tolist() == [STALE_NAN_BITS]
    assert decoded.batch.histograms is None
    assert decoded.is_histogram is not None
    assert decoded.is_histogram.tolist() == [True]


def test_start_timestamps_are_counted_and_unknown_fields_skipped() -> None:
    message = PLAIN.but(start_ms=5).encode() + encode_field(60, b"later")
    read = decode_histograms([message])
    assert (read.starts.tolist(), read.faults) == ([5], {})
    assert same_histograms(read.histograms, columns_of([PLAIN]))


@pytest.mark.parametrize("schema", [9, 10, 20, 52])
@pytest.mark.parametrize("is_float", [True, False])
def test_finer_schemas_are_reduced_to_8(schema: int, is_float: bool) -> None:
    fine = WireHistogram(
        schema=schema,
        count=13,
        positive_spans=((-1, 4),),
        positive=(1, 2, 4, 6),
        is_float=is_float,
    )
    read = decode_histograms([PLAIN.encode(), fine.encode()])
    assert read.faults == {}
    found = read.histograms
    assert found.schemas.tolist() == [3, 8]
    assert same_histograms(found.take(np.array([0])), columns_of([PLAIN]))
    assert found.positive_spans.cells[-1].tolist() == [0, 2]
    expected = np.array([3, 10], np.float64 if is_float else np.int64).view(np.int64)
    assert found.positive.cells[-2:].tolist() == expected.tolist()


INVALID = [
    (PLAIN.but(schema=-5), "histogram has an invalid schema, which must be between -4 and 8 for "
     "exponential buckets, or -53 for custom buckets, got schema -5"),
    (PLAIN.but(schema=53), "histogram has an invalid schema, which must be between -4 and 8 for "
     "exponential buckets, or -53 for custom buckets, got schema 53"),
    (PLAIN.but(schema=1000), "histogram has an invalid schema, which must be between -4 and 8 for "
     "exponential buckets, or -53 for custom buckets, got schema 1000"),
    (PLAIN.but(positive_spans=((0, 2), (-1, 3))), "positive side: span number 2 with offset -1: "
     "histogram has a span whose offset is negative"),
    (PLAIN.but(negative_spans=((0, 3),)), "negative side: spans need 3 buckets, have 2 buckets: "
     "histogram spans specify different number of buckets than provided"),
    (PLAIN.but(schema=9, negative_spans=((0, 3),)), "negative side: spans need 3 buckets, have 2 "
     "buckets: histogram spans specify different number of buckets than provided"),
    (PLAIN.but(positive=(1, -4, 0, 7, 3)), "positive side: bucket number 2 has observation count "
     "of -4: histogram has a bucket whose observation count is negative"),
    (FLOAT.but(negative=(1, -0.5)), "negative side: bucket number 2 has observation count of -0.5: "
     "histogram has a bucket whose observation count is negative"),
    (FLOAT.but(zero_count=-1.5), "zero bucket has observation count of -1.5: histogram has a "
     "bucket whose observation count is negative"),
    (FLOAT.but(count=-2), "observation count is  -2: histogram's observation count is negative"),
    (PLAIN.but(count=22), "21 observations found in buckets, but the Count field is 22: "
     "histogram's observation count should equal the number of observations found in the buckets "
     "(in absence of NaN)"),
    (PLAIN.but(count=20, sum=float("nan")), "21 observations found in buckets, but the Count field "
     "is 20: histogram's observation count should be at least the number of observations found in "
     "the buckets"),
    (PLAIN.but(custom_values=(1.0,)), "histogram with exponential schema must not have custom "
     "bounds"),
    (CUSTOM.but(custom_values=(0.5, 0.5, 1.0)), "custom buckets: previous bound is 0.500000 and "
     "current is 0.500000: histogram custom bounds must be in strictly increasing order"),
    (CUSTOM.but(custom_values=(0.5, 1.0, float("inf"))), "custom buckets: last +Inf bound must not "
     "be explicitly defined: histogram custom bounds must be finite"),
    (CUSTOM.but(custom_values=(float("nan"), 1.0, 2.0)), "custom buckets: histogram custom bounds "
     "must not be NaN"),
    (CUSTOM.but(positive_spans=((-1, 1), (1, 2))), "custom buckets: span number 1 with offset -1: "
     "histogram has a span whose offset is negative"),
    (CUSTOM.but(positive_spans=((0, 1),)), "custom buckets: spans need 1 buckets, have 3 buckets: "
     "histogram spans specify different number of buckets than provided"),
    (CUSTOM.but(custom_values=(0.5, 1.0)), "custom buckets: only 2 custom bounds defined which is "
     "insufficient to cover total span length of 4: histogram custom bounds are too few"),
    (CUSTOM.but(zero_count=1), "custom buckets: must have zero count of 0"),
    (CUSTOM.but(zero_threshold=0.1), "custom buckets: must have zero threshold of 0"),
    (CUSTOM.but(negative_spans=((0, 1),)), "custom buckets: must not have negative spans"),
    (CUSTOM.but(negative=(1,)), "custom buckets: must not have negative buckets"),
]  # fmt: skip


@pytest.mark.parametrize(("histogram", "text"), INVALID)
def test_a_histogram_that_is_not_valid_costs_only_itself(
    histogram: WireHistogram, text: str
) -> None:
    request = RequestV2()
    request.add(H, (NOW, 1.0), histograms=[PLAIN, histogram, FLOAT])
    request.add(OTHER, histograms=[histogram])
    first = encode_series(H, (NOW, 1.0)) + b"".join(
        encode_field(4, h.encode()) for h in (PLAIN, histogram, FLOAT)
    )
    only_bad = series_of(histogram, labels=OTHER)
    for decoded in (decode(first, only_bad), decode_v2(request)):
        assert same_histograms(stored(decoded), columns_of([PLAIN, FLOAT]))
        assert decoded.batch.unknown_keys == [encode_labels(H)] * 3
        assert set(decoded.batch.labels) == {encode_labels(H)}
        assert decoded.histogram_faults == (
            f"{text} for series {Labels(H)}",
            f"{text} for series {Labels(OTHER)}",
        )
        assert (decoded.n_bad_histograms, decoded.n_histograms) == (2, 4)


def test_a_series_with_invalid_labels_takes_its_histograms_with_it() -> None:
    nameless = (("job", "node"),)
    decoded = decode(
        series_of(PLAIN, labels=nameless), series_of(CUSTOM), series_of(FLOAT, labels=nameless)
    )
    assert same_histograms(stored(decoded), columns_of([CUSTOM]))
    assert decoded.batch.histograms is not None
    assert len(decoded.batch.histograms) == 1


def test_floats_that_look_like_histograms_become_the_usual_nan_beside_them() -> None:
    known = known_series([encode_labels(OTHER)])
    bad = FLOAT_BITS_LIKE_A_HISTOGRAM
    mixed = encode_series(H, (NOW, bad)) + encode_field(4, PLAIN.encode())
    request = RequestV2()
    request.add(OTHER, (NOW, bad))
    request.add(H, (NOW, bad), histograms=[PLAIN])
    one = decode(encode_series(OTHER, (NOW, bad)), mixed, known=known)
    for decoded in (one, decode_v2(request, known)):
        assert is_histogram(decoded.batch.values).tolist() == [False, False, True]
        assert np.isnan(decoded.batch.values[:2]).all()


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",
        b"\x1a\x01\x00",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        encode_field(11, b"\x08"),
        encode_field(11, b"\x0a\x00"),
        encode_field(13, b"1234567"),
        encode_field(12, b"\x80"),
        encode_field(1, b""),
        b"\x0b",
        b"\x00\x01",
    ],
)
def test_malformed_histograms_refuse_the_request(message: bytes) -> None:
    broken = encode_labels(H) + encode_field(4, PLAIN.encode()) + encode_field(4, message)
    request = RequestV2()
    request.add(H, (NOW, 1.0), messages=[message])
    with pytest.raises(BadDataError, match=r"proto: cannot decode prometheus\.Histogram"):
        decode(broken)
    with pytest.raises(BadDataError, match=r"proto: cannot decode prometheus\.Histogram"):
        decode_v2(request)


@given(
    messages=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(st.binary(max_size=8), st.integers(0, 60)).map(
                lambda cut: PLAIN.encode()[: cut[1]] + cut[0]
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_bytes_are_read_or_refused(messages: list[bytes]) -> None:
    try:
        read = decode_histograms(messages)
    except BadDataError:
        return
    assert len(read.timestamps) == len(messages)
    n_kept = len(read.histograms)
    assert int(is_histogram(read.bits.view(np.float64)).sum()) == n_kept
    assert read.histograms.positive.lengths.tolist() == [
        int(read.histograms.positive_spans.cells[first:end, 1].sum())
        for first, end in zip(
            read.histograms.positive_spans.offsets[:-1],
            read.histograms.positive_spans.offsets[1:],
            strict=True,
        )
    ]


@given(deltas=st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=12), cut=st.integers(0, 12))
def test_buckets_are_the_running_sums_of_deltas(deltas: list[int], cut: int) -> None:
    """As Prometheus adds them: in 64 bits, which wrap around, and over both forms of a field."""
    parts = [b"".join(encode_varint(zigzag(delta)) for delta in part)
             for part in (deltas[:cut], deltas[cut:])]  # fmt: skip
    message = b"".join(encode_field(12, part) for part in parts)
    found, _ = read_columns(message, np.array([[0, len(message)]]))
    sums = np.cumsum(np.array(deltas, np.int64))
    assert found.positive.cells.tolist() == sums.tolist()
