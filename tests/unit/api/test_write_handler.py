"""Remote write over HTTP: what is stored and what the sender is told."""

import asyncio
import io
import re
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest
import snappy
from aiohttp import ClientResponse

from promcompat.api.ingest import write_handler
from promcompat.core.errors import OverloadedError, StaleKnowledgeError, StorageUnavailableError
from promcompat.core.model import Labels, MetricMetadata, WriteBatch
from promcompat.core.series_table import KnownSeries
from promcompat.http.bodies import BodyLimits, RequestBodies
from tests.support.factories import encode_field, encode_labels, make_labels, make_matcher
from tests.support.fakes import InMemoryStore
from tests.support.formats.remote_write import (
    WireHistogram,
    encode_metadata,
    encode_request,
    encode_series,
)
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService

UP = (("__name__", "up"), ("job", "a"))
HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


async def write(
    service: Service,
    body: bytes,
    headers: dict[str, str] | None = None,
    path: str = "/api/v1/write",
) -> ClientResponse:
    chosen = HEADERS if headers is None else headers
    return await service.client.post(
        path, data=io.BytesIO(body), headers=chosen, skip_auto_headers=["Content-Type"]
    )


async def stored_series(service: Service, tenant: str = "default") -> list[dict[str, str]]:
    sets = [(make_matcher("__name__", "!=", ""),)]
    found = await service.catalogue.series(tenant, sets, -(1 << 62), 1 << 62, 0)
    return [labels.as_dict() for labels in found]


@pytest.mark.parametrize(
    "path", ["/api/v1/write", "/api/v1/push", "/api/prom/push", "/prometheus/api/v1/write"]
)
async def test_accepted_writes_get_204_and_nothing_else(service: Service, path: str) -> None:
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]), path=path)
    assert (response.status, await response.read()) == (204, b"")
    assert not [name for name in response.headers if name.endswith("-Written")]
    assert await stored_series(service) == [{"__name__": "up", "job": "a"}]


async def test_headers_may_be_missing(service: Service) -> None:
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]), {})
    assert response.status == 204
    assert len(await stored_series(service)) == 1


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (
            {"Content-Encoding": "gzip"},
            "gzip encoding (compression) is not accepted by this server; only snappy is acceptable",
        ),
        (
            {"Content-Type": "text/plain"},
            "expected application/x-protobuf as the first (media) part, "
            "got text/plain content-type",
        ),
        (
            {"Content-Type": "application/x-protobuf;proto=x"},
            "got application/x-protobuf;proto=x content type; unknown remote write protobuf "
            "message x, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
    ],
)
async def test_other_media_are_415_whatever_the_body(
    service: Service, headers: dict[str, str], text: str
) -> None:
    for body in (encode_request([encode_series(UP, (NOW_MS, 1.0))]), b"junk"):
        response = await write(service, body, HEADERS | headers)
        assert (response.status, await response.text()) == (415, text + "\n")
    assert await stored_series(service) == []


async def test_corrupt_bodies_are_400(service: Service) -> None:
    response = await write(service, b"junk")
    assert (response.status, await response.text()) == (400, "snappy: corrupt input\n")
    assert response.content_type == "text/plain"


async def test_large_bodies_are_413(start_service: StartService) -> None:
    service = await start_service(write_max_body_bytes=1000)
    response = await write(service, bytes(1001))
    assert response.status == 413

    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(11):
            yield bytes(100)

    streamed = await service.client.post("/api/v1/write", data=chunks(), headers=HEADERS)
    assert streamed.status == 413


async def test_bodies_that_unpack_too_large_are_400(start_service: StartService) -> None:
    service = await start_service(write_max_decoded_bytes=100)
    response = await write(service, encode_request([bytes(200)]))
    assert response.status == 400
    assert "exceeds limit 100" in await response.text()


async def test_writing_is_post_only(service: Service) -> None:
    response = await service.get("/api/v1/write")
    assert (response.status, await response.text()) == (405, "Method Not Allowed\n")


async def test_invalid_series_are_skipped_and_counted(service: Service) -> None:
    series = [encode_series([("job", "a")], (NOW_MS, 1.0)), encode_series(UP, (NOW_MS, 1.0))]
    assert (await write(service, encode_request(series))).status == 204
    assert len(await stored_series(service)) == 1
    sample = service.telemetry.registry.get_sample_value
    assert sample("promcompat_remote_write_series_invalid_total") == 1
    assert sample("promcompat_remote_write_samples_received_total") == 2


async def test_series_beyond_a_limit_are_counted_in_a_400_and_the_rest_is_stored(
    service: Service,
) -> None:
    too_large = [
        [("__name__", "up"), ("long", "v" * 30_000_000)],
        [("__name__", "up"), ("v" * 1025, "long")],
        [("__name__", "up"), *((f"l{number}", "v") for number in range(30))],
        [("__name__", "up"), *((f"l{number}", "v") for number in range(50_000))],
        [("__name__", "m" * 2001)],
    ]
    series = [encode_series(pairs, (NOW_MS, 1.0)) for pairs in too_large]
    body = encode_request([*series, encode_series(UP, (NOW_MS, 1.0))])
    response = await write(service, body)
    text = await response.text()
    assert response.status == 400
    assert text.startswith("5 series or metadata entries exceed a limit and were not stored; ")
    assert len(text.splitlines()) == 6
    assert len(text) < 10_000
    assert await stored_series(service) == [dict(UP)]
    sample = service.telemetry.registry.get_sample_value
    assert sample("promcompat_remote_write_series_invalid_total") == 5


async def test_info_series_may_have_more_labels(service: Service) -> None:
    labels = [("__name__", "target_info"), *((f"l{number}", "v") for number in range(79))]
    assert (
        await write(service, encode_request([encode_series(labels, (NOW_MS, 1.0))]))
    ).status == 204


async def test_limits_can_be_set(start_service: StartService) -> None:
    service = await start_service(max_label_names_per_series=3)
    labels = [("__name__", "m"), ("a", "1"), ("b", "1")]
    for pairs, status in ((labels, 204), ([*labels, ("c", "1")], 400)):
        body = encode_request([encode_series(pairs, (NOW_MS, 1.0))])
        assert (await write(service, body)).status == status


async def test_long_metadata_is_refused_or_cut_and_the_samples_are_stored(
    service: Service,
) -> None:
    metadata = [
        encode_metadata("m" * 5000, 2),
        encode_metadata("up", 2, "h" * 5000),
        encode_metadata("u", 2, "", "s" * 1025),
    ]
    body = encode_request([encode_series(UP, (NOW_MS, 1.0))], metadata)
    response = await write(service, body)
    assert response.status == 400
    assert "2 series or metadata entries exceed a limit" in await response.text()
    assert await service.catalogue.metadata("default", None) == [
        MetricMetadata("up", "gauge", "h" * 1024, "")
    ]
    assert await stored_series(service) == [dict(UP)]


async def test_a_large_request_is_stored_in_pieces_and_all_of_it(service: Service) -> None:
    series = [
        encode_series([("__name__", "up"), ("number", f"{number:0500}")], (NOW_MS, float(number)))
        for number in range(5_000)
    ]
    conflict = encode_series([("__name__", "up"), ("number", f"{0:0500}")], (NOW_MS, 7.0))
    response = await write(service, encode_request([*series, conflict]))
    assert response.status == 400
    assert "duplicate sample" in await response.text()
    assert len(await stored_series(service)) == 5_000


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a\x00" * 16_000_000,
        b"\x1a\x00" * 300_000,
        b"\x08\x01" * 300_000,
        encode_field(1, b"\x12\x00" * 300_000),
        encode_field(1, b"\x0a\x00" * 300_000),
    ],
)
async def test_too_many_things_in_one_request_are_400(service: Service, message: bytes) -> None:
    response = await write(service, snappy.compress(message))
    assert response.status == 400
    assert re.search("more than (250000 series|100000 fields in one)", await response.text())


@pytest.mark.parametrize("end", [b"\x0a\x05", b"\x0b", b"\xff" * 20, b"\x0a" + b"\xff" * 11])
async def test_large_malformed_requests_are_400(service: Service, end: bytes) -> None:
    message = encode_field(1, encode_series(UP, (NOW_MS, 1.0))) * 40_000 + end
    response = await write(service, snappy.compress(message))
    assert response.status == 400
    assert (await response.text()).startswith("proto: ")


async def test_bodies_that_take_too_much_memory_together_are_503(
    start_service: StartService,
) -> None:
    service = await start_service(max_held_body_bytes=1 << 20)
    body = snappy.compress(bytes(2 << 20))
    response = await write(service, body)
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert (await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))).status == 204


async def test_a_body_that_does_not_arrive_is_retried(start_service: StartService) -> None:
    service = await start_service(read_timeout="200ms")

    async def half():  # type: ignore[no-untyped-def]
        yield b"half"
        await asyncio.sleep(60)

    for path, status in (("/api/v1/write", 503), ("/api/v1/query", 408)):
        headers = (
            {"Content-Type": "application/x-www-form-urlencoded"} if status == 408 else HEADERS
        )
        response = await service.client.post(path, data=half(), headers=headers)
        assert response.status == status
        assert "did not arrive in time" in await response.text()


async def test_conflicts_are_400_and_the_rest_is_stored(service: Service) -> None:
    await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
    other = (("__name__", "other"),)
    series = [encode_series(UP, (NOW_MS, 2.0)), encode_series(other, (NOW_MS, 3.0))]
    response = await write(service, encode_request(series))
    assert response.status == 400
    assert await response.text() == (
        f"duplicate sample for timestamp {NOW_MS}; overrides not allowed: existing 1, new value 2\n"
    )
    assert len(await stored_series(service)) == 2


async def test_the_far_future_is_400(service: Service) -> None:
    body = encode_request([encode_series(UP, (NOW_MS + 600_001, 1.0))])
    response = await write(service, body)
    assert (response.status, await response.text()) == (
        400,
        "out of bounds: timestamp is too far in the future\n",
    )


async def test_a_bad_histogram_is_400_after_the_rest_is_stored(service: Service) -> None:
    histograms = WireHistogram(NOW_MS + 1), WireHistogram(NOW_MS + 2, count=1)
    message = encode_series(UP, (NOW_MS, 1.0)) + b"".join(
        encode_field(4, histogram.encode()) for histogram in histograms
    )
    response = await write(service, encode_request([message]))
    assert (response.status, await response.text()) == (
        400,
        "0 observations found in buckets, but the Count field is 1: histogram's observation count "
        "should equal the number of observations found in the buckets (in absence of NaN) for "
        f"series {Labels(UP)}\n",
    )
    assert response.headers["X-Prometheus-Remote-Write-Samples-Written"] == "1"
    assert response.headers["X-Prometheus-Remote-Write-Histograms-Written"] == "1"


async def test_bad_histograms_of_skipped_series_are_no_error(service: Service) -> None:
    """Prometheus skips a series with bad labels with all that it has."""
    bad = encode_field(4, WireHistogram(NOW_MS, count=1).encode())
    message = encode_series((("", "x"), *UP)) + bad
    response = await write(service, encode_request([message, encode_series(UP, (NOW_MS, 1.0))]))
    assert (response.status, await response.text()) == (204, "")


async def test_repeated_histograms_are_no_error_and_others_at_their_time_are(
    service: Service,
) -> None:
    histogram = WireHistogram(NOW_MS, count=1, positive_spans=((0, 1),), positive=(1,))
    for stored, status in ((histogram, 204), (histogram, 204), (histogram.but(sum=2.0), 400)):
        message = encode_labels(UP) + encode_field(4, stored.encode())
        response = await write(service, encode_request([message]))
        assert response.status == status
    assert response.headers["X-Prometheus-Remote-Write-Histograms-Written"] == "0"


async def test_metadata_is_stored(service: Service) -> None:
    assert (await write(service, encode_request(metadata=[encode_metadata("up", 2)]))).status == 204
    assert await service.catalogue.metadata("default", None) == [
        MetricMetadata("up", "gauge", "", "")
    ]


class RefusingRepository(InMemoryStore):
    """Refuses every write."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "retry_after"),
    [(StorageUnavailableError("down"), "1"), (OverloadedError("full", 5), "5")],
)
async def test_transient_faults_are_503_with_retry_after(
    start_service: StartService, error: Exception, retry_after: str
) -> None:
    service = await start_service(RefusingRepository(error))
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
    assert (response.status, await response.text()) == (503, f"{error}\n")
    assert response.headers["Retry-After"] == retry_after


async def test_repeats_while_nothing_can_be_stored_are_never_too_fast(
    start_service: StartService,
) -> None:
    refusing = RefusingRepository(StorageUnavailableError("down"))
    service = await start_service(refusing, ingestion_rate=1, ingestion_burst_size=1)
    for _ in range(3):
        response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
        assert response.status == 503


class ForgettingRepository(InMemoryStore):
    """Says of the first writes that series were removed since their batch was decoded."""

    def __init__(self, n_stale: int) -> None:
        super().__init__()
        self.n_stale = n_stale
        self.n_decoded = 0

    def known_series(self, tenant: str) -> KnownSeries:
        self.n_decoded += 1
        return super().known_series(tenant)

    async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
        self.n_stale -= 1
        if self.n_stale >= 0:
            raise StaleKnowledgeError("series were removed")
        await super().write_batch(tenant, batch)


@pytest.mark.parametrize(
    ("n_stale", "n_decoded", "status"), [(0, 1, 204), (2, 3, 204), (3, 3, 503)]
)
async def test_a_request_is_decoded_again_when_series_were_removed_meanwhile(
    start_service: StartService, n_stale: int, n_decoded: int, status: int
) -> None:
    store = ForgettingRepository(n_stale)
    service = await start_service(store)
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
    assert (response.status, store.n_decoded) == (status, n_decoded)
    assert len(await stored_series(service)) == (status == 204)
    sample = service.telemetry.registry.get_sample_value
    assert sample("promcompat_remote_write_samples_received_total") == 1


async def test_before_the_database_is_up_senders_are_told_to_wait(
    start_service: StartService,
) -> None:
    service = await start_service(is_ready=False)
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
    assert (response.status, await response.text()) == (503, "Service Unavailable")
    assert response.headers["Retry-After"] == "1"


async def test_tenants_do_not_see_each_other(start_service: StartService) -> None:
    service = await start_service(tenancy="header")
    body = encode_request([encode_series(UP, (NOW_MS, 1.0))])
    response = await write(service, body, HEADERS | {"X-Scope-OrgID": "one"})
    assert response.status == 204
    assert await stored_series(service, "one") == [make_labels("up", job="a").as_dict()]
    for tenant, count in (("one", 1), ("two", 0)):
        answer = await service.get(
            "/api/v1/query", params={"query": "up"}, headers={"X-Scope-OrgID": tenant}
        )
        assert len((await answer.json())["data"]["result"]) == count


@pytest.mark.parametrize(
    ("header", "status", "text"),
    [
        (None, 401, "no org id\n"),
        ("", 401, "no org id\n"),
        ("a|b", 400, "tenant ID contains unsupported character '|'\n"),
        ("ab\u00fc", 400, "tenant ID contains unsupported character '\\xfc'\n"),
        ("__mimir_cluster", 400, "tenant ID '__mimir_cluster' is not allowed\n"),
        ("..", 400, "tenant ID '..' is not allowed\n"),
        ("a" * 151, 400, "tenant ID is too long: max 150 characters\n"),
    ],
)
async def test_bad_tenants(
    start_service: StartService, header: str | None, status: int, text: str
) -> None:
    service = await start_service(tenancy="header")
    headers = {} if header is None else {"X-Scope-OrgID": header}
    for path in ("query?query=1", "labels", "series?match[]=up", "metadata", "status/tsdb"):
        response = await service.get(f"/api/v1/{path}", headers=headers)
        assert (response.status, await response.text()) == (status, text), path
    response = await write(service, b"", HEADERS | headers)
    assert (response.status, await response.text()) == (status, text)


async def test_two_tenants_in_one_request_are_refused(start_service: StartService) -> None:
    service = await start_service(tenancy="header")
    for names, status in ((("a", "b"), 400), (("a", "a"), 200), (("a", ""), 400)):
        headers = [("X-Scope-OrgID", name) for name in names]
        response = await service.get("/api/v1/labels", headers=headers)
        assert response.status == status
        if status == 400:
            assert await response.text() == "multiple org IDs present\n"


async def test_one_tenant_ignores_the_header(service: Service) -> None:
    body = encode_request([encode_series(UP, (NOW_MS, 1.0))])
    await write(service, body, HEADERS | {"X-Scope-OrgID": "a|b"})
    assert len(await stored_series(service, "default")) == 1


@pytest.mark.parametrize(
    ("n_series", "others", "expected"),
    [
        (60, (), ["loop", "loop"]),
        (300, (), ["loop", "thread"]),
        (60, ("another",), ["loop", "loop"]),
        (700, ("another",), ["thread", "thread"]),
    ],
    ids=["few series", "new series", "another tenant has work", "much beside another tenant"],
)
async def test_only_short_work_is_done_on_the_event_loop(
    start_service: StartService,
    monkeypatch: pytest.MonkeyPatch,
    n_series: int,
    others: tuple[str, ...],
    expected: list[str],
) -> None:
    seen: list[str] = []
    for name in ("read_write_request", "decode_read_request"):
        monkeypatch.setattr(write_handler, name, recording(getattr(write_handler, name), seen))
    service = await start_service(tenancy="header")
    names = [(("__name__", f"series_{n}"), ("pad", 400 * "x")) for n in range(n_series)]
    large = encode_request([encode_series(labels, (NOW_MS, 1.0)) for labels in names])
    small = encode_request([encode_series(UP, (NOW_MS, 1.0))])
    for tenant in others:
        assert (await write(service, small, HEADERS | {"X-Scope-OrgID": tenant})).status == 204
    seen.clear()
    assert (await write(service, large, HEADERS | {"X-Scope-OrgID": "mine"})).status == 204
    assert seen == expected
    assert len(await stored_series(service, "mine")) == n_series


async def test_other_requests_are_served_between_two_that_are_decoded_on_the_event_loop() -> None:
    work = RequestBodies(BodyLimits(max_held_bytes=1, read_timeout_seconds=1.0)).of("mine")
    order: list[str] = []

    async def serve_others() -> None:
        while order.count("decoded") < 3:
            order.append("other")
            await asyncio.sleep(0)

    decoding = [work.on_loop(1 << 20, order.append, "decoded") for _ in range(3)]
    await asyncio.gather(*decoding, serve_others())
    assert "other" in order
    assert not [pair for pair in pairwise(order) if pair == ("decoded", "decoded")]


def recording(function: Callable[..., object], seen: list[str]) -> Callable[..., object]:
    """The function, which notes whether it is called in the thread of the event loop."""

    def call(*args: object) -> object:
        is_loop = threading.current_thread() is threading.main_thread()
        seen.append("loop" if is_loop else "thread")
        return function(*args)

    return call
