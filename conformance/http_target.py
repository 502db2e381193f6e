"""Lets test scripts run against any server that speaks the Prometheus HTTP API."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conformance.prometheus_api import PrometheusApi, Response, format_seconds
from promcompat.core.model import EvalRange, Labels
from tests.promqltest.answer import (
    Answer,
    MatrixAnswer,
    Point,
    ScalarAnswer,
    StringAnswer,
    VectorAnswer,
)
from tests.promqltest.target import Reply
from tests.support.factories import Points, Starts

_PARAMETER_PREFIX = 'invalid parameter "query": '
"""The HTTP API's addition to what the engine says of a query it cannot read."""


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """A server whose store is empty, or a tenant of it that is new."""

    api: PrometheusApi

    async def load(self, series: Mapping[Labels, Points], starts: Starts) -> None:
        """See Target. Raises ValueError for starts, which remote write 1.0 has not."""
        if starts:
            raise ValueError("remote write 1.0 cannot say when counters began")
        await self.api.write(series)

    async def query(self, expr: str, time_ms: int) -> Reply:
        """See Target."""
        return _reply(await self.api.query(expr, format_seconds(time_ms)))

    async def query_range(self, expr: str, grid: EvalRange) -> Reply:
        """See Target."""
        times = map(format_seconds, (grid.start_ms, grid.end_ms, grid.step_ms))
        return _reply(await self.api.query_range(expr, *times))


def _reply(response: Response) -> Reply:
    if not response.is_success:
        return Reply(None, response.error.removeprefix(_PARAMETER_PREFIX))
    warnings = tuple(response.body.get("warnings", ()))
    infos = tuple(response.body.get("infos", ()))
    return Reply(read_data(response.data), "", warnings, infos)


def read_data(data: Mapping[str, Any]) -> Answer:
    """The answer in the `data` of a query response; native histograms are as they are shown."""
    result = data["result"]
    match data["resultType"]:
        case "scalar":
            return ScalarAnswer(float(result[1]))
        case "string":
            return StringAnswer(result[1])
        case "vector":
            return VectorAnswer([(Labels.of(row["metric"]), _points(row)[0][1]) for row in result])
        case "matrix":
            return MatrixAnswer([(Labels.of(row["metric"]), _points(row)) for row in result])
        case other:
            raise ValueError(f"unknown result type {other!r}")


@dataclass(frozen=True, slots=True)
class ShownHistogram:
    """A native histogram in JSON, which has no schema; each bucket: kind, bounds and count."""

    count: float
    sum: float
    buckets: tuple[tuple[int, float, float, float], ...]


def _points(row: Mapping[str, Any]) -> list[Point]:
    """The points of a series in order of time, of which those of a vector have only one."""
    floats = [row["value"]] if "value" in row else row.get("values", [])
    shown = [row["histogram"]] if "histogram" in row else row.get("histograms", [])
    points = [(round(time * 1000), float(value)) for time, value in floats]
    points += [(round(time * 1000), _histogram(value)) for time, value in shown]
    return sorted(points, key=lambda point: point[0])


def _histogram(shown: Mapping[str, Any]) -> ShownHistogram:
    buckets = [(kind, *map(float, numbers)) for kind, *numbers in shown.get("buckets", ())]
    return ShownHistogram(float(shown["count"]), float(shown["sum"]), tuple(buckets))
