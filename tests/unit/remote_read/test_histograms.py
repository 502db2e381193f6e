"""Native histograms in remote read answers, read back by decoders of their own."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from promcompat.core.histograms.columns import histogram_cells
from promcompat.core.model import Labels, SampleBlock
from promcompat.remote_read.answers import chunk_frames, samples_answer
from promcompat.remote_read.remote_read_pb2 import (
    ChunkedReadResponse,
    QueryResult,
    ReadResponse,
    SeriesChunks,
)
from promcompat.remote_write.histograms import decode_histograms
from promcompat.remote_write.remote_pb2 import TimeSeries
from tests.support.factories import make_labels
from tests.support.formats.remote_read import frames, labels_of, read_chunk, read_histogram_chunk
from tests.support.formats.remote_write import WireHistogram, columns_of, same_histograms

PLAIN = WireHistogram(
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
CUSTOM = WireHistogram(
    schema=-53,
    count=6,
    sum=1.0,
    positive_spans=((0, 1), (1, 2)),
    positive=(1, 2, 3),
    custom_values=(0.005, 1.0, 2.5e9),
)
Sample = WireHistogram | float


def block_of(series: dict[Labels, list[Sample]]) -> SampleBlock:
    """The samples of each series at 0, 1, 2 … seconds."""
    found = [one for samples in series.values() for one in samples]
    numbers = np.cumsum([isinstance(one, WireHistogram) for one in found]) - 1
    values = np.array([0.0 if isinstance(one, WireHistogram) else one for one in found])
    for row, one in enumerate(found):
        if isinstance(one, WireHistogram):
            values[row] = histogram_cells(numbers[row : row + 1])[0]
    lengths = [len(samples) for samples in series.values()]
    return SampleBlock(
        tuple(series),
        np.array([1_000 * at for n in lengths for at in range(n)], np.int64),
        values,
        np.cumsum([0, *lengths]),
        histograms=columns_of([one for one in found if isinstance(one, WireHistogram)]),
    )


def from_chunks(block: SampleBlock) -> dict[tuple[tuple[str, str], ...], list[tuple[int, Sample]]]:
    """The samples of a streamed answer; hints are those that a reader sees."""
    answer: dict[tuple[tuple[str, str], ...], list[tuple[int, Sample]]] = {}
    for data in frames(b"".join(chunk_frames(block, 0))):
        (series,) = ChunkedReadResponse.FromString(data).chunked_series
        samples = answer.setdefault(labels_of(series), [])
        for chunk in SeriesChunks.FromString(series).chunks:
            if chunk.type == 1:
                points = read_chunk(chunk.data)
                samples += [(at, float(np.uint64(bits).view(np.float64))) for at, bits in points]
                continue
            found = read_histogram_chunk(chunk.data, chunk.type)
            assert len(found) <= 120
            assert chunk.min_time_ms == found[0].timestamp_ms
            assert chunk.max_time_ms == found[-1].timestamp_ms
            samples += [(one.timestamp_ms, one) for one in found]
    return answer


def from_messages(block: SampleBlock) -> dict[tuple[tuple[str, str], ...], TimeSeries]:
    (result,) = ReadResponse.FromString(samples_answer([block])).results
    wires = QueryResult.FromString(result).timeseries
    return {labels_of(wire): TimeSeries.FromString(wire) for wire in wires}


counts = st.integers(0, 1 << 40) | st.integers(0, (1 << 60))
floats = st.floats(0, 1e300) | st.integers(0, 1000).map(float)


@st.composite
def histograms(draw: st.DrawFn) -> WireHistogram:
    """Of few layouts, so that many can follow each other."""
    is_float = draw(st.booleans())
    numbers = floats if is_float else counts
    layout = draw(st.sampled_from([PLAIN, CUSTOM, PLAIN.but(zero_threshold=0.3), WireHistogram()]))
    return layout.but(
        is_float=is_float,
        hint=draw(st.sampled_from([0, 0, 0, 1, 2, 3])),
        sum=draw(st.floats()),
        count=draw(numbers),
        zero_count=0 if layout.custom_values else draw(numbers),
        positive=tuple(draw(numbers) for _ in layout.positive),
        negative=tuple(draw(numbers) for _ in layout.negative),
    )


@st.composite
def some_series(draw: st.DrawFn) -> dict[Labels, list[Sample]]:
    samples = st.lists(histograms() | st.floats(allow_nan=False), max_size=8)
    return {make_labels(name): draw(samples) for name in ("b", "a")}


@settings(max_examples=60)
@given(some_series())
def test_every_sample_comes_back_in_both_forms(series: dict[Labels, list[Sample]]) -> None:
    block = block_of(series)
    chunks, messages = from_chunks(block), from_messages(block)
    expected = {labels.pairs for labels in series if series[labels]}
    assert list(chunks) == list(messages) == sorted(expected)
    for labels, samples in series.items():
        if not samples:
            continue
        read = chunks[labels.pairs]
        assert [at for at, _ in read] == [1_000 * at for at in range(len(samples))]
        assert [one for _, one in read if isinstance(one, float)] == [
            one for one in samples if isinstance(one, float)
        ]
        sent = columns_of([one for one in samples if isinstance(one, WireHistogram)])
        kept = [one for _, one in read if isinstance(one, WireHistogram)]
        hints = [one.hint for one in samples if isinstance(one, WireHistogram)]
        same_hints = [one.but(hint=hint) for one, hint in zip(kept, hints, strict=True)]
        assert same_histograms(columns_of(same_hints), sent)
        message = messages[labels.pairs]
        assert [sample.timestamp for sample in message.samples] == [
            at for at, one in read if isinstance(one, float)
        ]
        if message.histograms:
            wire = decode_histograms(message.histograms)
            wanted = [at for at, one in read if isinstance(one, WireHistogram)]
            assert wire.timestamps.tolist() == wanted
            if not wire.faults:
                assert same_histograms(wire.histograms, sent)


def hints_of(*samples: Sample) -> list[int]:
    read = from_chunks(block_of({make_labels("m"): list(samples)}))
    return [one.hint for _, one in read[make_labels("m").pairs] if isinstance(one, WireHistogram)]


def test_a_reader_takes_no_histogram_after_a_reset_for_one_without() -> None:
    higher = PLAIN.but(count=22, zero_count=3)
    assert hints_of(PLAIN, PLAIN, higher) == [0, 2, 2]
    assert hints_of(higher, PLAIN) == [0, 0]
    bucket_fell = higher.but(positive=(2, 3, 0, 7, 3))
    assert hints_of(PLAIN, bucket_fell) == [0, 0]
    assert hints_of(PLAIN, 1.0, higher) == [0, 0]
    assert hints_of(PLAIN.but(hint=3), PLAIN.but(hint=3, count=3), PLAIN) == [3, 3, 0]
    assert hints_of(PLAIN, higher.but(hint=1)) == [0, 1]


def test_long_series_have_chunks_of_at_most_120_histograms() -> None:
    n = 2_500
    many: list[Sample] = [PLAIN.but(count=21 + at, zero_count=2 + at) for at in range(n)]
    read = from_chunks(block_of({make_labels("m"): many}))[make_labels("m").pairs]
    assert [at for at, _ in read] == [1_000 * at for at in range(n)]
