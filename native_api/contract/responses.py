"""JSON responses."""

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel

_COMPRESS_FROM_BYTES = 1024


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
