"""No input to any native endpoint is answered 5xx, and none in the words of a library or driver."""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import TypeAdapter
from yarl import URL

from native_api.contract.pages import encode_cursor
from native_api.contract.route import BASE, Route
from native_api.query.payloads import SampleListQuery
from native_api.routes import ROUTES
from tests.support.services.native_service import NativeClient, running_native_service

pytestmark = pytest.mark.integration

TEXTS = [
    "", " ", "0", "-1", "1e999", "-1e999", "NaN", "null", "{}", "[]", "a=b", "a=~(",
    "a=~" + "(" * 300, str(2**63 - 1), str(2**63), str(2**64), str(10**400), "9" * 5000,
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z",
    "10000-01-01T00:00:00Z", "-62135596800", "253402300799", "253402300800", "1e11", "-1e11",
    "a\0b", "ä" * 3000, "292y", "293y", "106751991167300d", "1ms", "0.5",
    base64.urlsafe_b64encode(b"[" * 5000).decode(), "😀{}/\\\"'",
]  # fmt: skip
JSON_VALUES = [
    "null", "true", "0", "-1", "1.5", "1e400", "-1e400", "NaN", "Infinity",
    str(2**63), str(2**64), str(-(2**63) - 1), "1" + "0" * 400, '""', '"a\\u0000b"',
    '"\\ud800"', '"\\udc00x"', json.dumps("x" * 200_000), "[]", "{}", '[[["a"]]]',
    "[" * 150 + "]" * 150, '{"a":' * 150 + "1" + "}" * 150, '{"a":' * 3000 + "1" + "}" * 3000,
    '"9999-12-31T23:59:59.999Z"', '"0001-01-01T00:00:00Z"', "253402300799", "-62135596800",
    '{"":""}', '{"__name__":"x"}', '{"a":null}', '"9999999999999y"', '"{{ . }}"',
]  # fmt: skip
BODIES = [b"", b"\xff\xfe", b"{", b"[]", b"null", b'{"a":1', b"[" * 100_000, b'"' + b"\\" * 9]
HEADERS = [
    "", "*", "gzip", "br", '"1"', '"' + "9" * 30 + '"', '"1", ' * 500, 'W/"1"', '""', ";;;", "\"",
    "application/json; charset=utf-16", "text/plain", "gzip;q=x, identity;q=0",
]  # fmt: skip
LIBRARY_WORDS = (
    "pydantic", "Input should", "not permitted", "should have at", "asyncpg", "orjson", "Traceback",
    "SQLSTATE", "syntax error at or near", "violates", "out of range for type", "Value error",
)  # fmt: skip


@pytest.fixture
async def native(timescaledb_database_url: str) -> AsyncIterator[NativeClient]:
    async with running_native_service(timescaledb_database_url) as client:
        yield client


async def send(
    native: NativeClient,
    route: Route,
    *,
    part: str = "m",
    query: str = "",
    body: object = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Send a request; the answer is no 5xx, and what it refuses it explains."""
    path = route.full_path
    for name in route.parts:
        path = path.replace(f"{{{name}}}", quote(part, safe=""))
    response = await native.client.request(
        route.method,
        URL(f"{path}?{query}", encoded=True),
        data=body if isinstance(body, bytes) else json.dumps(body or {}).encode(),
        headers={"Content-Type": route.media_types[0], **headers},
    )
    text = await response.text()
    where = (
        f"{route.method} {path[:100]}?{query[:100]} {body!r:.200}: {response.status} {text:.500}"
    )
    assert response.status < 500, where
    assert not [word for word in LIBRARY_WORDS if word in text], where
    # A head that is too large is refused by the server before it knows whose path it is.
    if response.status >= 400 and response.status not in (414, 431):
        for fault in json.loads(text)["errors"]:
            assert fault["in"], where
            assert fault["field"], where
            assert fault["reason"], where
            assert fault["expected"], where


def valid_body(route: Route) -> Any:
    return next(
        (example.body for example in route.examples if example.body and example.status < 300), {}
    )


def bodies_of(route: Route) -> Iterator[bytes]:
    """The route's example with each field it has or may have replaced, also one level deeper."""
    yield from BODIES
    marker = "\x01here"
    valid = valid_body(route)
    known = TypeAdapter(route.body).json_schema(mode="validation").get("properties", {})
    fields: list[tuple[Any, Any]] = [(valid, name) for name in {**known, **valid}]
    for value in valid.values():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            fields += [(inner, name) for name in inner]
    for owner, name in fields:
        kept = dict(owner)
        owner[name] = marker
        template = json.dumps(valid)
        owner.clear()
        owner.update(kept)
        for value in JSON_VALUES:
            yield template.replace(json.dumps(marker), value).encode()


async def test_no_input_is_a_server_error(native: NativeClient) -> None:
    await native.ingest({"name": "m", "value": 1})
    for route in ROUTES:
        await send_everything(native, route)
    # Whatever was taken can be listed.
    for route in ROUTES:
        if route.method == "GET" and not route.parts:
            await send(native, route)
    await native.get("/silences", include_ended="true", limit=1000)


async def send_everything(native: NativeClient, route: Route) -> None:
    await send(native, route, query="unheard_of=1", body=valid_body(route))
    for text in TEXTS:
        for name in route.query.model_fields:
            await send(native, route, query=f"{name}={quote(text)}", body=valid_body(route))
        if route.parts and text:
            await send(native, route, part=text, body=valid_body(route))
    of_body = () if route.method in ("GET", "DELETE") else ("Content-Type", "Content-Encoding")
    for name in [*route.headers, *of_body, "Accept-Encoding"]:
        for text in HEADERS:
            await send(native, route, body=valid_body(route), headers={name: text})
    if route.body is not None:
        for body in bodies_of(route):
            await send(native, route, part="1", body=body)


async def test_forged_cursors_are_refused(native: NativeClient) -> None:
    await native.ingest({"name": "m", "value": 1})
    query = SampleListQuery()
    largest = 2**63 - 1
    for parts in (
        (0, 1, -largest, 1), (-largest, largest, 0, 1), (0, largest, 0, 1), (5, 1, 2_000, 1),
        (0, 10, 5_000, -largest), (2**64, 1, 1, 1),
    ):  # fmt: skip
        try:
            cursor = encode_cursor(query, *parts)
        except TypeError:
            cursor = "WyJhIl0"
        response = await native.client.get(BASE + "/", params={"cursor": cursor})
        assert response.status in (200, 400), await response.text()


async def test_the_range_before_an_early_end_is_one(native: NativeClient) -> None:
    for path in ("/", "/aggregate/m", "/series/m"):
        await native.ingest({"name": "m", "value": 1})
        await native.get(path, end="0001-01-01T00:00:01Z")
        await native.get(path, start="9999-12-31T23:00:00Z")
