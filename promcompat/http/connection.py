"""Connections of clients: how many there are, how long each may be silent, and what ends them."""

import asyncio
import logging
from http import HTTPStatus
from operator import itemgetter
from typing import Any, Final, cast

from aiohttp import hdrs, http_exceptions, web
from aiohttp.http_exceptions import HttpProcessingError

from promcompat.http.request_heads import HeadNormalizer, HeldHeads, RefusedRequestError

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
        if self._parser is not None and self._parser.is_refused:
            # The server would wait for the rest of the body, and log that it cannot be read.
            self._lingering_time = 0.0

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
        case RefusedRequestError():
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
