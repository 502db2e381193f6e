"""`stats=all` counts the samples that a real Prometheus counts, in all and for each step."""

from pathlib import Path
from typing import Any

from conformance.processes import PROMETHEUS_FEATURES, running_prometheus
from conformance.prometheus_api import PrometheusApi, open_session
from tests.support.factories import make_batch, make_labels
from tests.support.fakes import InMemoryStore
from tests.support.formats.remote_write import encode_request, encode_series
from tests.support.services.http_service import NOW_MS, Service, running_service

START_MS = NOW_MS - 3_600_000
AT = f"{NOW_MS / 1000 - 600}"
SERIES = {
    ("x", "dense"): [(START_MS + step * 15_000, float(step)) for step in range(241)],
    ("x", "sparse"): [(START_MS + step * 45_000, float(step)) for step in range(80)],
    ("x", "short"): [(START_MS + step * 15_000, 1.0) for step in range(100, 150)],
    ("y", "dense"): [(START_MS + step * 15_000, 2.0) for step in range(241)],
}
QUERIES = (
    "x",
    "sum by (n) (rate(x[5m]))",
    f"x @ {AT}",
    f"rate(x[5m] @ {AT})",
    "max_over_time(rate(x[2m])[10m:1m])",
    f"max_over_time(x[10m:1m] @ {AT})",
    "x + on(n) y",
    "x or x",
    "timestamp(x)",
    "quantile_over_time(0.5, x[3m] offset 5m)",
    "count_values('v', x)",
    "time()",
    "nothing",
)
RANGE_VECTORS = ("x[5m]", "x[5m:30s]", "rate(x[1m])[5m:30s]")
WANTED = ("totalQueryableSamples", "totalQueryableSamplesPerStep")
RANGE = {
    "start": f"{NOW_MS / 1000 - 3000}",
    "end": f"{NOW_MS / 1000}",
    "step": "37.5",
    "stats": "all",
}
INSTANT = {"time": f"{NOW_MS / 1000 - 1000.5}", "stats": "all"}


async def counted(service: Service, path: str, parameters: dict[str, str]) -> dict[str, Any]:
    _, answer = await service.ask(path, **parameters)
    samples = answer["data"]["stats"]["samples"]
    return {name: samples[name] for name in WANTED}


async def test_samples_are_counted_as_prometheus_does(
    prometheus_binary: Path, tmp_path: Path
) -> None:
    store = InMemoryStore()
    batch = {make_labels(name, n=n): points for (name, n), points in SERIES.items()}
    await store.write_batch("default", make_batch(batch))
    body = encode_request(
        encode_series((("__name__", name), ("n", n)), *points)
        for (name, n), points in SERIES.items()
    )
    features = (*PROMETHEUS_FEATURES, "promql-per-step-stats")
    asked = [("query_range", {**RANGE, "query": query}) for query in QUERIES]
    asked += [("query", {**INSTANT, "query": query}) for query in QUERIES + RANGE_VECTORS]
    with running_prometheus(prometheus_binary, tmp_path / "p", features=features) as prometheus:
        async with open_session() as session, running_service(store) as service:
            api = PrometheusApi(session, prometheus.url)
            await api.write_body(body)
            for path, parameters in asked:
                response = await api.post(path, parameters)
                samples = response.body["data"]["stats"]["samples"]
                theirs = {name: samples[name] for name in WANTED}
                assert await counted(service, path, parameters) == theirs, parameters["query"]
