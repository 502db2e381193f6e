"""Reads bodies of lines of any length in pieces, decompressed while they arrive.

A piece ends with a line. Memory is bounded by the size of a piece and of the longest line.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import zstandard
from aiohttp import hdrs, web

from promcompat.core.errors import (
    BadDataError,
    OverloadedError,
    PayloadTooLargeError,
    RequestTimeoutError,
    UnsupportedMediaTypeError,
)
from promcompat.http.bodies import BODIES, MAX_GZIP_MEMBERS, held_by, next_chunk, work_of
from promcompat.remote_write.snappy_block import checked_length, unpack

PIECE_BYTES: Final = 1 << 20
MAX_LINE_BYTES: Final = 10_000_000
_MAX_STEP_BYTES: Final = 1 << 18
"""The most that one call of zlib returns, and that is handled before other requests get a turn."""
_GZIP_SLICE_BYTES: Final = 1 << 14
"""zlib copies what follows the end of a member, and a member may be as short as twenty bytes."""
_ZSTD_SLICE_BYTES: Final = 256
"""A block of zstd has at least four bytes and at most 128 KiB of content: 8 MiB for a slice, which
take 2 ms."""
_ZSTD_WINDOW_BYTES: Final = 8 << 20
_GZIP_WINDOW: Final = 31
_ZLIB_WINDOW: Final = 15


class Unpacker(Protocol):
    """Decompresses a body that comes in chunks; both methods raise BadDataError."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The content that is complete after the next chunk."""

    def finish(self) -> Iterator[bytes]:
        """The rest, after the last chunk."""


class _Plain(Unpacker):
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def finish(self) -> Iterator[bytes]:
        yield from ()


class _Zlib(Unpacker):
    """gzip, of one or more members, and zlib."""

    def __init__(self, name: str, window: int) -> None:
        self._name, self._window = name, window
        self._stream = zlib.decompressobj(window)
        self._n_members = 1
        self._is_open = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _GZIP_SLICE_BYTES):
            yield from self._feed(chunk[start : start + _GZIP_SLICE_BYTES])

    def _feed(self, left: bytes) -> Iterator[bytes]:
        is_full = False
        # A step that is full may have left content that needs no further input.
        while left or is_full:
            if self._stream.eof:
                self._begin_member()
            try:
                content = self._stream.decompress(left, _MAX_STEP_BYTES)
            except zlib.error as exc:
                raise BadDataError(f"the body is not valid {self._name}") from exc
            left = self._stream.unused_data or self._stream.unconsumed_tail
            self._is_open = not self._stream.eof
            is_full = self._is_open and len(content) == _MAX_STEP_BYTES
            yield content

    def _begin_member(self) -> None:
        if self._n_members == MAX_GZIP_MEMBERS:
            raise BadDataError(f"the {self._name} body has more than {MAX_GZIP_MEMBERS} members")
        self._n_members += 1
        self._stream = zlib.decompressobj(self._window)

    def finish(self) -> Iterator[bytes]:
        if self._is_open:
            raise BadDataError(f"the {self._name} body is truncated")
        yield from ()


class _Zstandard(Unpacker):
    def __init__(self) -> None:
        self._stream = _zstandard_stream()
        self._is_open = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        for start in range(0, len(chunk), _ZSTD_SLICE_BYTES):
            left = chunk[start : start + _ZSTD_SLICE_BYTES]
            while left:
                if self._stream.eof:
                    self._stream = _zstandard_stream()
                try:
                    yield self._stream.decompress(left)
                except zstandard.ZstdError as exc:
                    raise BadDataError("the body is not valid zstd") from exc
                left = self._stream.unused_data
                self._is_open = not self._stream.eof

    def finish(self) -> Iterator[bytes]:
        if self._is_open:
            raise BadDataError("the zstd body is truncated")
        yield from ()


def _zstandard_stream() -> "zstandard.ZstdDecompressionObj":
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()


def unpacker_of(encoding: str) -> Unpacker:
    """What decompresses a Content-Encoding. Raises UnsupportedMediaTypeError for others."""
    match encoding:
        case "" | "identity":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Zlib("gzip", _GZIP_WINDOW)
        case "deflate" | "zlib":
            return _Zlib("zlib", _ZLIB_WINDOW)
        case "zstd":
            return _Zstandard()
        case other:
            raise UnsupportedMediaTypeError(
                f"the encoding {other!r} is not supported; use gzip, deflate, zstd, snappy or none"
            )


@dataclass(frozen=True, slots=True)
class LinePiece:
    """Complete lines of a body; the first one has this number, from 1 on."""

    content: bytes
    first_line: int

    def lines(self) -> list[str]:
        """The lines without their ends; bytes that are not UTF-8 become lone surrogates."""
        return self.content.decode(errors="surrogateescape").split("\n")


async def line_pieces(request: web.Request, max_block_bytes: int) -> AsyncIterator[LinePiece]:
    """The body in pieces; the memory of a piece is held until the next one is asked for.

    Raises BadDataError, UnsupportedMediaTypeError, PayloadTooLargeError for a line that is too
    long, and OverloadedError, also when the client pauses too long.
    """
    held, first_line = held_by(request), 1
    n_held = 0
    cutter = _Cutter()
    async for content in _contents(request, max_block_bytes):
        held.take(len(content))
        n_held += len(content)
        if piece := cutter.add(content):
            yield LinePiece(piece, first_line)
            first_line += piece.count(b"\n") + 1
            held.give_back(n_held - cutter.n_bytes)
            n_held = cutter.n_bytes
    if rest := cutter.rest():
        yield LinePiece(rest, first_line)
    held.give_back(n_held)


async def _contents(request: web.Request, max_block_bytes: int) -> AsyncIterator[bytes]:
    """The content in steps, between which other requests are served."""
    try:
        async for content in _unpacked(request, max_block_bytes):
            for start in range(0, len(content), _MAX_STEP_BYTES):
                step = content[start : start + _MAX_STEP_BYTES]
                yield step
                if len(step) == _MAX_STEP_BYTES:
                    await asyncio.sleep(0)
    except (TimeoutError, RequestTimeoutError) as exc:
        # Senders drop samples on 4xx, and must not because of a slow network.
        raise OverloadedError(
            "the request body did not arrive in time; send the request again"
        ) from exc


async def _unpacked(request: web.Request, max_block_bytes: int) -> AsyncIterator[bytes]:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding == "snappy":
        yield await _snappy_content(request, max_block_bytes)
        return
    unpacker = unpacker_of(encoding)
    while chunk := await next_chunk(request):
        for content in unpacker.feed(chunk):
            yield content
    for content in unpacker.finish():
        yield content


async def _snappy_content(request: web.Request, max_bytes: int) -> bytes:
    """A body in the block format, which is only complete as a whole; held until the request ends.

    Raises as `RequestBodies.read`, and BadDataError.
    """
    block = await request.app[BODIES].read(request, max_bytes)
    n_bytes = checked_length(block, max_bytes)
    held_by(request).take(n_bytes)
    return await work_of(request).work(n_bytes, unpack, block)


async def whole_body(request: web.Request, max_bytes: int) -> bytes:
    """The decompressed body; it counts as held until the request ends. Raises as `line_pieces`."""
    parts: list[bytes] = []
    n_bytes = 0
    async for content in _contents(request, max_bytes):
        n_bytes += len(content)
        if n_bytes > max_bytes:
            raise PayloadTooLargeError(f"the request body is larger than {max_bytes} bytes")
        held_by(request).take(len(content))
        parts.append(content)
    return b"".join(parts)


class _Cutter:
    """Cuts what arrives after the last line end of each megabyte.

    A long line may come in thousands of chunks: each of them is looked at and joined once.
    """

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._n_without_end = 0
        """How many of these, the first ones, are known to have no line end."""
        self.n_bytes = 0

    def add(self, content: bytes) -> bytes:
        """The next piece without its last line end, empty if there is none yet."""
        self._waiting.append(content)
        self.n_bytes += len(content)
        if self.n_bytes < PIECE_BYTES:
            return b""
        for place in range(len(self._waiting) - 1, self._n_without_end - 1, -1):
            end = self._waiting[place].rfind(b"\n")
            if end >= 0:
                return self._cut(place, end)
        self._n_without_end = len(self._waiting)
        if self.n_bytes > MAX_LINE_BYTES:
            raise PayloadTooLargeError(f"a line is longer than {MAX_LINE_BYTES} bytes")
        return b""

    def _cut(self, place: int, end: int) -> bytes:
        """What waits before the line end at a place."""
        last = self._waiting[place]
        piece = b"".join((*self._waiting[:place], last[:end]))
        self._waiting = [last[end + 1 :], *self._waiting[place + 1 :]]
        self._n_without_end = len(self._waiting)
        self.n_bytes -= len(piece) + 1
        return piece

    def rest(self) -> bytes:
        """What came after the last piece."""
        return b"".join(self._waiting)
