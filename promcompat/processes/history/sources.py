"""Where `promcompat import` reads history from, and the service that gets it.

The answers of remote read have the same messages as remote-write requests, so that they are sent on
as they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol
from urllib.parse import urlencode

import aiohttp
import numpy as np
import snappy
from google.protobuf.message import DecodeError

from promcompat.core.errors import PromcompatError
from promcompat.core.limits.label_limits import LabelLimits
from promcompat.core.matchers import LabelMatcher, MatchOp
from promcompat.core.model import FloatArray, IntArray, is_stale
from promcompat.core.series_table import KnownSeries, PendingKeys, SeriesTableBuilder
from promcompat.core.texts.connection_faults import connection_fault
from promcompat.core.texts.secrets import public_url
from promcompat.imports.columns import ColumnsBuilder
from promcompat.imports.json_lines import read_json_lines
from promcompat.processes.history.series_keys import keys_of_lines, keys_of_request
from promcompat.remote_read.remote_read_pb2 import LabelMatcher as WireMatcher
from promcompat.remote_read.remote_read_pb2 import Query, ReadRequest, ReadResponse
from promcompat.remote_write.decoder import decode_write_request, split_write_request

_ATTEMPTS: Final = 8
_LONGEST_PAUSE_SECONDS: Final = 10.0
_PARALLEL_REQUESTS: Final = 4
_BYTES_OF_LINES: Final = 2 << 20
_MAX_SERIES: Final = 1 << 40
_MODULUS: Final = 1 << 64
_OPERATORS: Final = dict(zip(MatchOp, ("EQ", "NEQ", "RE", "NRE"), strict=True))
_ANY: Final = LabelLimits(
    max_names=1 << 30,
    max_names_of_info=1 << 30,
    max_name_bytes=1 << 30,
    max_value_bytes=1 << 30,
    max_metadata_bytes=1 << 30,
)
_CONFLICT: Final = b"duplicate sample for timestamp"
"""How the service's lines about samples begin that it has with another value."""
_PROTOBUF: Final = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}


class HistoryImportError(PromcompatError):
    """A server did not answer as expected; the message says which one, and what it answered."""


class WindowTooLargeError(Exception):
    """A server has more samples in a window than it gives at once."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many samples there are, and a checksum of their times and values, in whatever order.

    It is a sum modulo 2^64, see `tally_of_samples`; None if it is not known of all of them.
    """

    number: int = 0
    checksum: int | None = 0

    def plus(self, other: "Tally") -> "Tally":
        """Both together."""
        checksum = None
        if self.checksum is not None and other.checksum is not None:
            checksum = (self.checksum + other.checksum) % _MODULUS
        return Tally(self.number + other.number, checksum)

    def agrees_with(self, other: "Tally") -> bool:
        """Whether these can be the same samples."""
        is_known = self.checksum is not None and other.checksum is not None
        return self.number == other.number and (self.checksum == other.checksum or not is_known)


@dataclass(frozen=True, slots=True)
class Window:
    """Samples of a window of time as they are sent on: `body` is of the type of its source."""

    body: bytes
    tally: Tally


class Source(Protocol):
    """A server that has history, of series that match."""

    async def read(self, start_ms: int, end_ms: int) -> Window:
        """The samples in `[start_ms, end_ms]`.

        Raises WindowTooLargeError and HistoryImportError.
        """

    async def send(self, window: Window, service: "Server") -> None:
        """Send a window to a service, by remote write. Raises HistoryImportError."""
        await send_write_requests(window, service)

    def keys_of(self, window: Window) -> Iterator[bytes]:
        """The labels of each series of a window, as they are sent."""
        return keys_of_request(window.body)


@dataclass(frozen=True, slots=True)
class Server:
    """One server; what may succeed later is tried again.

    `conflicts` are its answers to requests with samples that it has with another value.
    """

    session: aiohttp.ClientSession
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The address without user and password, for messages."""
        return public_url(self.url)

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Status and body of an answer below 500. Raises HistoryImportError."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                async with self.session.post(
                    self.url + path, data=body, headers={**self.headers, **headers}
                ) as answer:
                    content = await answer.read()
                    if answer.status < 500 and answer.status != 429:
                        return answer.status, content
                    reason = f"{answer.status}: {_shown(content)}"
            except (aiohttp.ClientError, TimeoutError) as exc:
                reason = connection_fault(exc)
            await asyncio.sleep(min(0.2 * 2**attempt, _LONGEST_PAUSE_SECONDS))
        raise HistoryImportError(f"{self.name}{path} does not answer: {reason}")

    async def retention_days(self) -> int:
        """How long the service keeps samples of this tenant; 0: forever, or it does not say."""
        try:
            async with self.session.get(
                f"{self.url}/api/v1/metrics/retention", headers=self.headers
            ) as answer:
                # A sender may lack the role `read`, and another service has no such path.
                found = await answer.json() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0
        match found:
            case {"retention_days": int(days)} | {"service_retention_days": int(days)}:
                return days
            case _:
                return 0


def _shown(content: bytes) -> str:
    return content[:300].decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class RemoteReadSource(Source):
    """A Prometheus, or anything else with remote read; our own service too."""

    server: Server
    matchers: tuple[LabelMatcher, ...]

    async def read(self, start_ms: int, end_ms: int) -> Window:
        """See the port."""
        query = Query(
            start_timestamp_ms=start_ms,
            end_timestamp_ms=end_ms,
            matchers=[
                WireMatcher(
                    type=_OPERATORS[matcher.op],
                    name=matcher.name.encode(),
                    value=matcher.value.encode(),
                )
                for matcher in self.matchers
            ],
        )
        body = snappy.compress(ReadRequest(queries=[query]).SerializeToString())
        status, content = await self.server.post("/api/v1/read", body, _PROTOBUF)
        if b"exceeded sample limit" in content[:1000] or status == 422:
            raise WindowTooLargeError
        if status != 200:
            raise HistoryImportError(
                f"{self.server.name}/api/v1/read answered {status}: {_shown(content)}"
            )
        return await asyncio.to_thread(_window_of, content)


async def send_write_requests(window: Window, service: Server) -> None:
    """Send a window by remote write, in pieces of a megabyte. Raises HistoryImportError."""

    async def send(piece: bytes) -> None:
        body = await asyncio.to_thread(snappy.compress, piece)
        await _post_expecting_204(service, "/api/v1/write", body, _PROTOBUF)

    if window.body:
        await _send_all(split_write_request(window.body, _MAX_SERIES), send)


async def _send_all(pieces: Iterable[bytes], send: Callable[[bytes], Awaitable[None]]) -> None:
    """Send pieces, a few at once. The first error ends it."""
    free = asyncio.Semaphore(_PARALLEL_REQUESTS)

    async def send_in_turn(piece: bytes) -> None:
        async with free:
            await send(piece)

    tasks = [asyncio.create_task(send_in_turn(piece)) for piece in pieces]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _post_expecting_204(
    service: Server, path: str, body: bytes, headers: Mapping[str, str]
) -> None:
    status, content = await service.post(path, body, headers)
    lines = content.splitlines() or [b""]
    if status == 400 and all(line.startswith(_CONFLICT) for line in lines):
        # The other samples of the request are stored.
        service.conflicts.append(_shown(content))
    elif status != 204:
        raise HistoryImportError(f"{service.name}{path} answered {status}: {_shown(content)}")


def _window_of(content: bytes) -> Window:
    try:
        response = ReadResponse.FromString(snappy.uncompress(content))
    except (DecodeError, snappy.UncompressError) as exc:
        raise HistoryImportError(f"the answer to remote read is damaged: {exc}") from exc
    body = b"".join(response.results)
    return Window(body, tally_of_request(body))


def tally_of_request(body: bytes) -> Tally:
    """The tally of a remote-write request of any length."""
    tally = Tally()
    nothing = KnownSeries(SeriesTableBuilder(1 << 16).table, 0, PendingKeys(), version=0)
    for piece in split_write_request(body, _MAX_SERIES) if body else ():
        decoded = decode_write_request(piece, nothing, _ANY, _MAX_SERIES)
        tally = tally.plus(tally_of_samples(decoded.batch.timestamps, decoded.batch.values))
    return tally


def tally_of_samples(times: IntArray, values: FloatArray) -> Tally:
    """The tally of some samples: each counts by the exact bits of its time and its value.

    A sum of values would depend on their order, and be as wrong as the largest of them is rounded.
    All NaN but the stale marker are one, as the bits of others may change on their way, and those
    that refer to histograms do; a histogram counts by its time.
    """
    bits = np.where(np.isnan(values) & ~is_stale(values), np.uint64(0), values.view(np.uint64))
    # Odd numbers lose nothing modulo 2^64, and the value 0.0 has the bits 0.
    terms = (bits + np.uint64(1)) * (2 * times + 1).view(np.uint64)
    return Tally(len(values), int(terms.sum(dtype=np.uint64)))


@dataclass(frozen=True, slots=True)
class ExportSource(Source):
    """A VictoriaMetrics, by its JSON lines."""

    server: Server
    match: str

    async def read(self, start_ms: int, end_ms: int) -> Window:
        """See the port."""
        form = {
            "match[]": self.match,
            "start": f"{start_ms / 1000:.3f}",
            "end": f"{end_ms / 1000:.3f}",
            "reduce_mem_usage": "1",
        }
        body = urlencode(form).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        status, content = await self.server.post("/api/v1/export", body, headers)
        if status != 200:
            raise HistoryImportError(
                f"{self.server.name}/api/v1/export answered {status}: {_shown(content)}"
            )
        return Window(content, await asyncio.to_thread(_tally_of_lines, content))

    async def send(self, window: Window, service: Server) -> None:
        """As the lines that were read."""

        async def send(piece: bytes) -> None:
            await _post_expecting_204(service, "/api/v1/import", piece, {})

        await _send_all(_line_pieces(window.body), send)

    def keys_of(self, window: Window) -> Iterator[bytes]:
        """Of each line."""
        return keys_of_lines(window.body)


def _line_pieces(body: bytes) -> Iterator[bytes]:
    """Some megabytes of whole lines at a time."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start + _BYTES_OF_LINES) + 1 or len(body)
        yield body[start:end]
        start = end


def _tally_of_lines(content: bytes) -> Tally:
    builder = ColumnsBuilder({})
    read_json_lines(content.decode(errors="surrogateescape").split("\n"), 1, builder)
    if builder.faults.number:
        raise HistoryImportError(f"an exported line cannot be read: {builder.faults.reasons[0]}")
    columns = builder.finish()
    return tally_of_samples(columns.timestamps, columns.values)
