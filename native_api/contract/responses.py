"""JSON responses."""

from collections.abc import Callable

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel

from promcompat.http.bodies import work_of

_COMPRESS_FROM_BYTES = 1024
_BYTES_EACH = 400
"""About, of an item of a list; making and rendering one takes 20 to 50 µs."""


def json_response(
    request: web.Request,
    data: object,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """A response of encoded JSON, a model or plain values; large ones are compressed."""
    if isinstance(data, bytes):
        body = data
    elif isinstance(data, BaseModel):
        body = data.model_dump_json(by_alias=True).encode()
    else:
        body = orjson.dumps(data)
    response = web.Response(
        status=status, body=body, content_type="application/json", headers=headers
    )
    accepted = request.headers.get(hdrs.ACCEPT_ENCODING, "").lower()
    if len(body) >= _COMPRESS_FROM_BYTES and "gzip" in accepted and "gzip;q=0" not in accepted:
        response.enable_compression(web.ContentCoding.gzip)
    return response


async def list_response(
    request: web.Request, n_items: int, make: Callable[[], BaseModel]
) -> web.Response:
    """A response with a model of so many items, which is made in a thread if these are many."""

    def render() -> bytes:
        return make().model_dump_json(by_alias=True).encode()

    body = await work_of(request).work(n_items * _BYTES_EACH, render)
    return json_response(request, body)
