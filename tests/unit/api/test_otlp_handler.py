"""OTLP over HTTP: what real exporters send is stored, and they are told what is not."""

import asyncio
import gzip
import json

import numpy as np
import pytest
from aiohttp import ClientResponse
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.sdk.metrics.export import MetricExportResult

from promcompat.core.errors import OverloadedError, StaleKnowledgeError
from promcompat.core.model import STALE_NAN_BITS, WriteBatch
from promcompat.otlp.requests import split_request
from tests.support.factories import make_matcher
from tests.support.fakes import InMemoryStore
from tests.support.formats.otlp_payloads import attributes, sdk_metrics
from tests.support.services.http_service import NOW_MS, Service
from tests.unit.api.conftest import StartService

NOW_NS = NOW_MS * 1_000_000
PATH = "/api/v1/otlp/v1/metrics"
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def request_of(*metrics: Metric) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    resource.resource.attributes.extend(attributes({"service.name": "shop", "host.name": "h"}))
    resource.scope_metrics.add(metrics=metrics)
    return request


def gauge(name: str, value: float, *, flags: int = 0, time_ns: int = NOW_NS) -> Metric:
    metric = Metric(name=name)
    metric.gauge.data_points.add(time_unix_nano=time_ns, as_double=value, flags=flags)
    return metric


def counter(value: int, time_ns: int, temporality: int = 1) -> Metric:
    metric = Metric(name="c")
    metric.sum.is_monotonic, metric.sum.aggregation_temporality = True, temporality
    metric.sum.data_points.add(time_unix_nano=time_ns, as_int=value)
    return metric


async def post(
    service: Service, body: bytes, content_type: str = PROTOBUF, **headers: str
) -> ClientResponse:
    return await service.post(PATH, data=body, headers={"Content-Type": content_type, **headers})


async def send(service: Service, *metrics: Metric) -> ExportMetricsServiceResponse:
    response = await post(service, request_of(*metrics).SerializeToString())
    assert (response.status, response.headers["Content-Type"]) == (200, PROTOBUF)
    return ExportMetricsServiceResponse.FromString(await response.read())


async def stored(service: Service) -> dict[str, list[float]]:
    """The values of each metric, over all series."""
    sets = [(make_matcher("__name__", "!=", ""),)]
    found = await service.catalogue.series("default", sets, -(1 << 62), 1 << 62, 0)
    values = {}
    for name in {labels.get("__name__") for labels in found}:
        _, answer = await service.ask("query", query=f"{name}[1h]", time=str(NOW_MS / 1000))
        rows = answer["data"]["result"]
        values[name] = [float(value) for row in rows for _, value in row["values"]]
    return values


async def test_a_real_exporter_is_content(start_service: StartService) -> None:
    service = await start_service(max_future=0)
    url = str(service.client.make_url(PATH))
    exporter = OTLPMetricExporter(endpoint=url, compression=Compression.Gzip)
    result = await asyncio.to_thread(exporter.export, sdk_metrics())
    exporter.shutdown()
    assert result is MetricExportResult.SUCCESS
    sets = [(make_matcher("__name__", "!=", ""),)]
    found = await service.catalogue.series("default", sets, -(1 << 62), 1 << 62, 0)
    assert {labels.get("__name__") for labels in found} == {
        "in_flight",
        "request_duration_seconds_bucket",
        "request_duration_seconds_count",
        "request_duration_seconds_sum",
        "requests_total",
        "room_temperature_celsius",
        "target_info",
    }
    assert all(labels.get("job") == "demo/shop" for labels in found)
    _, answer = await service.ask("metadata", metric="room_temperature_celsius")
    expected = {"type": "gauge", "help": "Heat", "unit": "celsius"}
    assert answer["data"] == {"room_temperature_celsius": [expected]}


@pytest.mark.parametrize("path", [PATH, "/otlp/v1/metrics", "/v1/metrics", f"/prometheus{PATH}"])
async def test_paths_of_other_receivers_are_served(service: Service, path: str) -> None:
    body = request_of(gauge("g", 1)).SerializeToString()
    response = await service.post(path, data=body, headers={"Content-Type": PROTOBUF})
    assert (response.status, await response.read()) == (200, b"")
    assert (await stored(service))["g"] == [1.0]


async def test_json_has_ids_in_hexadecimal_and_numbers_as_strings(service: Service) -> None:
    point = {
        "timeUnixNano": str(NOW_NS),
        "asInt": "7",
        "attributes": [{"key": "k", "value": {"stringValue": "v"}}],
        "exemplars": [{"traceId": "0AF7651916CD43DD8448EB211C80319C", "asDouble": "NaN"}],
        "unknownKey": None,
    }
    total = {"dataPoints": [point], "aggregationTemporality": 2, "isMonotonic": True}
    scope = {"metrics": [{"name": "c", "sum": total}]}
    document = {"resourceMetrics": [{"scopeMetrics": [scope]}]}
    body = gzip.compress(json.dumps(document).encode())
    response = await post(service, body, f"{JSON}; charset=utf-8", **{"Content-Encoding": "gzip"})
    assert (response.status, await response.read()) == (200, b"{}")
    assert response.headers["Content-Type"] == JSON
    assert await stored(service) == {"c_total": [7.0]}


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"resourceMetrics":5}', b'{"a":' * 2000])
async def test_documents_that_are_no_requests_are_refused(service: Service, body: bytes) -> None:
    response = await post(service, body, JSON)
    assert response.status == 400
    assert set(await response.json()) == {"code", "message"}


async def test_malformed_protobuf_is_refused_with_a_status_message(service: Service) -> None:
    response = await post(service, b"\x0a\x05")
    assert (response.status, response.headers["Content-Type"]) == (400, PROTOBUF)
    assert (await response.read()).startswith(b"\x08\x03\x12")


async def test_empty_requests_succeed(service: Service) -> None:
    assert (await post(service, b"")).status == 200
    assert await (await post(service, b"", JSON)).read() == b"{}"


async def test_other_types_and_encodings_are_415(service: Service) -> None:
    assert (await post(service, b"", "text/plain")).status == 415
    assert (await post(service, b"", PROTOBUF, **{"Content-Encoding": "zstd"})).status == 415


async def test_what_cannot_be_stored_is_a_partial_success(service: Service) -> None:
    native = Metric(name="e")
    native.exponential_histogram.aggregation_temporality = 2
    for _ in range(3):
        native.exponential_histogram.data_points.add(time_unix_nano=NOW_NS, count=1)
    future = gauge("future", 1, time_ns=NOW_NS + 3_600_000_000_000)
    long = gauge("long", 1)
    long.gauge.data_points[0].attributes.extend(attributes({"a": "x" * 5_000}))
    answer = await send(service, gauge("g", 1), native, counter(1, NOW_NS), future, long)
    assert answer.partial_success.rejected_data_points == 6
    message = answer.partial_success.error_message
    assert "0 observations found in buckets, but the Count field is 1: " in message
    assert 'invalid temporality and type combination for metric "c" (1)' in message
    assert "out of bounds: timestamp is too far in the future (1)" in message
    assert "value of label" in message
    assert (await stored(service))["g"] == [1.0]


async def test_points_without_a_value_are_stale_markers(start_service: StartService) -> None:
    written: list[WriteBatch] = []

    class Recorder(InMemoryStore):
        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            written.append(batch)

    service = await start_service(Recorder())
    await send(service, gauge("g", 5.0, flags=1))
    bits = np.ascontiguousarray(written[0].values).view(np.uint64).tolist()
    assert bits[0] == STALE_NAN_BITS


async def test_deltas_are_added_up_and_a_repeated_request_counts_once(
    start_service: StartService,
) -> None:
    service = await start_service(otlp_delta="cumulative")
    for value, seconds in ((2, 10), (3, 20), (3, 20), (5, 30)):
        answer = await send(service, counter(value, NOW_NS - 60_000_000_000 + seconds * 10**9))
        assert not answer.HasField("partial_success")
    assert (await stored(service))["c_total"] == [2.0, 5.0, 10.0]
    late = await send(service, counter(1, NOW_NS - 55_000_000_000))
    assert late.partial_success.rejected_data_points == 1
    metrics = (await (await service.get("/metrics")).text()).splitlines()
    assert "promcompat_otlp_points_received_total 5.0" in metrics
    assert "promcompat_otlp_points_rejected_total 1.0" in metrics


async def test_deltas_of_a_request_that_is_repeated_after_503_are_all_stored(
    start_service: StartService,
) -> None:
    class OftenFull(InMemoryStore):
        n_full = 2

        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            self.n_full -= 1
            if self.n_full >= 0:
                raise OverloadedError("full")
            await super().write_batch(tenant, batch)

    service = await start_service(OftenFull(), otlp_delta="cumulative")
    metrics = [counter(2, NOW_NS - seconds * 10**9) for seconds in (3, 2, 1)]
    body = request_of(*metrics).SerializeToString()
    assert [(await post(service, body)).status for _ in range(3)] == [503, 503, 200]
    assert (await stored(service))["c_total"] == [2.0, 4.0, 6.0]


async def test_a_delta_of_the_future_does_not_keep_others_from_being_added(
    start_service: StartService,
) -> None:
    service = await start_service(otlp_delta="cumulative")
    answer = await send(service, counter(100, NOW_NS + 10**13), counter(2, NOW_NS))
    assert answer.partial_success.rejected_data_points == 1
    assert "too far in the future" in answer.partial_success.error_message
    assert (await stored(service))["c_total"] == [2.0]


async def test_an_overload_is_503_which_every_exporter_repeats(
    start_service: StartService,
) -> None:
    class Full(InMemoryStore):
        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            raise OverloadedError("full")

    service = await start_service(Full())
    response = await post(service, request_of(gauge("g", 1)).SerializeToString())
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert (await response.read()).startswith(b"\x08\x0e\x12")


async def test_a_tenant_that_is_too_fast_is_told_that_its_resource_is_exhausted(
    start_service: StartService,
) -> None:
    service = await start_service(ingestion_rate=1, ingestion_burst_size=2)
    body = request_of(gauge("g", 1)).SerializeToString()
    await post(service, body)
    response = await post(service, body)
    assert response.status == 429
    assert int(response.headers["Retry-After"]) >= 1
    assert (await response.read()).startswith(b"\x08\x08\x12")


async def test_a_fault_of_the_service_is_503_as_exporters_drop_what_is_answered_500(
    start_service: StartService,
) -> None:
    class Broken(InMemoryStore):
        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            raise RuntimeError("a bug")

    service = await start_service(Broken())
    response = await post(service, request_of(gauge("g", 1)).SerializeToString())
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    body = await response.read()
    assert body.startswith(b"\x08\x0e\x12")
    assert b"internal error" in body
    assert b"a bug" not in body


@pytest.mark.parametrize(("n_stale", "status"), [(2, 200), (3, 503)])
async def test_a_batch_is_made_again_when_series_were_removed_meanwhile(
    start_service: StartService, n_stale: int, status: int
) -> None:
    class Forgetting(InMemoryStore):
        n_stale = 0

        async def write_batch(self, tenant: str, batch: WriteBatch) -> None:
            self.n_stale -= 1
            if self.n_stale >= 0:
                raise StaleKnowledgeError("series were removed")
            await super().write_batch(tenant, batch)

    store = Forgetting()
    service = await start_service(store)
    for value in (1, 2):
        store.n_stale = 0 if value == 1 else n_stale
        body = request_of(
            gauge("g", value, time_ns=NOW_NS - (3 - value) * 10**6)
        ).SerializeToString()
        response = await post(service, body)
        assert response.status == (200 if value == 1 else status)
    assert (await stored(service))["g"] == [1.0, 2.0][: 2 if status == 200 else 1]


async def test_tenants_are_apart(start_service: StartService) -> None:
    service = await start_service(tenancy="header")
    body = request_of(gauge("g", 1)).SerializeToString()
    assert (await post(service, body)).status == 401
    assert (await post(service, body, **{"X-Scope-OrgID": "a"})).status == 200
    assert await service.catalogue.metadata("b", None) == []
    assert [entry.family for entry in await service.catalogue.metadata("a", None)] != []


def test_large_requests_are_split_into_the_same_points_in_order() -> None:
    request = request_of(*(gauge(f"g{number}", number) for number in range(30)))
    big = request.resource_metrics[0].scope_metrics[0].metrics[3]
    for number in range(30_000):
        big.gauge.data_points.add(
            time_unix_nano=number, as_double=1, attributes=attributes({"padding": "x" * 60})
        )
    pieces = list(split_request(request.SerializeToString()))
    assert len(pieces) >= 3
    parsed = list(map(ExportMetricsServiceRequest.FromString, pieces))
    resources = [found for piece in parsed for found in piece.resource_metrics]
    assert all(found.resource == request.resource_metrics[0].resource for found in resources)
    metrics = [m for found in resources for m in found.scope_metrics[0].metrics]
    points = [(m.name, p.SerializeToString()) for m in metrics for p in m.gauge.data_points]
    expected = [
        (m.name, p.SerializeToString())
        for m in request.resource_metrics[0].scope_metrics[0].metrics
        for p in m.gauge.data_points
    ]
    assert points == expected


async def test_exemplars_of_sums_are_stored(service: Service) -> None:
    metric = counter(1, NOW_NS, temporality=2)
    other = gauge("g", 1)
    for point in (metric.sum.data_points[0], other.gauge.data_points[0]):
        point.exemplars.add(time_unix_nano=NOW_NS, as_int=3, trace_id=b"\x01" * 16)
    await send(service, metric, other)
    assert (await service.ask("query_exemplars", query="g"))[1]["data"] == []
    _, answer = await service.ask("query_exemplars", query="c_total")
    (series,) = answer["data"]
    expected = {"labels": {"trace_id": "01" * 16}, "value": "3", "timestamp": NOW_MS // 1000}
    assert series["exemplars"] == [expected]
