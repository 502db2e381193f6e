"""Short texts that take long to parse are read by threads, so that other requests do not wait."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import snappy

from promcompat.api import ruler_handlers
from promcompat.api.export import read_handler
from promcompat.api.ingest import datadog_handlers, import_handlers, influx_handlers
from promcompat.imports.datadog_pb2 import Dogsketch, Sketch, SketchPayload
from promcompat.otlp import export_pb2 as otlp
from promcompat.otlp.reader import OtlpReader
from promcompat.querying.query_service import QueryService
from promcompat.remote_read.remote_read_pb2 import LabelMatcher, Query, ReadRequest
from promcompat.scraping.metric_family_pb2 import Metric as ScrapedMetric
from promcompat.scraping.metric_family_pb2 import MetricFamily
from promql import engine
from tests.support.services.http_service import Service
from tests.unit.api.test_import_handlers import DELIMITED, delimited

INFLUX = (
    f"m,{','.join(f't{number}=v' for number in range(300))} "
    f"{','.join(f'f{number}=1' for number in range(300))}"
).encode()
SKETCHES = SketchPayload(
    sketches=[Sketch(metric=b"m", dogsketches=[Dogsketch() for _ in range(2_000)])]
)
POINTS = otlp.ExponentialHistogram(
    data_points=[otlp.ExponentialHistogramDataPoint() for _ in range(2_000)],
    aggregation_temporality=2,
)
EXPORT = otlp.Request(
    resource_metrics=[
        otlp.ResourceMetrics(
            scope_metrics=[
                otlp.ScopeMetrics(metrics=[otlp.Metric(name="m", exponential_histogram=POINTS)])
            ]
        )
    ]
)
PATTERNS = ReadRequest(
    queries=[
        Query(matchers=[LabelMatcher(type=2, name=b"a", value=b"(a{0,500}){0,2}%d" % number)])
        for number in range(3)
    ]
)
LABELS = "&".join(f"extra_label=l{number}=v" for number in range(400))
FAMILY = MetricFamily(name="m", type=1, metric=[ScrapedMetric() for _ in range(300)])
PROTOBUF = "application/x-protobuf"


@pytest.mark.parametrize(
    ("module", "parser", "path", "content_type", "body"),
    [
        (influx_handlers, "read_influx_lines", "/write", "", INFLUX),
        (import_handlers, "read_exposition", f"/api/v1/import/prometheus?{LABELS}", "",
         b"a 1\n" * 9),
        (import_handlers, "read_pushed", "/api/v1/import/prometheus", DELIMITED, delimited(FAMILY)),
        (datadog_handlers, "read_sketches", "/datadog/api/beta/sketches", PROTOBUF,
         SKETCHES.SerializeToString()),
        (OtlpReader, "read", "/api/v1/otlp/v1/metrics", PROTOBUF, EXPORT.SerializeToString()),
        (read_handler, "decode_read_request", "/api/v1/read", PROTOBUF,
         bytes(snappy.compress(PATTERNS.SerializeToString()))),
        (ruler_handlers, "_parse_group", "/config/v1/rules/n", "application/yaml",
         b"a: [" + b"[]," * 2_000 + b"]"),
    ],
    ids=["influx", "labels of the URL", "protobuf", "sketches", "otlp", "read", "rules"],
)  # fmt: skip
async def test_short_bodies_are_parsed_in_a_thread(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    parser: str,
    path: str,
    content_type: str,
    body: bytes,
) -> None:
    threads: set[int] = set()
    parse: Callable[..., Any] = getattr(module, parser)

    def noted(*args: Any, **kwargs: Any) -> Any:
        threads.add(threading.get_ident())
        return parse(*args, **kwargs)

    monkeypatch.setattr(module, parser, noted)
    assert len(body) < 1 << 14
    await service.post(path, data=body, headers={"Content-Type": content_type})
    assert len(threads) == 1
    assert threading.get_ident() not in threads


async def test_queries_of_some_length_are_parsed_and_evaluated_in_a_thread(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()
    for name in ("parse_query", "evaluate_query"):
        function = getattr(engine, name)

        def noted(*args: Any, function: Callable[..., Any] = function) -> Any:
            threads.add(threading.get_ident())
            return function(*args)

        monkeypatch.setattr(engine, name, noted)
    status, _ = await service.ask("query", query="+".join(["a"] * 300))
    assert status == 200
    assert threads
    assert threading.get_ident() not in threads


async def test_long_selectors_are_parsed_in_the_turn_of_their_tenant(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop's own threads, which everything else needs, are not theirs."""
    asked: list[tuple[str, int]] = []
    work = QueryService.work

    async def noted(queries: QueryService, tenant: str, n_characters: int, function: Any) -> Any:
        asked.append((tenant, n_characters))
        return await work(queries, tenant, n_characters, function)

    monkeypatch.setattr(QueryService, "work", noted)
    selectors = [f'{{a=~"b|c+{number}"}}' for number in range(500)]
    answer = await service.post("/api/v1/series", data=[("match[]", text) for text in selectors])
    assert answer.status == 200
    assert asked == [("default", sum(map(len, selectors)))]
