"""Accepts requests that Go's `net/http` accepts and aiohttp's stricter parser does not.

Users of Prometheus rely on what its server accepts: label values in raw UTF-8 in a URL
(`curl -g '…?query=c{city="München"}'`), headers up to 1 MiB together, a header field continued on
the next line, `Content-Length` twice with the same value. The head of a request is normalized to
the form of RFC 9112 before aiohttp parses it; a head already in that form is left alone.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from operator import itemgetter
from typing import Any, Final, cast

from aiohttp import hdrs, http_exceptions, web
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEAD_BYTES: Final = (1 << 20) + 4096
"""Go's `DefaultMaxHeaderBytes` plus the slack it adds."""
MAX_HEADERS: Final = 10_000
MAX_PATH_BYTES: Final = 16 << 10
"""The limit of a URL up to its question mark. aiohttp looks up every prefix of a path, which takes
minutes for a megabyte of slashes."""
MAX_PIPELINED: Final = 100
"""Requests that one read from a connection may bring. No client of ours pipelines at all."""
MAX_HELD_HEAD_BYTES: Final = 32 << 20
"""For all connections together."""
DEFAULT_STALL_SECONDS: Final = 300.0
"""Prometheus: --web.read-timeout."""
DEFAULT_MAX_CONNECTIONS: Final = 512
"""Prometheus: --web.max-connections."""

_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n\r\n"
    b"too many connections\n"
)
_LOGGER = logging.getLogger(__name__)
_HEAD_ENDS: Final = (b"\n\r\n", b"\n\n")
_LONGEST_END: Final = 3
_MAX_UNUSUAL_HEAD_BYTES: Final = 64 << 10
"""Normalizing more would delay other requests."""
_MANY_BYTES: Final = 4 << 10
_TINY_CHUNK_BYTES: Final = 8
"""Half of the overhead of a chunk is its content then; senders use chunks of kilobytes."""
_CONTINUE: Final = "100-continue"
_CONTENT_LENGTH: Final = b"content-length"
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]")
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]+")
_CONTINUATION: Final = re.compile(rb"(?<![ \t])[ \t]*\r?\n[ \t]+")
"""Matches from the start of a run of blanks only; from each blank, it would take quadratic time."""
_VERSION: Final = re.compile(rb" HTTP/(\d)\.(\d)$")


class HeadTooLargeError(HttpProcessingError):
    """The request line and the headers take more than `MAX_HEAD_BYTES`."""

    code = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


class PathTooLongError(HttpProcessingError):
    """The path of the URL takes more than `MAX_PATH_BYTES`."""

    code = HTTPStatus.REQUEST_URI_TOO_LONG


class UnknownExpectationError(HttpProcessingError):
    """An `Expect` that is not `100-continue`; aiohttp would quote its content in the response."""

    code = HTTPStatus.EXPECTATION_FAILED


class UnsupportedVersionError(HttpProcessingError):
    """Neither HTTP/1.0 nor HTTP/1.1."""

    code = HTTPStatus.HTTP_VERSION_NOT_SUPPORTED


class TooManyPipelinedError(HttpProcessingError):
    """More than `MAX_PIPELINED` requests came at once, none of them waiting for its response."""

    code = HTTPStatus.TOO_MANY_REQUESTS


class TooManyHeadBytesError(HttpProcessingError):
    """The incomplete heads of all requests take too much memory."""

    code = HTTPStatus.SERVICE_UNAVAILABLE


@dataclass(slots=True)
class HeldHeads:
    """The bytes of incomplete heads, of all connections."""

    n_bytes: int = 0


class HeadNormalizer:
    """Stands in front of aiohttp's parser and holds the head of a request until it is complete.

    The head of a pipelined request goes to the parser unchanged.
    """

    def __init__(self, parser: Any, held: HeldHeads) -> None:
        self._parser = parser
        self._held = held
        self._head = bytearray()
        self._n_held = 0
        self._is_in_body: Callable[[], bool] = _nothing_is_read
        self._chunked: Any = None
        """The payload of the last message if it is chunked."""
        self._is_refused = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        """As aiohttp's parser: the messages that are complete, whether the protocol changes, the
        bytes that are left. Raises HttpProcessingError.
        """
        if not data:
            return self._feed_one(data)
        messages: list[Any] = []
        for _ in range(MAX_PIPELINED):
            more, is_upgraded, data = self._feed_one(data)
            messages += more
            if is_upgraded or not data:
                return messages, is_upgraded, data
        raise TooManyPipelinedError

    def _feed_one(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Feed the rest of a body, or the data up to the end of one head.

        The bytes that are left come after that head.
        """
        if self._is_refused:
            return (), False, b""
        if not data or self._is_in_body():
            return self._feed_body(data)
        searched = 0
        received: bytes | bytearray = data
        if self._head:
            searched = max(len(self._head) - _LONGEST_END, 0)
            self._head += data
            received = self._head
        else:
            received = data.lstrip(b"\r\n")  # What some clients send after a body (RFC 9112, 2.2).
            if received and not _TOKEN.match(received):
                raise http_exceptions.BadStatusLine  # TLS on this port, for example.
        end = _head_end(received, searched)
        if (end or len(received)) > MAX_HEAD_BYTES:
            self.let_go()
            raise HeadTooLargeError
        if not end:
            self._hold(received)
            return (), False, b""
        head, rest = bytes(received[:end]), bytes(received[end:])
        self.let_go()
        messages, is_upgraded, tail = self._feed(normalized_head(head))
        return messages, is_upgraded, tail + rest

    @property
    def is_in_body(self) -> bool:
        """Whether a part of the body of the last request has not come yet."""
        return self._is_in_body()

    def let_go(self) -> None:
        """Drop the held part of a head."""
        self._head.clear()
        self._held.n_bytes -= self._n_held
        self._n_held = 0

    def _hold(self, head: bytes | bytearray) -> None:
        if head is not self._head:
            self._head += head
        self._held.n_bytes += len(self._head) - self._n_held
        self._n_held = len(self._head)
        if self._held.n_bytes > MAX_HELD_HEAD_BYTES:
            raise TooManyHeadBytesError

    def _feed_body(self, data: bytes) -> tuple[Any, bool, bytes]:
        """Feed a part of a body, unless its chunks are so small that parsing them is an attack.

        256 KiB of one-byte chunks would block all other requests for 0.2 s.
        """
        if self._chunked is not None and _has_tiny_chunks(data):
            self._is_refused = True
            self._chunked.set_exception(
                web.RequestPayloadError("the chunks of the request body are too small")
            )
            return (), False, b""
        return self._feed(data)

    def _feed(self, data: bytes) -> tuple[Any, bool, bytes]:
        messages, is_upgraded, tail = self._parser.feed_data(data)
        for message, _ in messages:
            if len(message.path.partition("?")[0]) > MAX_PATH_BYTES:
                raise PathTooLongError
            if message.headers.get(hdrs.EXPECT, _CONTINUE).lower() != _CONTINUE:
                raise UnknownExpectationError
        if messages:
            message, last = messages[-1]
            self._is_in_body = lambda: not last.is_eof()
            self._chunked = last if message.chunked else None
        if is_upgraded:
            self._is_in_body = lambda: True
        return messages, is_upgraded, tail


def _nothing_is_read() -> bool:
    return False


def _has_tiny_chunks(data: bytes) -> bool:
    """Whether most chunks hold only a few bytes, judged by the two line ends of each."""
    return len(data) >= _MANY_BYTES and data.count(b"\r\n") * _TINY_CHUNK_BYTES > len(data)


def _head_end(data: bytes | bytearray, start: int) -> int:
    """The position after the first empty line, 0 when there is none yet."""
    head_end = 0
    for mark in _HEAD_ENDS:
        # Not beyond the end found first: the rest is the body.
        position = data.find(mark, start, head_end or len(data))
        if position >= 0:
            head_end = position + len(mark)
    return head_end


def _is_unusual(head: bytes) -> bool:
    """Whether there is raw UTF-8, a line that ends with LF alone, or a continued field.

    Regular expressions would take 0.1 s for a megabyte.
    """
    return (
        not head.isascii()
        or head.count(b"\n") != head.count(b"\r\n")
        or b"\n " in head
        or b"\n\t" in head
    )


def normalized_head(head: bytes) -> bytes:
    """The head of a request, up to its empty line, as RFC 9112 wants it.

    Raises BadStatusLine, UnsupportedVersionError for anything but HTTP/1, and HeadTooLargeError for
    a large one that is not in that form.
    """
    request_line, _, fields = head.partition(b"\n")
    request_line = request_line.rstrip(b"\r")
    version = _VERSION.search(request_line)
    if version is None:
        raise http_exceptions.BadStatusLine
    if version[1] != b"1":
        raise UnsupportedVersionError
    is_later = version[2] > b"1"
    lengths = head.lower().count(b"\n" + _CONTENT_LENGTH)
    if not is_later and lengths < 2 and not _is_unusual(head):
        return head
    if len(head) > _MAX_UNUSUAL_HEAD_BYTES:
        raise HeadTooLargeError
    if is_later:
        request_line = request_line[: version.start()] + b" HTTP/1.1"
    request_line = _NOT_ASCII.sub(
        lambda found: b"%" + found[0].hex("%").upper().encode(), request_line
    )
    lines = _CONTINUATION.sub(b" ", fields).replace(b"\r\n", b"\n").split(b"\n")
    return b"\r\n".join([request_line, *_without_repeated_length(lines)])


def _without_repeated_length(lines: list[bytes]) -> list[bytes]:
    """The fields without a Content-Length that repeats the first one's value (RFC 9110, 8.6)."""
    kept: list[bytes] = []
    length: bytes | None = None
    for line in lines:
        name, _, value = line.partition(b":")
        if name.lower() == _CONTENT_LENGTH:
            if length == value.strip():
                continue
            length = length or value.strip()
        kept.append(line)
    return kept


class Connection(web.RequestHandler):
    """One connection of a client."""

    __slots__ = ("_behind_seconds", "_giving_up", "_heard_at", "_paused_at", "_server")

    def __init__(self, server: "ConnectionServer", **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self._giving_up: asyncio.TimerHandle | None = None
        self._heard_at = self._paused_at = self._loop.time()
        self._behind_seconds = 0.0
        """How long its client has kept answers waiting, without what their pieces may take."""
        self._parser: Any = HeadNormalizer(self._parser, server.held_heads)

    @property
    def idle_until(self) -> float | None:
        """When it will be closed if no request comes, loop time; None while one is answered."""
        return None if self._request_in_progress else self._next_keepalive_close_time

    @property
    def silent_since(self) -> float | None:
        """Since when its client neither sends the rest of a body nor reads its answer, loop time.

        None while the client has to do neither.
        """
        if self._giving_up is not None:
            return self._paused_at
        is_asked_to_send = self._parser.is_in_body and not self._reading_paused
        return self._heard_at if is_asked_to_send else None

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self._heard_at = self._loop.time()
        super().data_received(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve the connection, or refuse it when there are too many."""
        super().connection_made(transport)
        if not self._server.make_room(self):
            cast(asyncio.Transport, transport).write(_BUSY)
            self.force_close()

    def pause_writing(self) -> None:
        """The client does not read at the moment; it has some minutes to continue.

        A client that reads some kilobytes again and again gets no further minutes by that: the
        service keeps the rest of its answer in memory.
        """
        super().pause_writing()
        self._paused_at = self._loop.time()
        left_seconds = max(0.0, self._server.stall_seconds - self._behind_seconds)
        self._giving_up = self._loop.call_later(left_seconds, self.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        waited_seconds = self._loop.time() - self._paused_at
        behind_seconds = self._behind_seconds + waited_seconds - self._server.piece_seconds
        self._behind_seconds = max(0.0, behind_seconds)
        self._stop_giving_up()

    def abort(self) -> None:
        """Discard what the client does not read; closing would wait for it."""
        if self.transport is not None:
            self.transport.abort()

    def _stop_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what was read of a request."""
        self._stop_giving_up()
        if self._parser is not None:
            self._parser.let_go()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Go's response to a request that it cannot read, instead of the parser's own text."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        _LOGGER.debug("malformed request", extra={"peer": request.remote, "reason": exc.message})
        wanted = _status_of(exc)
        response = web.Response(status=wanted, text=f"{wanted.value} {wanted.phrase}\n")
        if wanted is HTTPStatus.SERVICE_UNAVAILABLE:
            response.headers[hdrs.RETRY_AFTER] = "1"
        response.force_close()
        return response


def _status_of(error: HttpProcessingError) -> HTTPStatus:
    match error:
        case http_exceptions.LineTooLong():
            return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        case http_exceptions.BadHttpMethod():
            return HTTPStatus.METHOD_NOT_ALLOWED
        case (
            HeadTooLargeError()
            | PathTooLongError()
            | UnknownExpectationError()
            | UnsupportedVersionError()
            | TooManyHeadBytesError()
            | TooManyPipelinedError()
        ):
            return HTTPStatus(error.code)
        case _:
            return HTTPStatus.BAD_REQUEST


class ConnectionServer(web.Server):
    """Creates a `Connection` for each client, up to a maximum."""

    max_connections: int = DEFAULT_MAX_CONNECTIONS
    patience_seconds: float = 1.0
    """How long a client may be silent in the middle of a request while there is no more room."""
    piece_seconds: float = 10.0
    """How long a client may take to read a piece of its answer, about 64 KiB."""
    stall_seconds: float = DEFAULT_STALL_SECONDS
    """How long a client may go without reading from its response."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.held_heads = HeldHeads()

    def make_room(self, newcomer: Connection) -> bool:
        """Whether there is room for a new connection, if necessary by closing another one.

        That is the one that has been idle, or has been sending a request head, for the longest. If
        there is none, it is the one whose client has been silent for the longest in the middle of
        a body or of its answer: a few hundred such clients would keep out all others.
        """
        if len(self._connections) <= self.max_connections:
            return True
        others = [
            other
            for other in self.connections
            if isinstance(other, Connection) and other is not newcomer
        ]
        idle = [(until, other) for other in others if (until := other.idle_until) is not None]
        if idle:
            min(idle, key=itemgetter(0))[1].force_close()
            return True
        latest = self._loop.time() - self.patience_seconds
        silent = [
            (since, other)
            for other in others
            if (since := other.silent_since) is not None and since <= latest
        ]
        if silent:
            min(silent, key=itemgetter(0))[1].abort()
        return bool(silent)

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return Connection(self, loop=self._loop, **self._kwargs)


class ConnectionRunner(web.AppRunner):
    """Runs an application on a `ConnectionServer`."""

    __slots__ = ("_max_connections", "_stall_seconds")

    def __init__(
        self,
        app: web.Application,
        *,
        max_connections: int,
        stall_seconds: float,
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._max_connections = max_connections
        self._stall_seconds = stall_seconds

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        server = ConnectionServer(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=plain._loop,
            **plain._kwargs,
        )
        server.max_connections = self._max_connections
        server.stall_seconds = self._stall_seconds
        return server
