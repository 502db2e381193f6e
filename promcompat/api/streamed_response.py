"""Responses too large to build at once: each piece is sent before the next one is rendered.

A response takes three times the memory of its matrix, and as much again for each copy made by the
envelope and gzip. Sent in pieces it takes a few megabytes, and its first bytes arrive sooner.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import HttpVersion11, hdrs, web

from promcompat.api.envelope import escape_html
from promcompat.api.json_text import dump_json
from promcompat.core.errors import PromcompatError
from promcompat.http.bodies import BODIES
from promcompat.http.compression import GZIP_HEADERS, accepts_gzip, packed_pieces
from promcompat.http.context import tenant_of

_LOGGER = logging.getLogger(__name__)
_PIECE_BYTES = 1 << 18


def new_stream(request: web.Request, content_type: str) -> web.StreamResponse:
    """A response that will be sent in pieces."""
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: content_type})
    if request.version < HttpVersion11:
        # HTTP/1.0 has no chunks: the end of the connection is the end of the response.
        response.force_close()
    return response


@asynccontextmanager
async def ended_or_cut(
    request: web.Request, response: web.StreamResponse, message: str
) -> AsyncIterator[None]:
    """Ends a response that the block prepares and writes.

    A PromcompatError before the status is sent is raised, and so gets a status of its own. A later
    one can only end the connection, which is logged with the `message`.
    """
    try:
        yield
    except PromcompatError as exc:
        if not response.prepared:
            raise
        fields = {"tenant": tenant_of(request), "reason": str(exc)}
        _LOGGER.warning(message, extra=fields)
        if request.transport is not None:
            request.transport.abort()
    else:
        await response.write_eof()


async def stream_success(
    request: web.Request,
    data: Iterable[bytes],
    warnings: Sequence[str] = (),
    infos: Sequence[str] = (),
) -> web.StreamResponse:
    """The success envelope around `data`: pieces of JSON, each rendered in a thread.

    A piece is rendered once the client has received most of the previous ones.
    """
    packs = accepts_gzip(request)
    response = new_stream(request, "application/json")
    if packs:
        response.headers.update(GZIP_HEADERS)
    # Escaped as Go's encoder does.
    pieces = map(escape_html, joined_pieces(_enveloped(data, warnings, infos)))
    chunks = packed_pieces(pieces) if packs else pieces
    threads = request.app[BODIES].of(tenant_of(request))
    # Rendered before the status is sent, so that an error in the first piece gets its status.
    chunk = await threads.in_thread(next, chunks, b"")
    await response.prepare(request)
    while chunk:
        await response.write(chunk)
        chunk = await threads.in_thread(next, chunks, b"")
    await response.write_eof()
    return response


def _enveloped(
    data: Iterable[bytes], warnings: Sequence[str], infos: Sequence[str]
) -> Iterator[bytes]:
    yield b'{"status":"success","data":'
    yield from data
    if warnings:
        yield b',"warnings":' + dump_json(warnings)
    if infos:
        yield b',"infos":' + dump_json(infos)
    yield b"}"


def joined_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The parts joined to pieces worth sending."""
    waiting: list[bytes] = []
    n_bytes = 0
    for part in parts:
        waiting.append(part)
        n_bytes += len(part)
        if n_bytes >= _PIECE_BYTES:
            yield b"".join(waiting)
            waiting, n_bytes = [], 0
    if waiting:
        yield b"".join(waiting)
