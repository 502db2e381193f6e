"""XOR chunks hold what was encoded, and damaged ones are read within their bounds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from promcompat.imports.tsdb.xor_chunk_kernels import decode_xor_chunks
from promcompat.remote_read.chunk_kernels import (
    MAX_BYTES_OF_CHUNK,
    MAX_BYTES_OF_SAMPLE,
    encode_xor_chunks,
)

times = st.integers(-(1 << 62), (1 << 62) - 1) | st.integers(0, 1 << 20)
values = st.integers(0, (1 << 64) - 1) | st.sampled_from([0, 1 << 62, 0x7FF0000000000002])
rows = st.lists(st.tuples(times, values), min_size=1, max_size=30)


def _encode(points: list[tuple[int, int]]) -> np.ndarray:
    stamps = np.array(sorted(time for time, _ in points), np.int64)
    bits = np.array([value for _, value in points], np.uint64)
    room = MAX_BYTES_OF_SAMPLE * len(points) + MAX_BYTES_OF_CHUNK
    out, ends = np.zeros(room, np.uint8), np.empty(1, np.int64)
    encode_xor_chunks(stamps, bits, np.array([0]), np.array([len(points)]), out, ends)
    return out[: ends[0]]


def _decode(chunk: np.ndarray, n_rows: int) -> tuple[int, list[int], list[int]]:
    stamps, bits = np.empty(n_rows, np.uint64), np.empty(n_rows, np.uint64)
    bounds = np.array([2]), np.array([len(chunk)])
    n_read = decode_xor_chunks(chunk, *bounds, np.array([n_rows]), stamps, bits)
    return n_read, stamps.view(np.int64).tolist(), bits.tolist()


@given(rows)
def test_chunks_are_decoded_as_they_were_encoded(points: list[tuple[int, int]]) -> None:
    expected = sorted(time for time, _ in points), [value for _, value in points]
    assert _decode(_encode(points), len(points)) == (1, *expected)


@given(rows, st.data())
def test_shortened_chunks_are_refused(points: list[tuple[int, int]], data: st.DataObject) -> None:
    chunk = _encode(points)
    end = data.draw(st.integers(2, len(chunk) - 1))
    assert _decode(chunk[:end].copy(), len(points))[0] == 0


@given(st.binary(min_size=2, max_size=200), st.integers(1, 100))
def test_any_bytes_can_be_read(raw: bytes, n_rows: int) -> None:
    assert _decode(np.frombuffer(raw, np.uint8), n_rows)[0] in (0, 1)
