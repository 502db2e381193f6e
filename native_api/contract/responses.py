"""JSON responses."""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import orjson
from aiohttp import web
from pydantic import BaseModel

from promcompat.http.bodies import work_of
from promcompat.http.compression import GZIP_HEADERS, is_packed, packed

_BYTES_EACH: Final = 400
"""Roughly the size of an item of a list; making and rendering one takes 5 to 50 µs."""


def json_response(
    request: web.Request,
    data: object,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A response of encoded JSON, a model or plain values; large ones are compressed."""
    return _response(_packed(request, _encoded(data)), status, headers)


async def list_response(
    request: web.Request, n_items: int, make: Callable[[], object]
) -> web.Response:
    """Like `json_response`, for `n_items` items; made and compressed in a thread if many."""
    body = await work_of(request).work(
        n_items * _BYTES_EACH, lambda: _packed(request, _encoded(make()))
    )
    return _response(body)


async def document_response(
    request: web.Request,
    make: Callable[[], object],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """Like `json_response`, for what people write; always made and compressed in a thread.

    A single rule or definition may have half a megabyte.
    """
    body = await work_of(request).in_thread(lambda: _packed(request, _encoded(make())))
    return _response(body, status, headers)


def _encoded(data: object) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, BaseModel):
        return data.model_dump_json(by_alias=True).encode()
    return orjson.dumps(data)


class _Body(NamedTuple):
    content: bytes
    is_packed: bool


def _packed(request: web.Request, content: bytes) -> _Body:
    packs = is_packed(request, len(content))
    return _Body(packed(content) if packs else content, packs)


def _response(
    body: _Body, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    response = web.Response(
        status=status, body=body.content, content_type="application/json", headers=headers
    )
    if body.is_packed:
        response.headers.update(GZIP_HEADERS)
    return response
