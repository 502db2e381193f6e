"""Remote read over HTTP: negotiation, bounds of time, matchers and errors."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
import snappy
from aiohttp import ClientResponse

from promcompat.api.export import read_handler
from promcompat.core.errors import QueryCanceledError
from promcompat.remote_read.remote_read_pb2 import QueryResult, ReadResponse
from tests.support.factories import STALE_NAN, make_batch, make_labels
from tests.support.formats.remote_read import bits_of, encode_read_request, labels_of, read_stream
from tests.support.services.http_service import NOW_MS, Service

SAMPLES, CHUNKS, UNKNOWN = 0, 1, 7
UP_A, UP_B = make_labels("up", job="a"), make_labels("up", job="b")
POINTS = {UP_A: [(NOW_MS - 2, 1.0), (NOW_MS - 1, 2.0), (NOW_MS, STALE_NAN)], UP_B: [(NOW_MS, 3.0)]}
EVERYTHING = (NOW_MS - 10, NOW_MS, [("__name__", "=~", ".*")])


async def ask(service: Service, body: bytes) -> ClientResponse:
    return await service.post("/api/v1/read", data=body)


async def fill(service: Service) -> None:
    await service.store.write_batch("default", make_batch(POINTS))


async def test_the_first_accepted_form_that_is_known_is_used(service: Service) -> None:
    await fill(service)
    for accepted, media in (
        ([], "application/x-protobuf"),
        ([UNKNOWN, SAMPLES, CHUNKS], "application/x-protobuf"),
        ([CHUNKS, SAMPLES], "application/x-streamed-protobuf"),
    ):
        answer = await ask(service, encode_read_request([EVERYTHING], accepted))
        assert (answer.status, answer.content_type) == (200, media)
    refused = await ask(service, encode_read_request([EVERYTHING], [UNKNOWN]))
    assert refused.status == 400
    assert "requested response types: [7]; supported: 0 (SAMPLES), 1" in await refused.text()


async def test_streams_have_the_queries_in_order_and_both_bounds_are_inclusive(
    service: Service,
) -> None:
    await fill(service)
    queries = [
        (NOW_MS - 1, NOW_MS, [("__name__", "=", "up"), ("job", "!~", "b|c")]),
        (NOW_MS, NOW_MS - 5, [("job", "=", "a")]),
        (0, NOW_MS - 2, []),
        (-(1 << 63), (1 << 63) - 1, [("job", "!=", "")]),
    ]
    answer = await ask(service, encode_read_request(queries, [CHUNKS]))
    assert answer.headers["Content-Type"] == (
        "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
    )
    assert "Content-Encoding" not in answer.headers
    found = read_stream(await answer.read()).queries
    everything = {labels.pairs: bits_of(dict(points)) for labels, points in POINTS.items()}
    assert found == {0: {UP_A.pairs: everything[UP_A.pairs][1:]}, 3: everything}


async def test_samples_have_a_result_for_each_query(service: Service) -> None:
    await fill(service)
    queries = [(0, 5, [("job", "=", "a")]), (0, 5, []), EVERYTHING]
    answer = await ask(service, encode_read_request(queries, [SAMPLES]))
    assert answer.headers["Content-Encoding"] == "snappy"
    results = ReadResponse.FromString(snappy.uncompress(await answer.read())).results
    series = [QueryResult.FromString(result).timeseries for result in results]
    assert [[labels_of(wire) for wire in found] for found in series] == [
        [],
        [],
        [UP_A.pairs, UP_B.pairs],
    ]


async def test_too_many_samples_are_refused_as_samples_only(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service)
    monkeypatch.setattr(read_handler, "MAX_SAMPLES", 3)
    refused = await ask(service, encode_read_request([EVERYTHING], []))
    assert refused.status == 400
    assert (await refused.text()).startswith("exceeded sample limit (3); ")
    streamed = await ask(service, encode_read_request([EVERYTHING], [CHUNKS]))
    assert streamed.status == 200


async def test_the_samples_of_all_queries_count(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(service)
    monkeypatch.setattr(read_handler, "MAX_SAMPLES", 8)
    for n_queries, status in ((2, 200), (3, 400)):
        answer = await ask(service, encode_read_request([EVERYTHING] * n_queries, []))
        assert answer.status == status


async def test_reading_a_request_ends_when_its_client_goes_away(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def decode(_message: bytes, check_time: Callable[[], object]) -> None:
        begun.set()
        try:
            for _ in range(500):
                time.sleep(0.01)
                check_time()
        except QueryCanceledError:
            ended.set()

    monkeypatch.setattr(read_handler, "decode_read_request", decode)
    asking = asyncio.create_task(ask(service, encode_read_request([EVERYTHING], [])))
    assert await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    assert await asyncio.to_thread(ended.wait, 2)


async def test_what_cannot_be_read_is_400(service: Service) -> None:
    pattern = encode_read_request([(0, 1, [("job", "=~", "(")])], [])
    too_many = encode_read_request([(0, 1, [("job", "=", "a")])] * 1001, [])
    for body, text in (
        (b"junk", "snappy: corrupt input"),
        (snappy.compress(b"\x0a\xff"), "cannot decode prometheus.ReadRequest"),
        (snappy.compress(b"\x0a\x06\x1a\x04\x12\x02\xff\xff"), "is not valid UTF-8"),
        (pattern, "error parsing regexp"),
        (too_many, "more than 1000 queries"),
    ):
        answer = await ask(service, body)
        assert answer.status == 400
        assert text in await answer.text()


async def test_an_empty_answer_has_no_frames(service: Service) -> None:
    for queries in ([], [EVERYTHING]):
        answer = await ask(service, encode_read_request(queries, [CHUNKS]))
        assert (answer.status, await answer.read()) == (200, b"")
