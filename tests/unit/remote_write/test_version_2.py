"""Requests of remote write 2.0: their labels, metadata and faults."""

import numpy as np
import pytest

from promcompat.core.errors import BadDataError
from promcompat.core.histograms.columns import histogram_numbers
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import UNKNOWN_SERIES, MetricMetadata
from promcompat.remote_write.decoder import DecodedWrite
from promcompat.remote_write.left_series import DROPPED
from promcompat.remote_write.version_2.remote_v2_pb2 import Metadata, Request, Sample, TimeSeries
from promcompat.remote_write.version_2.request import SymbolPieces, SymbolRequest, family_of
from tests.support.factories import encode_labels
from tests.support.formats.remote_write import Pairs, RequestV2, WireHistogram
from tests.support.known_series import NOTHING_KNOWN, known_series

LIMIT = 1 << 20
UP = (("__name__", "up"), ("job", "a"))
OTHER = (("__name__", "other"), ("job", "a"))
KNOWS_UP = known_series([encode_labels(UP)])
HISTOGRAM = WireHistogram(count=1, zero_count=1, sum=0.0)


def decode(request: RequestV2, known=NOTHING_KNOWN) -> DecodedWrite:  # type: ignore[no-untyped-def]
    body = request.body()
    pieces = SymbolPieces(body, len(body), LIMIT)
    decoded = pieces.decode(known, LabelLimits(), LIMIT)
    assert not pieces.advance()
    return decoded


def test_series_are_those_that_senders_of_version_1_made_known() -> None:
    request = RequestV2()
    request.add(UP, (-1_000, 1.5), (2_000, 0x7FF0000000000002), start_ms=500)
    decoded = decode(request, known_series([encode_labels(UP)]))
    batch = decoded.batch
    assert (batch.series_ids.tolist(), batch.timestamps.tolist()) == ([100, 100], [-1_000, 2_000])
    assert batch.values.view(np.uint64).tolist() == [0x3FF8000000000000, 0x7FF0000000000002]
    assert (decoded.n_received, decoded.n_start_timestamps, decoded.refusals) == (2, 2, ())
    assert batch.starts is not None
    assert batch.starts.tolist() == [500, 500]


def test_series_that_were_removed_are_new_again() -> None:
    request = RequestV2()
    request.add(OTHER, (1, 1.0))
    request.add(UP, (1, 1.0), histograms=[HISTOGRAM])
    known = known_series([encode_labels(OTHER), encode_labels(UP)])
    known.table.remove([101])
    batch = decode(request, known).batch
    assert batch.series_ids.tolist() == [100, UNKNOWN_SERIES, UNKNOWN_SERIES]
    assert batch.unknown_keys == [encode_labels(UP)] * 2


@pytest.mark.parametrize("known", [(), (UP,), (UP, OTHER)])
def test_each_sample_keeps_its_start_timestamp_whatever_is_known(known: tuple[Pairs, ...]) -> None:
    request = RequestV2()
    request.add(UP, (1, 1.0), (2, 1.0), start_ms=-500)
    request.add(OTHER, (1, 1.0))
    exemplars = [([("trace_id", "x")], 1.0, 1)]
    request.add(OTHER, (3, 1.0), start_ms=1 << 62, exemplars=exemplars)
    request.add(UP, (3, 1.0), start_ms=7, histograms=[HISTOGRAM, HISTOGRAM.but(start_ms=9)])
    # Its schema is not valid: what has no row has no start.
    request.add(UP, (4, 1.0), start_ms=8, histograms=[HISTOGRAM.but(schema=-60, start_ms=6)])
    batch = decode(request, known_series(map(encode_labels, known))).batch
    assert batch.starts is not None
    assert batch.starts.tolist() == [-500, -500, 0, 1 << 62, 7, 0, 9, 8]


def test_a_request_without_start_timestamps_has_no_column_of_them() -> None:
    request = RequestV2()
    request.add(UP, (1, 1.0), histograms=[HISTOGRAM])
    assert decode(request).batch.starts is None


def test_histograms_of_known_series_are_read_from_the_request() -> None:
    request = RequestV2()
    request.add(UP, (1, 1.0), histograms=[HISTOGRAM, HISTOGRAM.but(count=2)], metadata=(3, "", ""))
    read = SymbolRequest(request.message(), LabelLimits(), LIMIT, LIMIT)
    piece = read.read_piece(known_series([encode_labels(UP)]))
    assert piece.others.message == b""
    assert piece.known.rows.is_histogram is not None
    # The second one has a fault, so that its row is dropped.
    assert piece.known.rows.is_histogram.tolist() == [False, True, True]
    assert piece.known.rows.ids.tolist() == [100, 100, DROPPED]
    assert (piece.known.n_histograms, piece.known.n_bad_histograms) == (2, 1)


def test_a_histogram_that_is_not_valid_is_told_with_the_labels_of_its_series() -> None:
    request = RequestV2()
    request.add(UP, histograms=[HISTOGRAM.but(count=2)])
    told = [decode(request, known).histogram_faults for known in (NOTHING_KNOWN, KNOWS_UP)]
    assert told[0] == told[1]
    assert told[0][0].endswith(' for series {__name__="up", job="a"}')


@pytest.mark.parametrize("n_buckets", [10, 9_000, 30_000])
def test_large_histograms_make_several_pieces(n_buckets: int) -> None:
    """A piece has about a megabyte of histograms; the columns of a histogram take more."""
    request, n_series = RequestV2(), 60
    large = HISTOGRAM.but(positive_spans=[(0, n_buckets)], positive=[0.5] * n_buckets)
    large = large.but(is_float=True, count=0.5 * n_buckets + 1)
    labels = [(("__name__", "h"), ("n", str(number))) for number in range(n_series)]
    for pairs in labels:
        request.add(pairs, histograms=[large])
    body = request.body()
    most = 1 << 25
    pieces = SymbolPieces(body, most, most)
    ids: list[int] = []
    while True:
        decoded = pieces.decode(known_series(map(encode_labels, labels)), LabelLimits(), LIMIT)
        assert decoded.n_histograms * n_buckets * 8 <= (1 << 21) + n_buckets * 8
        ids += decoded.batch.series_ids.tolist()
        if not pieces.advance():
            break
    assert ids == list(range(100, 100 + n_series))


def test_metadata_is_that_of_families_and_comes_once() -> None:
    request = RequestV2()
    for name, kind in (("h_bucket", 3), ("h_sum", 3), ("s_count", 5), ("c_total", 1), ("_sum", 3)):
        for instance in ("a", "b"):
            request.add(
                [("__name__", name), ("instance", instance)],
                (1, 1.0),
                metadata=(kind, f"help {kind}", "s"),
            )
    request.add([("__name__", "new")], (1, 1.0), metadata=(1 << 31, "", ""))
    assert sorted(decode(request).batch.metadata, key=lambda entry: entry.family) == [
        MetricMetadata("_sum", "histogram", "help 3", "s"),
        MetricMetadata("c_total", "counter", "help 1", "s"),
        MetricMetadata("h", "histogram", "help 3", "s"),
        MetricMetadata("new", "unknown", "", ""),
        MetricMetadata("s", "summary", "help 5", "s"),
    ]


def test_only_histograms_and_summaries_have_families_of_other_names() -> None:
    assert family_of(b"x_sum", 3) == family_of(b"x_sum", 5) == b"x"
    assert family_of(b"x_sum", 1) == b"x_sum"
    assert family_of(b"x_bucket", 5) == b"x_bucket"


def test_faults_are_told_in_the_words_of_prometheus_and_the_rest_is_decoded() -> None:
    sample = [Sample(value=1, timestamp=1)]
    series = [
        TimeSeries(labels_refs=[1, 2, 3], samples=sample),
        TimeSeries(labels_refs=[9, 2], samples=sample),
        TimeSeries(labels_refs=[1, 2], samples=sample, metadata=Metadata(help_ref=7)),
        TimeSeries(labels_refs=[1, 2], samples=sample, metadata=Metadata(unit_ref=8)),
        TimeSeries(labels_refs=[1, 2, 3, 4]),
        TimeSeries(labels_refs=[3, 4], samples=sample),
        TimeSeries(labels_refs=[1, 2], samples=sample),
    ]
    request = RequestV2(["", "__name__", "up", "job", "a"], [s.SerializeToString() for s in series])
    decoded = decode(request)
    assert decoded.refusals == (
        "parsing labels for series [1 2 3]: invalid labelRefs length 3",
        "parsing labels for series [9 2]: labelRefs 9 (name) = 2 (value) outside of symbols table "
        "(size 5)",
        "parsing metadata for series [1 2]: metadata help_ref 7 outside of symbols table (size 5)",
        "parsing metadata for series [1 2]: metadata unit_ref 8 outside of symbols table (size 5)",
        'TimeSeries must contain at least one sample or histogram for series {__name__="up", '
        'job="a"}',
        'invalid metric name or labels, got {job="a"}',
    )
    assert len(decoded.batch) == 1


def test_series_with_only_an_exemplar_are_no_fault() -> None:
    request = RequestV2()
    request.add(UP, exemplars=[([("trace_id", "x")], 1.0, 1)])
    request.add(UP, exemplars=[([("trace_id", "x" * 600)], 1.0, 1)])
    decoded = decode(request)
    assert (len(decoded.batch), decoded.n_exemplars, decoded.refusals) == (0, 2, ())


def test_large_requests_are_read_in_pieces_that_hold_every_series_once() -> None:
    request = RequestV2()
    long_value = "v" * 2_000
    for number in range(1_500):
        pairs = [("__name__", "m"), ("long", long_value), ("number", str(number))]
        request.add(pairs, (number, 1.0))
    opened = SymbolRequest(request.message(), LabelLimits(), LIMIT, LIMIT)
    pieces = []
    while not opened.is_done:
        piece = opened.read_piece(NOTHING_KNOWN)
        pieces.append(piece.others.message)
        opened.advance(piece)
    assert len(pieces) == 3
    assert sum(piece.count(long_value.encode()) for piece in pieces) == 1_500


def test_what_is_known_behind_the_end_of_a_piece_is_read_and_counted_once() -> None:
    request = RequestV2()
    for number in range(1_500):
        request.add([("__name__", "m"), ("long", "v" * 2_000), ("number", str(number))], (1, 1.0))
        samples = [(3 * number + place, 1.0) for place in range(3)]
        histogram = HISTOGRAM.but(timestamp_ms=number, sum=float(number), start_ms=700)
        request.add(UP, *samples, start_ms=500, histograms=[histogram])
    body = request.body()
    pieces = SymbolPieces(body, len(body), LIMIT)
    counted, sums, has_next = [], [], True
    while has_next:
        decoded = pieces.decode(KNOWS_UP, LabelLimits(), LIMIT)
        batch = decoded.batch
        counted.append((decoded.n_start_timestamps, decoded.n_histograms, decoded.n_received))
        assert batch.starts is not None
        assert batch.histograms is not None
        assert decoded.is_histogram is not None
        expected = np.where(batch.series_ids >= 0, np.where(decoded.is_histogram, 700, 500), 0)
        assert batch.starts.tolist() == expected.tolist()
        numbers = histogram_numbers(batch.values[decoded.is_histogram])
        sums += batch.histograms.sums[numbers].tolist()
        assert batch.timestamps[decoded.is_histogram].tolist() == sums[-len(numbers) :]
        has_next = pieces.advance()
    assert len(counted) > 2
    assert np.sum(counted, axis=0).tolist() == [6_000, 1_500, 6_000]
    assert sums == list(range(1_500))


def test_what_is_larger_written_out_than_any_request_may_be_is_refused() -> None:
    request = RequestV2()
    for _ in range(500):
        request.add([("__name__", "m"), ("long", "v" * 2_000)], (1, 1.0))
    opened = SymbolRequest(request.message(), LabelLimits(), LIMIT, 100_000)
    with pytest.raises(BadDataError, match="take more than 400000 bytes"):
        opened.read_piece(NOTHING_KNOWN)


def test_labels_beyond_every_limit_are_refused_before_they_are_written_out() -> None:
    request = RequestV2()
    request.add([("__name__", "m"), *((f"l{n}", "v" * 60_000) for n in range(5))], (1, 1.0))
    (refusal,) = decode(request).refusals
    assert refusal.startswith("the labels of a series take more than")


@pytest.mark.parametrize(("n_symbols", "n_series"), [(41, 1), (1, 11)])
def test_the_number_of_symbols_and_series_is_bounded(n_symbols: int, n_series: int) -> None:
    message = Request(symbols=[b""] * n_symbols, timeseries=[b""] * n_series).SerializeToString()
    with pytest.raises(BadDataError, match="more than"):
        SymbolRequest(message, LabelLimits(), 10, LIMIT)


def test_a_piece_that_is_decoded_again_is_the_same() -> None:
    request = RequestV2()
    request.add(UP, (1, 1.0), metadata=(1, "help", ""))
    request.add([*UP, ("z", "new")], (1, 1.0))
    request.add([("__name__", "m"), ("job", "a" * 3)])
    body = request.body()
    pieces = SymbolPieces(body, len(body), LIMIT)
    known = known_series([encode_labels(UP)])
    found = [pieces.decode(known, LabelLimits(), LIMIT) for _ in range(2)]
    for decoded in found:
        assert decoded.batch.series_ids.tolist() == [100, -1]
        assert decoded.batch.metadata == (MetricMetadata("up", "counter", "help", ""),)
        assert len(decoded.refusals) == 1
    assert not pieces.advance()


def test_many_samples_of_known_series_come_in_pieces() -> None:
    request = RequestV2()
    times = [(number, float(number)) for number in range(9_000)]
    for size in (3_000, 9_000, 3_000, 10):
        request.add(UP, *times[:size])
    body = request.body()
    pieces = SymbolPieces(body, len(body), LIMIT)
    known = known_series([encode_labels(UP)])
    found: list[int] = []
    while True:
        batch = pieces.decode(known, LabelLimits(), LIMIT).batch
        assert set(batch.series_ids.tolist()) <= {100}
        found += batch.timestamps.tolist()
        if not pieces.advance():
            break
    assert found == [*range(3_000), *range(9_000), *range(3_000), *range(10)]
