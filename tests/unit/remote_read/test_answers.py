"""What remote read answers, read back by a decoder that shares nothing with the encoder."""

import numpy as np
import snappy
from hypothesis import example, given
from hypothesis import strategies as st

from promcompat.core.model import STALE_NAN_BITS, Labels, SampleBlock
from promcompat.remote_read.answers import chunk_frames, samples_answer
from promcompat.remote_read.remote_read_pb2 import QueryResult, ReadResponse
from promcompat.remote_write.remote_pb2 import TimeSeries
from tests.support.factories import STALE_NAN, make_labels
from tests.support.formats.remote_read import BitPoints, labels_of, read_stream

BITS = st.integers(0, (1 << 64) - 1) | st.floats(width=64).map(
    lambda value: int(np.float64(value).view(np.uint64))
)
TIMES = st.lists(
    st.integers(-(1 << 61), 1 << 61) | st.integers(1_700_000_000_000, 1_700_000_400_000),
    unique=True,
    max_size=300,
).map(sorted)


def block_of(series: dict[Labels, BitPoints]) -> SampleBlock:
    rows = [point for points in series.values() for point in points]
    return SampleBlock(
        tuple(series),
        np.array([time for time, _ in rows], np.int64),
        np.array([bits for _, bits in rows], np.uint64).view(np.float64),
        np.cumsum([0, *map(len, series.values())], dtype=np.int64),
    )


@st.composite
def some_series(draw: st.DrawFn) -> dict[Labels, BitPoints]:
    names = draw(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=3))
    series = {}
    for name in names:
        times = draw(TIMES)
        series[make_labels("m", x=name.encode("utf-8", "replace").decode())] = [
            (time, draw(BITS)) for time in times
        ]
    return series


@given(some_series())
@example({make_labels("m"): [(0, 0)]})
@example({make_labels("m"): [(time, time) for time in range(0, 500_000, 1_000)]})
def test_every_sample_comes_back_bit_for_bit(series: dict[Labels, BitPoints]) -> None:
    block = block_of(series)
    expected = {labels.pairs: series[labels] for labels in sorted(series) if series[labels]}
    answer = read_stream(b"".join(chunk_frames(block, 3)))
    assert answer.queries.get(3, {}) == expected
    assert list(answer.queries.get(3, {})) == list(expected)
    (result,) = ReadResponse.FromString(samples_answer([block])).results
    decoded = {}
    for wire in QueryResult.FromString(result).timeseries:
        samples = TimeSeries.FromString(wire).samples
        decoded[labels_of(wire)] = [(sample.timestamp, sample.value) for sample in samples]
    assert decoded == expected
    assert list(decoded) == list(expected)


def test_the_chunk_of_a_known_series_has_the_known_bytes() -> None:
    values = np.array([1.0, 1.0, 2.0, 2.5, STALE_NAN]).view(np.uint64)
    values[4] = STALE_NAN_BITS
    times = np.array([0, 15_000, 30_000, 45_010, 60_010]) + 1_700_000_000_000
    points = list(zip(times.tolist(), values.tolist(), strict=True))
    (frame,) = chunk_frames(block_of({make_labels("m"): points}), 0)
    known = "000580a0abfef9623ff000000000000098753097ffe002b683bff6c5effe80000000000040"
    assert bytes.fromhex(known) in frame


def test_a_long_series_goes_on_in_further_frames() -> None:
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.integers(1, 1 << 40, 100_000))
    points = list(zip(times.tolist(), rng.integers(0, 1 << 63, 100_000).tolist(), strict=True))
    series = {make_labels("m"): points, make_labels("n"): points[:1]}
    answer = read_stream(b"".join(chunk_frames(block_of(series), 0)))
    assert answer.queries[0] == {labels.pairs: found for labels, found in series.items()}
    assert len(answer.frame_bytes) > 2
    assert max(answer.frame_bytes) <= 1 << 20


def test_an_answer_has_a_result_for_each_query() -> None:
    full, empty = block_of({make_labels("m"): [(1, 2)]}), SampleBlock.empty()
    answer = ReadResponse.FromString(samples_answer([empty, full, empty]))
    assert [len(QueryResult.FromString(result).timeseries) for result in answer.results] == [
        0,
        1,
        0,
    ]
    assert snappy.uncompress(snappy.compress(samples_answer([]))) == b""
