"""Remote write 2.0 over HTTP, and what both versions say of partial writes."""

import io

from aiohttp import ClientResponse

from promcompat.core.errors import OverloadedError
from promcompat.core.model import WriteBatch
from tests.support.factories import encode_field
from tests.support.fakes import InMemoryStore
from tests.support.formats.remote_write import (
    V2_HEADERS,
    RequestV2,
    WireHistogram,
    encode_request,
    encode_series,
)
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService
from tests.unit.api.test_write_handler import HEADERS, UP, stored_series


async def write(
    service: Service, body: bytes, headers: dict[str, str] = V2_HEADERS
) -> ClientResponse:
    return await service.post("/api/v1/write", data=io.BytesIO(body), headers=headers)


def written(response: ClientResponse) -> tuple[str | None, ...]:
    """The three headers: samples, histograms, exemplars."""
    names = ("Samples", "Histograms", "Exemplars")
    return tuple(
        response.headers.get(f"X-Prometheus-Remote-Write-{name}-Written") for name in names
    )


async def test_samples_are_stored_and_counted(service: Service) -> None:
    request = RequestV2()
    request.add(UP, (NOW_MS - 1, 1.0), (NOW_MS, 2.0), metadata=(2, "a help", ""))
    response = await write(service, request.body())
    assert (response.status, await response.read(), written(response)) == (
        204,
        b"",
        ("2", "0", "0"),
    )
    assert await stored_series(service) == [dict(UP)]
    _, answer = await service.ask("metadata")
    assert answer["data"] == {"up": [{"type": "gauge", "help": "a help", "unit": ""}]}


async def test_repeated_samples_count_as_written(service: Service) -> None:
    request = RequestV2()
    request.add(UP, (NOW_MS, 1.0))
    for _ in range(2):
        response = await write(service, request.body())
        assert (response.status, written(response)) == (204, ("1", "0", "0"))


async def test_what_is_wrong_is_told_and_the_rest_is_stored(service: Service) -> None:
    request = RequestV2()
    request.add(UP, (NOW_MS, 1.0))
    request.add([("job", "a")], (NOW_MS, 1.0))
    bad = [WireHistogram(NOW_MS, count=5), WireHistogram(NOW_MS + 1, schema=-7)]
    request.add([("__name__", "h")], histograms=[WireHistogram(NOW_MS - 1), *bad])
    request.add([("__name__", "late")], (NOW_MS + 3_600_000, 1.0), (NOW_MS, 1.0))
    response = await write(service, request.body())
    assert (response.status, written(response)) == (400, ("2", "1", "0"))
    text = await response.text()
    assert "out of bounds: timestamp is too far in the future" in text
    assert 'invalid metric name or labels, got {job="a"}' in text
    assert "0 observations found in buckets, but the Count field is 5: " in text
    assert 'got schema -7 for series {__name__="h"}' in text
    assert {found["__name__"] for found in await stored_series(service)} == {"up", "late", "h"}


async def test_malformed_requests_are_400_and_nothing_is_written(service: Service) -> None:
    request = RequestV2()
    request.add(UP, (NOW_MS, 1.0))
    request.series.append(b"\x12\x80")
    response = await write(service, request.body())
    assert (response.status, written(response)) == (400, ("0", "0", "0"))
    assert "cannot decode io.prometheus.write.v2.Request" in await response.text()
    # A value that is a varint, for which the protobuf library reads 0.
    request.series[1] = encode_field(1, bytes(request.refs(UP))) + encode_field(2, b"\x08\x05")
    response = await write(service, request.body())
    assert (response.status, written(response)) == (400, ("0", "0", "0"))
    assert await response.text() == "proto: wrong wireType = 0 for field value\n"
    assert await stored_series(service) == []


async def test_a_body_of_version_1_is_no_data(service: Service) -> None:
    """Prometheus takes 2xx with zeros as a failure, so a wrong setting is noticed."""
    response = await write(service, encode_request([encode_series(UP, (NOW_MS, 1.0))]))
    assert (response.status, written(response)) == (204, ("0", "0", "0"))
    assert await stored_series(service) == []


async def test_a_failure_that_is_repeated_counts_nothing(start_service: StartService) -> None:
    class Full(InMemoryStore):
        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            raise OverloadedError("full")

    request = RequestV2()
    request.add(UP, (NOW_MS, 1.0))
    response = await write(await start_service(Full()), request.body())
    assert (response.status, written(response)) == (503, ("0", "0", "0"))
    assert response.headers["Retry-After"] == "1"


async def test_headers_of_other_failures_say_nothing(service: Service) -> None:
    response = await write(service, b"", V2_HEADERS | {"Content-Encoding": "gzip"})
    assert (response.status, written(response)) == (415, (None, None, None))


async def test_a_histogram_in_version_1_fails_alone(service: Service) -> None:
    """Prometheus counts by these headers what a 400 did not store, whatever the version."""
    histogram = encode_series([("__name__", "h")]) + encode_field(4, b"\x08\x01")
    series = [encode_series(UP, (NOW_MS, 1.0)), histogram]
    response = await write(service, encode_request(series), HEADERS)
    assert (response.status, written(response)) == (400, ("1", "0", "0"))
    assert "but the Count field is 1: " in await response.text()


async def test_exemplars_are_stored_and_those_refused_are_told(service: Service) -> None:
    request = RequestV2()
    trace, long = [("trace_id", "x")], [("trace_id", "y" * 129)]
    request.add(UP, (NOW_MS, 1.0), exemplars=[(trace, 5.0, NOW_MS), (trace, 5.0, NOW_MS)])
    request.add(UP, exemplars=[(trace, 1.0, NOW_MS - 1), (long, 1.0, NOW_MS + 1)])
    response = await write(service, request.body())
    assert (response.status, written(response)) == (400, ("1", "0", "2"))
    text = await response.text()
    assert 'out of order exemplar for series {__name__="up", job="a"}' in text
    assert "label length for exemplar exceeds maximum of 128 UTF-8 characters" in text
    _, answer = await service.ask("query_exemplars", query="rate(up[5m])")
    exemplar = {"labels": {"trace_id": "x"}, "value": "5", "timestamp": NOW_MS // 1000}
    assert answer["data"] == [{"seriesLabels": dict(UP), "exemplars": [exemplar]}]


async def test_version_1_is_not_told_of_exemplars(service: Service) -> None:
    exemplar = encode_field(3, b"\x11" + bytes(8) + b"\x18\x05")
    old = encode_field(3, b"\x11" + bytes(8) + b"\x18\x04")
    series = [encode_series(UP, (NOW_MS, 1.0)) + exemplar + old]
    response = await write(service, encode_request(series), HEADERS)
    assert (response.status, written(response)) == (204, (None, None, None))
    _, answer = await service.ask("query_exemplars", query="up")
    assert answer["data"][0]["exemplars"] == [{"labels": {}, "value": "0", "timestamp": 0.005}]
    sample = service.telemetry.registry.get_sample_value
    assert sample("promcompat_remote_write_exemplars_stored_total") == 1
    assert sample("promcompat_remote_write_exemplars_ignored_total") == 1


async def test_malformed_exemplars_are_400(service: Service) -> None:
    series = [encode_series(UP, (NOW_MS, 1.0)) + encode_field(3, b"\x11")]
    response = await write(service, encode_request(series), HEADERS)
    assert (response.status, await response.text()) == (
        400,
        "proto: cannot decode prometheus.Exemplar\n",
    )
