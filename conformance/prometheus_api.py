"""A small client of the Prometheus HTTP API and of remote write 1.0."""

import struct
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import snappy

from promcompat.core.model import Labels
from tests.support.factories import Points, encode_field, encode_labels, encode_varint

SAMPLES_PER_REQUEST = 2000
_TIMEOUT = aiohttp.ClientTimeout(total=60)
_WRITE_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}


class WriteError(Exception):
    """The receiver did not take a request; `status` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text.strip()}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Response:
    """An answer of the query API: the decoded body, whatever the status."""

    status: int
    body: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Whether the query was answered."""
        return self.body.get("status") == "success"

    @property
    def data(self) -> Any:
        """The `data` of a success."""
        return self.body["data"]

    @property
    def error(self) -> str:
        """The message of a failure."""
        return str(self.body.get("error", ""))


def encode_sample(time_ms: int, value: float) -> bytes:
    """A sample message; negative times take ten bytes, as protobuf has it."""
    return encode_field(
        2, b"\x09" + struct.pack("<d", value) + b"\x10" + encode_varint(time_ms % 2**64)
    )


def encode_write_requests(
    series: Mapping[Labels, Points] | Iterable[tuple[Labels, Points]],
) -> list[bytes]:
    """The compressed remote-write 1.0 bodies that carry all points, in order."""
    bodies: list[bytes] = []
    parts: list[bytes] = []
    n_samples = 0
    for labels, points in series.items() if isinstance(series, Mapping) else series:
        prefix = encode_labels(labels)
        for start in range(0, len(points), SAMPLES_PER_REQUEST):
            chunk = points[start : start + SAMPLES_PER_REQUEST]
            samples = b"".join(encode_sample(*point) for point in chunk)
            parts.append(encode_field(1, prefix + samples))
            n_samples += len(chunk)
            if n_samples >= SAMPLES_PER_REQUEST:
                bodies.append(snappy.compress(b"".join(parts)))
                parts, n_samples = [], 0
    if parts:
        bodies.append(snappy.compress(b"".join(parts)))
    return bodies


@dataclass(frozen=True, slots=True)
class PrometheusApi:
    """One server; `headers` go with every request."""

    session: aiohttp.ClientSession
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def write(self, series: Mapping[Labels, Points]) -> None:
        """Remote-write samples; raises WriteError when a request is not taken."""
        for body in encode_write_requests(series):
            await self.write_body(body)

    async def write_body(self, body: bytes) -> None:
        """Send one compressed request; raises WriteError when it is not taken."""
        headers = {**_WRITE_HEADERS, **self.headers}
        request = self.session.post(f"{self.url}/api/v1/write", data=body, headers=headers)
        async with request as response:
            text = await response.text()
            if response.status // 100 != 2:
                raise WriteError(response.status, text)

    async def query(self, expr: str, time: str) -> Response:
        """Ask an instant query at a time in seconds."""
        return await self.post("query", {"query": expr, "time": time})

    async def query_range(self, expr: str, start: str, end: str, step: str) -> Response:
        """Ask a range query; times and step in seconds."""
        params = {"query": expr, "start": start, "end": end, "step": step}
        return await self.post("query_range", params)

    async def post(self, endpoint: str, params: Mapping[str, str]) -> Response:
        """Ask any endpoint of the query API by a form."""
        url = f"{self.url}/api/v1/{endpoint}"
        async with self.session.post(url, data=params, headers=dict(self.headers)) as response:
            return Response(response.status, orjson.loads(await response.read()))

    async def get(self, endpoint: str, params: Sequence[tuple[str, str]] = ()) -> Response:
        """Ask any endpoint of the query API by query parameters."""
        url = f"{self.url}/api/v1/{endpoint}"
        async with self.session.get(url, params=params, headers=dict(self.headers)) as response:
            return Response(response.status, orjson.loads(await response.read()))


@asynccontextmanager
async def open_session(limit: int = 4) -> AsyncIterator[aiohttp.ClientSession]:
    """A client session with at most `limit` connections."""
    connector = aiohttp.TCPConnector(limit=limit)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        yield session


def format_seconds(time_ms: int) -> str:
    """A time in milliseconds as the API takes it."""
    sign, time_ms = ("-", -time_ms) if time_ms < 0 else ("", time_ms)
    return f"{sign}{time_ms // 1000}.{time_ms % 1000:03}"
