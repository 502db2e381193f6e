"""Reads the body of a request and decompresses it."""

from aiohttp import hdrs, web

from native_api.contract.problem import InvalidRequestError, errors_blamed_on, fault
from promcompat.core.errors import UnsupportedEncodingError, UnsupportedMediaTypeError
from promcompat.http.bodies import BODIES, media_type


async def read_body(request: web.Request, max_bytes: int, max_decoded_bytes: int) -> bytes:
    """The body, decompressed, which has more than white space.

    Raises InvalidRequestError for an empty one, PayloadTooLargeError, RequestTimeoutError,
    OverloadedError, UnsupportedMediaTypeError for a coding other than gzip, and BadDataError for a
    body that is not what its coding says.
    """
    body = await _unpacked(request, max_bytes, max_decoded_bytes)
    if not body or body.isspace():
        raise InvalidRequestError([fault("body", "body", "is empty", "a JSON document")])
    return body


async def _unpacked(request: web.Request, max_bytes: int, max_decoded_bytes: int) -> bytes:
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    bodies = request.app[BODIES]
    match encoding:
        case "gzip":
            with errors_blamed_on(
                "body", "body", "a body compressed as the Content-Encoding header says"
            ):
                return await bodies.read_unpacked(request, max_bytes, max_decoded_bytes)
        case "" | "identity":
            return await bodies.read(request, min(max_bytes, max_decoded_bytes))
        case _:
            raise UnsupportedEncodingError(
                f"Content-Encoding {encoding[:50]!r} is not supported; use gzip"
            )


def check_media_type(request: web.Request, allowed: tuple[str, ...]) -> None:
    """Raises UnsupportedMediaTypeError for another media type; an absent one is accepted."""
    given = media_type(request)
    if given and given not in allowed:
        raise UnsupportedMediaTypeError(
            f"Content-Type {given[:100]!r} is not supported; use {' or '.join(allowed)}"
        )
