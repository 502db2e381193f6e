"""Reads the body of a request, with bounds before and after unpacking."""

import zlib

from aiohttp import hdrs, web

from promcompat.core.errors import BadDataError, PayloadTooLargeError, UnsupportedMediaTypeError

_GZIP_WINDOW = 31
"""zlib's way to say: a window of 32 KiB with a gzip header."""


async def read_body(request: web.Request, max_bytes: int, max_decoded_bytes: int) -> bytes:
    """The body, unpacked.

    Raises PayloadTooLargeError, UnsupportedMediaTypeError for a coding other than gzip, and
    BadDataError for a body that is not what its coding says.
    """
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise UnsupportedMediaTypeError(f"Content-Encoding {encoding!r}: only gzip is spoken here")
    body = await _read(request, max_bytes)
    return _unpack(body, max_decoded_bytes) if encoding == "gzip" else body


async def _read(request: web.Request, max_bytes: int) -> bytes:
    too_large = PayloadTooLargeError(f"the body is larger than {max_bytes} bytes")
    if (request.content_length or 0) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        chunks.append(chunk)
    return b"".join(chunks)


def _unpack(body: bytes, max_bytes: int) -> bytes:
    """The content of one or more gzip members, the last one complete."""
    parts: list[bytes] = []
    size = 0
    try:
        while body:
            stream = zlib.decompressobj(_GZIP_WINDOW)
            part = stream.decompress(body, max_bytes - size + 1)
            size += len(part)
            if size > max_bytes:
                raise PayloadTooLargeError(f"the unpacked body is larger than {max_bytes} bytes")
            if not stream.eof:
                raise BadDataError("the gzip body ends too early")
            parts.append(part)
            body = stream.unused_data
    except zlib.error as exc:
        raise BadDataError(f"the body is not gzip: {exc}") from exc
    return b"".join(parts)


def check_media_type(request: web.Request, allowed: tuple[str, ...]) -> None:
    """Raises UnsupportedMediaTypeError for another media type; one that is absent is taken."""
    if hdrs.CONTENT_TYPE in request.headers and request.content_type not in allowed:
        raise UnsupportedMediaTypeError(
            f"Content-Type {request.content_type!r}: expected {' or '.join(allowed)}"
        )
