"""Sends remote-write requests as fast as a server takes them, in a process of its own.

Each connection is a thread with its own series, so that the samples of a series go one after the
other, as real senders do it. The answer to a request is waited for before the next is sent.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from multiprocessing import get_context
from threading import Condition
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from tests.benchmarks.snappy_template import SnappyTemplate

RETRY_SECONDS: Final = 0.05
_TIMEOUT_SECONDS: Final = 60.0
_GIVE_UP_SECONDS: Final = 120.0
_RETRIED: Final = (429, 500, 502, 503, 504)
_HEADER: Final = "POST {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Protocol:
    """Where and with which headers requests are sent."""

    path: str = "/api/v1/write"
    headers: str = (
        "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\n"
        "X-Prometheus-Remote-Write-Version: 0.1.0\r\n"
    )


REMOTE_WRITE_1: Final = Protocol()


class LoadError(Exception):
    """The server refused a request for good, or did not answer for two minutes."""


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Counters that are scraped together again and again; without end."""

    templates: Sequence[SnappyTemplate]
    start_ms: int
    interval_ms: int
    n_scrapes: int | None = None
    protocol: Protocol = REMOTE_WRITE_1
    most_ahead: float = inf
    """So many scrapes a connection may be ahead of the slowest one. Prometheus refuses what is an
    hour older than its newest sample."""

    def n_bodies(self, connection: int, n_connections: int) -> int:
        """How many bodies of one connection a scrape has."""
        return max(1, len(self.templates[connection::n_connections]))

    def bodies(self, connection: int, n_connections: int) -> Iterator[tuple[bytes, int]]:
        """The bodies of one connection, each with its number of samples."""
        mine = self.templates[connection::n_connections]
        rng = np.random.default_rng(connection)
        values = [rng.integers(0, 1_000_000, part.n_series).astype(float) for part in mine]
        offsets = [rng.integers(0, 1_000, part.n_series) for part in mine]
        scrape = 0
        while mine and (self.n_scrapes is None or scrape < self.n_scrapes):
            for template, value, offset in zip(mine, values, offsets, strict=True):
                value += rng.integers(0, 500, len(value))
                times = self.start_ms + scrape * self.interval_ms + offset
                yield template.body(times, value), template.n_series
            scrape += 1


@dataclass(frozen=True, slots=True)
class Bodies:
    """Requests that were encoded before, each sent once."""

    requests: Sequence[tuple[bytes, int]]
    protocol: Protocol = REMOTE_WRITE_1
    most_ahead: float = inf

    def n_bodies(self, connection: int, n_connections: int) -> int:
        """All bodies of a connection count as one scrape."""
        return max(1, len(self.requests[connection::n_connections]))

    def bodies(self, connection: int, n_connections: int) -> Iterator[tuple[bytes, int]]:
        """The bodies of one connection, each with its number of samples."""
        return iter(self.requests[connection::n_connections])


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was acknowledged, and how long it took."""

    n_samples: int
    seconds: float
    request_ms: np.ndarray
    """float64[n_requests]: from the first byte sent to the answer, without the waits of retries."""
    ended_seconds: np.ndarray
    """float64[n_requests]: when each request was acknowledged, from the start."""
    refused: dict[str, int] = field(default_factory=dict)
    """How often each status was answered that asks to send again."""
    generator_cpu_seconds: float = 0.0

    @property
    def samples_per_second(self) -> float:
        """The rate of acknowledged samples."""
        return self.n_samples / self.seconds

    def attempts_per_second(self, n_samples: int) -> float:
        """The rate of samples sent, refused ones included, with so many in each request."""
        return self.samples_per_second + n_samples * sum(self.refused.values()) / self.seconds

    def rates(self, n_parts: int) -> list[float]:
        """Samples per second in each of `n_parts` equal parts of the time."""
        counts, _ = np.histogram(self.ended_seconds, n_parts, (0.0, self.seconds))
        per_request = self.n_samples / max(1, len(self.ended_seconds))
        return [float(count * per_request * n_parts / self.seconds) for count in counts]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, or that the connection was cut (status 0)."""

    status: int
    text: bytes
    names_retry_time: bool = False
    """Whether it has the header Retry-After."""

    @property
    def kind(self) -> str:
        """Under which name a refusal is counted."""
        if self.status != 503:
            return str(self.status or "cut")
        return "503" if self.names_retry_time else "503 without Retry-After"


class Connection:
    """One HTTP connection, which is opened again when it was lost."""

    def __init__(self, url: str, protocol: Protocol = REMOTE_WRITE_1) -> None:
        self._protocol = protocol
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._host = parts.netloc
        self._socket: socket.socket | None = None

    def post(self, body: bytes) -> Answer:
        """Send a body. Raises OSError."""
        try:
            connected = self._socket or self._open()
            header = _HEADER.format(
                path=self._protocol.path,
                headers=self._protocol.headers,
                host=self._host,
                length=len(body),
            ).encode()
            connected.sendall(header + body)
            return self._read_answer(connected)
        except OSError:
            self.close()
            raise

    def _open(self) -> socket.socket:
        self._socket = socket.create_connection(self._address, timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _read_answer(self, connected: socket.socket) -> Answer:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive(connected)
        head, _, text = answer.partition(b"\r\n\r\n")
        fields = dict(
            line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line
        )
        length = int(fields.get(b"content-length", b"0"))
        while len(text) < length:
            text += self._receive(connected)
        # A text in chunks, of an error, is not read to its end.
        if b"transfer-encoding" in fields or fields.get(b"connection", b"").strip() == b"close":
            self.close()
        return Answer(int(head.split(b" ", 2)[1]), text, b"retry-after" in fields)

    @staticmethod
    def _receive(connected: socket.socket) -> bytes:
        if data := connected.recv(1 << 16):
            return data
        raise ConnectionResetError("the server closed the connection")

    def close(self) -> None:
        """Close the socket, if one is open."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Pace:
    """Keeps connections within some scrapes of each other."""

    def __init__(self, n_bodies: Sequence[int], most_ahead: float) -> None:
        """`n_bodies` are those of a scrape, of each connection."""
        self._n_bodies = n_bodies
        self._most_ahead = most_ahead
        self._scrapes = [0.0] * len(n_bodies)
        self._changed = Condition()

    def wait(self, number: int) -> None:
        """Return once a connection may send its next body."""
        if self._most_ahead < inf:
            with self._changed:
                self._changed.wait_for(lambda: self._is_allowed(number))

    def _is_allowed(self, number: int) -> bool:
        return self._scrapes[number] <= min(self._scrapes) + self._most_ahead

    def note(self, number: int, *, is_last: bool = False) -> None:
        """A connection has sent a body, or has none left."""
        if self._most_ahead < inf:
            with self._changed:
                self._scrapes[number] += inf if is_last else 1 / self._n_bodies[number]
                self._changed.notify_all()


@dataclass(slots=True)
class _Sender:
    """One connection's part of a load; `number` is its place among the connections."""

    connection: Connection
    is_over: Callable[[], bool]
    pace: _Pace
    number: int
    request_ms: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    n_samples: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def send_all(self, bodies: Iterator[tuple[bytes, int]]) -> None:
        """Send until the bodies end or the time is over."""
        try:
            for body, n_samples in bodies:
                self.pace.wait(self.number)
                if self.is_over():
                    break
                self._send_until_taken(body)
                self.n_samples += n_samples
                self.pace.note(self.number)
        finally:
            self.pace.note(self.number, is_last=True)
            self.connection.close()

    def _send_until_taken(self, body: bytes) -> None:
        give_up = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            started = time.perf_counter()
            try:
                answer = self.connection.post(body)
            except OSError as exc:
                answer = Answer(0, str(exc).encode())
            ended, status = time.perf_counter(), answer.status
            if status // 100 == 2:
                self.request_ms.append((ended - started) * 1000)
                self.ended.append(ended)
                return
            if (status and status not in _RETRIED) or time.monotonic() > give_up:
                raise LoadError(f"{status}: {answer.text[:300].decode(errors='replace')}")
            self.refused[answer.kind] += 1
            time.sleep(RETRY_SECONDS)


def send_load(
    url: str, load: Scrapes | Bodies, n_connections: int, seconds: float | None
) -> LoadResult:
    """Send for some seconds, or all there is (None). Raises LoadError."""
    started, cpu_started = time.perf_counter(), time.process_time()

    def is_over() -> bool:
        return seconds is not None and time.perf_counter() - started > seconds

    numbers = range(n_connections)
    pace = _Pace([load.n_bodies(number, n_connections) for number in numbers], load.most_ahead)
    senders = [_Sender(Connection(url, load.protocol), is_over, pace, each) for each in numbers]
    with ThreadPoolExecutor(n_connections) as threads:
        sending = [
            threads.submit(sender.send_all, load.bodies(number, n_connections))
            for number, sender in enumerate(senders)
        ]
        for each in sending:
            each.result()
    return LoadResult(
        sum(sender.n_samples for sender in senders),
        time.perf_counter() - started,
        np.array([spent for sender in senders for spent in sender.request_ms]),
        np.array([ended - started for sender in senders for ended in sender.ended]),
        dict(sum((sender.refused for sender in senders), Counter())),
        time.process_time() - cpu_started,
    )


def load_process() -> ProcessPoolExecutor:
    """A process in which `send_load` competes with nothing of the caller's for the interpreter."""
    return ProcessPoolExecutor(1, get_context("spawn"))
