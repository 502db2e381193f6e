"""Compressed answers of both HTTP APIs: which clients read them, and how they are packed.

Always gzip. Never deflate, which Grafana expects without the header of zlib.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from aiohttp import hdrs, web
from isal import igzip, isal_zlib

GZIP_HEADERS: Final[Mapping[str, str]] = {
    hdrs.CONTENT_ENCODING: "gzip",
    hdrs.VARY: hdrs.ACCEPT_ENCODING,
}
"""Of an answer that is packed; the second one keeps caches from sending it to other clients."""
_FROM_BYTES: Final = 512
_LEVEL: Final = 1
"""A level of ISA-L. It compresses 3.2 MB of result JSON 2.6 times in 9 ms; zlib takes 28 ms for 2.5
times at its level 1, and 159 ms for 2.6 times at its level 3."""
_WINDOW_BITS: Final = 31
"""A window of 15 bits, with the header and trailer of gzip."""
_REFUSED: Final = re.compile(r"q=0(\.0{0,3})?")


def accepts_gzip(request: web.Request) -> bool:
    """Whether an Accept-Encoding header names gzip, with a weight that is not zero (RFC 9110)."""
    for part in ",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, ())).lower().split(","):
        coding, _, parameters = part.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return not _REFUSED.fullmatch("".join(parameters.split()))
    return False


def is_packed(request: web.Request, n_bytes: int) -> bool:
    """Whether the answer of so many bytes to a request is packed."""
    return n_bytes >= _FROM_BYTES and accepts_gzip(request)


def packed(content: bytes) -> bytes:
    """Content as gzip."""
    return igzip.compress(content, _LEVEL, mtime=0)


def packed_pieces(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of content as pieces of one gzip member."""
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _WINDOW_BITS)
    for piece in pieces:
        # The compressor may buffer a whole piece.
        if packed_piece := packer.compress(piece):
            yield packed_piece
    yield packer.flush()
