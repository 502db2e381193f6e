"""Raw bytes over a socket: what Prometheus takes is taken, what it refuses is refused.

The statuses are those of a running Prometheus 3.5.3, unless a comment says why not.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from promcompat.api import query_handlers
from promcompat.http.request_heads import MAX_HEAD_BYTES
from tests.support.fakes import InMemoryStore
from tests.support.services.http_service import Service, running_service

HOST = b"Host: x\r\n"
CLOSE = HOST + b"Connection: close\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\n"
MULTIPART = b"Content-Type: multipart/form-data; boundary=b\r\n"
FIELD = b'--b\r\nContent-Disposition: form-data; name="query"\r\n\r\n2\r\n--b--\r\n'
ONE = b"/api/v1/query?query=1"


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    async with running_service(InMemoryStore()) as started:
        yield started


async def exchange(service: Service, *pieces: bytes, ends_with: bytes = b"") -> bytes:
    """The answer to bytes that are sent piece by piece, up to the end of the connection."""
    server = service.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(60):
            return await (reader.readuntil(ends_with) if ends_with else reader.read())
    finally:
        writer.close()


def request(target: bytes, fields: bytes = b"", body: bytes = b"", method: bytes = b"GET") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return method + b" " + target + b" HTTP/1.1\r\n" + CLOSE + fields + length + b"\r\n" + body


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (request('/api/v1/query?query=count({city="München"})'.encode()), 200),
        (request("/api/v1/label/städte/values".encode()), 200),
        (request('/api/v1/query?query=count({city="M\xfcnchen"})'.encode("latin-1")), 400),
        (request(b'/api/v1/query?query=count({a=~"b|c",d!="^`"})'), 200),
        (request(b"/api/v1/query?query=1 + 1"), 400),
        (request(ONE + b"%20" * 100_000), 200),
        (request(b"/api/v1/label/" + b"a" * 16_000 + b"/values"), 200),
        (request(b"/a" * 500_000), 414),
        (request(ONE, b"".join(b"X-%d: a\r\n" % i for i in range(1000))), 200),
        (request(ONE, b"X-H: " + b"a" * 900_000 + b"\r\n"), 200),
        (request(ONE, b"X-H: " + b"a" * MAX_HEAD_BYTES + b"\r\n"), 431),
        (request(ONE, "X-H: ä\r\n".encode()), 200),
        (request(ONE, b"X-H: a\r\n\tb\r\n"), 200),
        (request(ONE, b"Content-Length: 0\r\ncontent-length: 0\r\n"), 200),
        (request(ONE, b"Content-Length: 0\r\nContent-Length: 1\r\n"), 400),
        (request(ONE, b"X-H : a\r\n"), 400),
        (request(ONE, b"Expect: 100-Continue\r\n"), 100),
        (request(ONE, b"Expect: something\r\n"), 417),
        (request(ONE, b"Expect: \xed\xa0\x80\r\n"), 417),
        (request(ONE).replace(b"\r\n", b"\n"), 200),
        (request(ONE).replace(b"HTTP/1.1", b"HTTP/1.2"), 200),
        (request(ONE).replace(b"HTTP/1.1", b"HTTP/2.0"), 505),
        (request(ONE).replace(b" HTTP/1.1", b""), 400),
        (request(ONE, method=b"FOO"), 405),
        (b"GET " + ONE + b" HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        # Prometheus prefers one of the two lengths; intermediaries disagree on which.
        (request(ONE, FORM + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"POST"), 400),
        # An empty line before a request is ignored, as RFC 9112 asks for; Prometheus refuses it.
        (b"\r\n" + request(ONE), 200),
    ],
)
async def test_head_is_read_as_prometheus_reads_it(
    service: Service, raw: bytes, status: int
) -> None:
    for pieces in ((raw,), (raw[:7], raw[7:40], raw[40:])):
        answer = await exchange(service, *pieces)
        assert status_of(answer) == status
        if status > 200:
            assert b"Invalid" not in answer
            assert b"^" not in answer


async def test_raw_utf8_reaches_the_query(service: Service) -> None:
    target = '/api/v1/query?query=label_replace(vector(1),"stadt","München","","")'.encode()
    answer = body_of(await exchange(service, request(target)))
    assert answer["data"]["result"][0]["metric"] == {"stadt": "München"}


async def test_bodies_and_later_requests_are_not_touched(service: Service) -> None:
    """The bytes of a body that look like a head, cut anywhere, stay what they are."""
    body = b"query=1%2B1&x=\r\n\r\nGET \xc3\xbc HTTP/1.1\r\n X: y\r\n\r\n"
    length = b"Content-Length: %d\r\n\r\n" % len(body)
    post = b"POST /api/v1/query HTTP/1.1\r\n" + HOST + FORM + length + body
    for cut in (30, len(post) - len(body) - 2, len(post) - 20, len(post)):
        answer = await exchange(service, post[:cut], post[cut:], request(ONE))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        assert b'"2"]' in answer
        assert b'"1"]' in answer


async def test_connection_of_http_1_0_ends_with_a_streamed_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_handlers, "_STREAMED_FROM_POINTS", 1)
    target = b"/api/v1/query_range?query=vector(1)&start=0&end=10&step=1"
    head = b"GET " + target + b" HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    answer = await exchange(service, head)
    assert b"keep-alive" not in answer
    assert len(body_of(answer)["data"]["result"][0]["values"]) == 11


@pytest.mark.parametrize(
    ("path", "location"),
    [
        (b"//api/v1/query?query=1&x=%2F", b"/api/v1/query?query=1&x=%2F"),
        (b"/api//v1/query?query=1", b"/api/v1/query?query=1"),
        (b"/api/./v1/../v1/query", b"/api/v1/query"),
        (b"/api/v1/query/?query=1", b"/api/v1/query?query=1"),
        (b"/metrics/", b"/metrics"),
        (b"/-/healthy/", b"/-/healthy"),
    ],
)
async def test_unclean_path_is_redirected(service: Service, path: bytes, location: bytes) -> None:
    answer = await exchange(service, request(path))
    assert status_of(answer) == 301
    assert b"\r\nLocation: " + location + b"\r\n" in answer


async def test_redirected_writes_keep_their_method_and_body(service: Service) -> None:
    """Prometheus answers 301, after which a sender asks by GET and drops its samples."""
    answer = await exchange(service, request(b"//api/v1/write", b"", b"\0", b"POST"))
    assert status_of(answer) == 308
    headers = {"Content-Encoding": "SNAPPY", "Content-Type": "application/x-protobuf"}
    response = await service.post("/api/v1//write", data=b"\0", headers=headers)
    assert response.status == 204


@pytest.mark.parametrize("path", [b"/nope", b"/nope/", b"//nope", b"/api/v1/nope/", b"/api/v1"])
async def test_unknown_path_is_not_found_whatever_its_form(service: Service, path: bytes) -> None:
    assert status_of(await exchange(service, request(path))) == 404


@pytest.mark.parametrize(
    ("target", "fields", "body", "value"),
    [
        (ONE, MULTIPART, FIELD, "1"),
        (b"/api/v1/query", MULTIPART, FIELD, "2"),
        (ONE, FORM, b"query=2", "2"),
        (ONE, b"", b"query=2", "1"),
    ],
)
async def test_url_comes_before_a_multipart_body_and_after_a_form(
    service: Service, target: bytes, fields: bytes, body: bytes, value: str
) -> None:
    answer = await exchange(service, request(target, fields, body, b"POST"))
    assert body_of(answer)["data"]["result"][1] == value


@pytest.mark.parametrize("size", [1, 4, 4_000])
async def test_only_tiny_chunks_are_refused(
    service: Service, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A body of many tiny chunks is not parsed; one of ordinary chunks is."""
    body = b"query=1" + b"+" * 60_000
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    head = b"POST /api/v1/query HTTP/1.1\r\n" + CLOSE + FORM + b"Transfer-Encoding: chunked\r\n\r\n"
    # The connection is reset behind the answer, if the client has sent more than was read.
    answer = await exchange(service, head + framed, ends_with=b"\r\n\r\n")
    assert status_of(answer) == (200 if size == 4_000 else 400)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
