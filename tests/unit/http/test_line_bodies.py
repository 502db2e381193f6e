"""Bodies of lines are cut at line ends, however their chunks arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promcompat.http import line_bodies
from promcompat.http.line_bodies import _Cutter


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
