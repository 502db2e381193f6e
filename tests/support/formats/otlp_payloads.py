"""What OpenTelemetry SDKs send, and attributes of any value."""

from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource


def sdk_metrics() -> MetricsData:
    """What a real SDK collects from one instrument of each kind, twice in a row."""
    reader = InMemoryMetricReader()
    resource = Resource(
        {
            "service.name": "shop",
            "service.namespace": "demo",
            "service.instance.id": "a-1",
            "host.name": "h1",
            "cloud.region": "eu",
        }
    )
    provider = MeterProvider([reader], resource, shutdown_on_exit=False)
    meter = provider.get_meter("shop.meter", "1.2", "https://example.com/schema", {"team": "x"})

    def temperatures(_: CallbackOptions) -> Sequence[Observation]:
        return [Observation(21.5, {"room": "a"}), Observation(-3, {"room": "b", "empty": ""})]

    meter.create_observable_gauge("room.temperature", [temperatures], "Cel", "Heat")
    requests = meter.create_counter("requests", "1", "Requests")
    in_flight = meter.create_up_down_counter("in.flight", "{request}")
    duration = meter.create_histogram(
        "request.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 0.5, 1, 10, 1e6]
    )
    for number in range(5):
        attributes = {"http.method": "GET", "code": 200 + number % 2, "ok": number > 1}
        requests.add(number + 1, attributes)
        in_flight.add(number - 2, {"queue": "q"})
        duration.record(0.3 * number, attributes)
    data = reader.get_metrics_data()
    assert data is not None
    provider.shutdown()
    return data


def value(raw: Any) -> AnyValue:
    """A Python value as an attribute's value; None is none."""
    match raw:
        case None:
            return AnyValue()
        case bool():
            return AnyValue(bool_value=raw)
        case int():
            return AnyValue(int_value=raw)
        case float():
            return AnyValue(double_value=raw)
        case str():
            return AnyValue(string_value=raw)
        case bytes():
            return AnyValue(bytes_value=raw)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(value, raw)))
        case _:
            pairs = [KeyValue(key=key, value=value(item)) for key, item in raw.items()]
            return AnyValue(kvlist_value=KeyValueList(values=pairs))


def attributes(raw: Mapping[str, Any]) -> list[KeyValue]:
    """Attributes of Python values."""
    return [KeyValue(key=key, value=value(item)) for key, item in raw.items()]
