"""Bodies of lines are cut at line ends, however their chunks arrive."""

import asyncio
import gzip
import zlib

import pytest
import zstandard
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from promcompat.http import line_bodies
from promcompat.http.line_bodies import _contents, _Cutter


@given(st.lists(st.binary(max_size=40).map(lambda chunk: chunk.replace(b"\0", b"\n"))))
def test_pieces_are_whole_lines_and_nothing_is_lost(chunks: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(line_bodies, "PIECE_BYTES", 50)
        cutter = _Cutter()
        pieces = [piece for chunk in chunks if (piece := cutter.add(chunk))]
        rest = cutter.rest()
    assert len(rest) == cutter.n_bytes
    lines = b"\n".join((*pieces, rest)).split(b"\n")
    assert list(filter(None, lines)) == list(filter(None, b"".join(chunks).split(b"\n")))


class Noted(bytes):
    """Notes how often it is looked through."""

    n_looks = 0

    def rfind(self, *arguments: bytes) -> int:  # type: ignore[override]
        self.n_looks += 1
        return super().rfind(*arguments)


def test_a_long_line_in_many_chunks_is_looked_through_once() -> None:
    chunks = [Noted(b"a" * 1_000) for _ in range(5_000)]
    cutter = _Cutter()
    for chunk in chunks:
        assert cutter.add(chunk) == b""
    assert {chunk.n_looks for chunk in chunks} == {1}
    assert cutter.add(b"b\nc") == b"a" * 5_000_000 + b"b"
    assert cutter.rest() == b"c"


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)],
)
async def test_others_are_served_while_a_small_body_becomes_a_large_one(encoding, pack) -> None:  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    payload = StreamReader(BaseProtocol(loop), 1 << 16, loop=loop)
    payload.feed_data(pack(bytes(16 << 20)))
    payload.feed_eof()
    request = make_mocked_request(
        "POST", "/", headers={"Content-Encoding": encoding}, payload=payload
    )
    n_turns = 0

    async def others() -> None:
        nonlocal n_turns
        while True:
            n_turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    seen = [(len(content), n_turns) async for content in _contents(request, 1)]
    task.cancel()
    assert sum(size for size, _ in seen) == 16 << 20
    assert max(size for size, _ in seen) <= 1 << 18
    assert n_turns >= 60
