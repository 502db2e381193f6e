"""Reads the parameters of a request: form body and URL together, as Go's `FormValue` does."""

from aiohttp import web

from promcompat.api.params import Form, parse_urlencoded

_METHODS_WITH_FORM = ("POST", "PUT", "PATCH")


async def read_form(request: web.Request) -> Form:
    """The parameters of the body, then those of the URL; those of a multipart body come last.

    That is the order of Go's `ParseMultipartForm`. A body of another content type is ignored, and
    so is a malformed multipart body.
    """
    _, _, query_string = request.raw_path.partition("?")
    url_pairs, url_fault = parse_urlencoded(query_string)
    if request.method not in _METHODS_WITH_FORM:
        return Form(url_pairs, url_fault)
    match request.content_type:
        case "application/x-www-form-urlencoded":
            body = await request.read()
            body_pairs, body_fault = parse_urlencoded(body.decode(errors="replace"))
        case "multipart/form-data":
            return Form([*url_pairs, *await _read_multipart(request)], url_fault)
        case _:
            body_pairs, body_fault = [], ""
    return Form([*body_pairs, *url_pairs], body_fault or url_fault)


async def _read_multipart(request: web.Request) -> list[tuple[str, str]]:
    try:
        fields = await request.post()
    except ValueError:
        return []
    return [(name, value) for name, value in fields.items() if isinstance(value, str)]
