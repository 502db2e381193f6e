"""Blocks of Prometheus: which ones are read, what was deleted of them, and damaged ones."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.core.histograms.columns import Histograms, histogram_numbers, is_histogram
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.model import is_stale
from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder
from promcompat.imports.tsdb.blocks import (
    Block,
    BlockSamples,
    BlockTimes,
    find_blocks,
    join,
)
from promcompat.imports.tsdb.index import DamagedBlockError
from promcompat.imports.tsdb.tombstones import DeletedTimes
from promcompat.processes.history.blocks import write_request_of
from promcompat.remote_write.decoder import decode_write_request
from tests.support.formats.prometheus_blocks import (
    FILE_HEAD_BYTES,
    ULID,
    Place,
    WrittenChunk,
    float_chunk,
    histogram_chunk,
    series_record,
    uvarint,
    varint,
    write_block,
    write_index,
    write_meta,
    write_tombstones,
)
from tests.support.histograms import columns_of, histogram_of

LARGEST = (1 << 63) - 1


def read(folder: Path, start_ms: int = 0, end_ms: int = 999) -> BlockSamples:
    """The samples of all series of a block."""
    block = Block(BlockTimes(folder, 0, 1_000))
    try:
        return block.read(start_ms, end_ms, np.ones(len(block.keys), np.bool_))
    finally:
        block.close()


def rows_of(samples: BlockSamples) -> list[tuple[int, int, float]]:
    values = samples.bits.view(np.float64).tolist()
    return list(zip(samples.series.tolist(), samples.timestamps.tolist(), values, strict=True))


def test_unfinished_and_compacted_blocks_are_left_out(tmp_path: Path) -> None:
    parent, child, later = (ULID[:-1] + last for last in "ABC")
    write_meta(tmp_path / parent, 10)
    write_meta(tmp_path / child, 10, parents=[parent, ULID])
    write_meta(tmp_path / later, 5)
    for suffix in (".tmp-for-deletion", ".tmp-for-creation", "X"):
        write_meta(tmp_path / f"{ULID}{suffix}", 10, parents=[later])
    write_meta(tmp_path / ULID.replace("Z", "U"), 10)
    assert find_blocks(tmp_path) == [
        BlockTimes(tmp_path / child, 0, 10),
        BlockTimes(tmp_path / later, 0, 5),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b'{"minTime": 0}',
        b'{"minTime": 0, "maxTime": 1e300}',
        b'{"minTime": 0, "maxTime": 1, "compaction": 7}',
        b'{"minTime": 0, "maxTime": 1, "compaction": {"parents": ["x"]}}',
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, text: bytes) -> None:
    write_meta(tmp_path / ULID, 10)
    (tmp_path / ULID / "meta.json").write_bytes(text)
    with pytest.raises(DamagedBlockError, match=f"{ULID}/meta.json"):
        find_blocks(tmp_path)


def test_samples_that_were_deleted_are_not_read(tmp_path: Path) -> None:
    first = float_chunk((10, 1.0), (20, 2.0), (30, 3.0))
    second = float_chunk((40, 4.0), (50, 5.0))
    write_block(
        tmp_path / ULID,
        {"a": [first, second], "b": [first], "c": [first, second]},
        {"a": [(40, 45), (15, 30), (12, 20)], "c": [(-LARGEST - 1, 20), (50, LARGEST)]},
    )
    assert rows_of(read(tmp_path / ULID)) == [
        (0, 10, 1.0), (0, 50, 5.0),
        (1, 10, 1.0), (1, 20, 2.0), (1, 30, 3.0),
        (2, 30, 3.0), (2, 40, 4.0),
    ]  # fmt: skip
    assert rows_of(read(tmp_path / ULID, 15, 25)) == [(1, 20, 2.0)]


times = st.integers(-5, 5) | st.sampled_from([-LARGEST - 1, LARGEST])


@given(st.lists(st.tuples(times, times), min_size=1), st.lists(times))
def test_a_time_is_deleted_when_one_of_the_ranges_has_it(
    ranges: list[tuple[int, int]], stamps: list[int]
) -> None:
    is_deleted = DeletedTimes.of(ranges).contain(np.array(stamps, np.int64))
    expected = [any(start <= time <= end for start, end in ranges) for time in stamps]
    assert is_deleted.tolist() == expected


EARLY = histogram_of(count=7, sum_=2.5, positive_spans=[(0, 2)], positive=[4, 3])
LATE = histogram_of(is_float=True, count=2.5, sum_=1.0, positive_spans=[(3, 1)], positive=[2.5])


def block_with_histograms(folder: Path) -> None:
    """Series `f` of floats, and `h` of both kinds of histograms, floats and a stale marker."""
    early = histogram_chunk([100, 200, 300], Histograms.joined([EARLY] * 3), stale=[2])
    write_block(
        folder,
        {
            "f": [float_chunk((500, 1.0))],
            "h": [
                WrittenChunk(100, 300, early, encoding=2),
                float_chunk((350, 7.0)),
                WrittenChunk(400, 400, histogram_chunk([400], LATE), encoding=3),
            ],
        },
        {"h": [(150, 250)]},
    )


def test_histograms_are_read_with_floats(tmp_path: Path) -> None:
    block_with_histograms(tmp_path / ULID)
    found = read(tmp_path / ULID)
    keys = list(zip(found.series.tolist(), found.timestamps.tolist(), strict=True))
    assert keys == [(0, 500), (1, 100), (1, 300), (1, 350), (1, 400)]
    values = found.bits.view(np.float64)
    assert is_stale(values).tolist() == [False, False, True, False, False]
    assert found.histograms is not None
    refers = is_histogram(values)
    assert refers.tolist() == [False, True, False, False, True]
    histograms = found.histograms.take(histogram_numbers(values[refers]))
    assert columns_of(histograms) == columns_of(Histograms.joined([EARLY, LATE]))
    assert [len(read(tmp_path / ULID, start, start + 99).series) for start in (100, 200)] == [1, 0]


def test_histograms_are_sent_by_remote_write_with_every_bit(tmp_path: Path) -> None:
    block_with_histograms(tmp_path / ULID)
    message = write_request_of(join([read(tmp_path / ULID)]))
    nothing = KnownSeries(SeriesTableBuilder(1 << 16).table, 0, PendingKeys(), version=0)
    batch = decode_write_request(message, nothing, LabelLimits(), 1 << 20).batch
    names = [batch.labels[key].get("__name__") for key in batch.unknown_keys]
    rows = sorted(zip(names, batch.timestamps.tolist(), range(5), strict=True))
    assert [row[:2] for row in rows] == [
        ("f", 500), ("h", 100), ("h", 300), ("h", 350), ("h", 400)
    ]  # fmt: skip
    values = batch.values[[row[2] for row in rows]]
    assert is_stale(values).tolist() == [False, False, True, False, False]
    assert batch.histograms is not None
    found = batch.histograms.take(histogram_numbers(values[[1, 4]]))
    assert columns_of(found) == columns_of(Histograms.joined([EARLY, LATE]))


@pytest.mark.parametrize("content", [b"\x00\x00rest", b"\x00\x07rest", b"\xff\xff" + bytes(20)])
def test_a_damaged_chunk_of_histograms_is_named(tmp_path: Path, content: bytes) -> None:
    write_block(tmp_path / ULID, {"h": [WrittenChunk(1, 2, content, encoding=2)]})
    with pytest.raises(DamagedBlockError, match="has a chunk of histograms that is damaged"):
        read(tmp_path / ULID)


@pytest.mark.parametrize("encoding", [4, 5, 6])
def test_a_chunk_of_a_later_encoding_says_how_to_copy_it(tmp_path: Path, encoding: int) -> None:
    chunk = WrittenChunk(1, 2, b"\x00\x01rest", encoding=encoding)
    write_block(tmp_path / ULID, {"x": [chunk]})
    text = f"has a chunk of type {encoding}, which is not read.*promcompat import prometheus URL"
    with pytest.raises(DamagedBlockError, match=text):
        read(tmp_path / ULID)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(LARGEST + 1, LARGEST + 1, 0)], "index is damaged: a number"),
        ([(1, LARGEST + 1, 0)], "index is damaged: series"),
        ([(1, 2, FILE_HEAD_BYTES), (3, 4, -1)], "index is damaged: series"),
        ([(1, 2, 1 << 64)], "index is damaged: a number"),
        ([(1, 2, 1 << 32)], "the chunk at 0 of file 2 of .* does not exist"),
        ([(1, 2, (1 << 64) - 1)], "does not exist"),
        ([(1, 2, FILE_HEAD_BYTES + 1)], "the chunk at 9 of file 1 of .* is damaged"),
        ([(1, 2, 1 << 20)], "the chunk at 1048576 of file 1 of .* is damaged"),
    ],
)
def test_impossible_places_of_chunks_are_named(
    tmp_path: Path, places: list[Place], message: str
) -> None:
    write_block(tmp_path / ULID, {"a": [float_chunk((1, 1.0), (2, 2.0))]})
    write_index(tmp_path / ULID, ["a"], [series_record(0, places)])
    with pytest.raises(DamagedBlockError, match=message):
        read(tmp_path / ULID)


def test_a_block_without_files_of_chunks_is_damaged(tmp_path: Path) -> None:
    write_block(tmp_path / ULID, {"a": [float_chunk((1, 1.0))]})
    (tmp_path / ULID / "chunks" / "000001").unlink()
    with pytest.raises(DamagedBlockError, match=r"of file 1 of .* does not exist"):
        read(tmp_path / ULID)


@pytest.mark.parametrize(
    "content", [b"\x80", uvarint(1) + varint(5), uvarint(1) + varint(5) + uvarint(1 << 64)]
)
def test_tombstones_that_end_early_or_are_too_large_are_damaged(
    tmp_path: Path, content: bytes
) -> None:
    write_block(tmp_path / ULID, {"a": [float_chunk((1, 1.0))]})
    write_tombstones(tmp_path / ULID, content)
    with pytest.raises(DamagedBlockError, match="tombstones is damaged"):
        read(tmp_path / ULID)


hostile = st.binary(max_size=40)


@given(st.lists(hostile, max_size=3), hostile, st.booleans())
def test_any_content_with_right_checksums_is_read_or_damaged(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[bytes],
    tombstones: bytes,
    has_labels: bool,
) -> None:
    folder = tmp_path_factory.mktemp("blocks") / ULID
    write_block(folder, {"a": [float_chunk((1, 1.0))]})
    head = b"\x01\x00\x01" if has_labels else b""
    write_index(folder, ["a"], [head + record for record in records])
    write_tombstones(folder, tombstones)
    with suppress(DamagedBlockError):
        read(folder)
