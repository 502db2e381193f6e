"""Batches of native JSON into promcompat; the like of them by remote write into Prometheus.

Prometheus takes no JSON, so its figure is that of the same number of samples of the same kind of
series by remote write, which is less work for it than JSON would be.
"""

import asyncio
import time
from collections.abc import Sequence

import orjson

from conformance.prometheus_api import PrometheusApi, WriteError
from promcompat.core.model import METRIC_NAME
from tests.benchmarks.measure import N_CONNECTIONS, Measurement, Servers, send
from tests.benchmarks.payload import INTERVAL_MS, Fleet, fleet_labels

BATCH = 10_000
_FLEET = "native"


def encode_batches(n_batches: int, start_ms: int) -> list[bytes]:
    """Bodies of one scrape each of 10,000 series, encoded before any clock runs."""
    series = []
    for number in range(BATCH):
        labels = fleet_labels(number, _FLEET).as_dict()
        series.append((labels.pop(METRIC_NAME), labels))
    return [
        orjson.dumps(
            {
                "metrics": [
                    {
                        "name": name,
                        "value": number + batch,
                        "labels": labels,
                        "timestamp": (start_ms + batch * INTERVAL_MS) / 1000,
                    }
                    for number, (name, labels) in enumerate(series)
                ]
            }
        )
        for batch in range(n_batches)
    ]


async def measure_native_ingest(
    servers: Servers, start_ms: int, rounds: int, batches: int
) -> Measurement:
    """Samples per second of every round; a first one, which makes the series, does not count."""
    measurement = Measurement(
        f"native ingest, batches of {BATCH:,}\n  (Prometheus: the same by remote write)",
        "samples/s",
        is_rate=True,
    )
    bodies = encode_batches(1 + rounds * batches, start_ms)
    fleet = Fleet(f"{_FLEET}_remote", BATCH, start_ms)
    await _post(servers.ours, bodies[:1])
    await send(servers.prometheus, fleet.scrape(1))
    for number in range(rounds):
        first = 1 + number * batches
        measurement.ours.append(await _post(servers.ours, bodies[first : first + batches]))
        measurement.prometheus.append(await send(servers.prometheus, fleet.scrape(batches)))
    return measurement


async def _post(api: PrometheusApi, bodies: Sequence[bytes]) -> float:
    waiting = list(reversed(bodies))

    async def post_rest() -> None:
        while waiting:
            request = api.session.post(
                f"{api.url}/api/v1/metrics/ingest/batch",
                data=waiting.pop(),
                headers={"Content-Type": "application/json"},
            )
            async with request as response:
                text = await response.text()
                if response.status != 200:
                    raise WriteError(response.status, text)

    start = time.perf_counter()
    await asyncio.gather(*(post_rest() for _ in range(N_CONNECTIONS)))
    return len(bodies) * BATCH / (time.perf_counter() - start)
