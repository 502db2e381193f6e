"""The HTTP server on a listening socket."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from promcompat.http.connection import (
    DEFAULT_MAX_CONNECTIONS,
    DEFAULT_STALL_SECONDS,
    ConnectionRunner,
)
from promcompat.http.listening import ListenError
from promcompat.http.request_heads import MAX_HEAD_BYTES, MAX_HEADERS
from promcompat.http.tls import ServerTls

_BACKLOG = 1024
_KEEPALIVE_SECONDS = 120.0
_CANCEL_SECONDS = 1.0
"""How long unfinished handlers may take to handle their cancellation."""
_HANDSHAKE_SECONDS = 10.0
"""A connection counts against the maximum only after its handshake, so that must not take long."""


def make_runner(
    app: web.Application,
    stop_seconds: float,
    *,
    max_connections: int = DEFAULT_MAX_CONNECTIONS,
    idle_seconds: float = _KEEPALIVE_SECONDS,
    stall_seconds: float = DEFAULT_STALL_SECONDS,
) -> web.AppRunner:
    """How requests are read.

    A connection is closed if it sends no complete request head for `idle_seconds`, or reads nothing
    of its response for `stall_seconds`.

    A handler, and its query, is cancelled when its client disconnects. Bodies are not
    decompressed: remote write handles Content-Encoding itself.
    """
    return ConnectionRunner(
        app,
        max_connections=max_connections,
        stall_seconds=stall_seconds,
        shutdown_timeout=stop_seconds,
        handler_cancellation=True,
        auto_decompress=False,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        max_headers=MAX_HEADERS,
        keepalive_timeout=idle_seconds,
        access_log=None,
    )


class _Site(web.SockSite):
    """A socket of aiohttp's, with a shorter limit for TLS handshakes."""

    __slots__ = ()

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None, "the runner is set up"
        self._server = await asyncio.get_running_loop().create_server(
            server,
            sock=self._sock,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=None if self._ssl_context is None else _HANDSHAKE_SECONDS,
        )


class HttpServer:
    """An application served on a bound socket."""

    def __init__(
        self,
        app: web.Application,
        bound: socket.socket,
        stop_seconds: float,
        *,
        max_connections: int,
        read_seconds: float,
        tls: ServerTls | None = None,
    ) -> None:
        """Requests in flight have `stop_seconds` to finish when the server stops.

        The head of a request has to arrive within `read_seconds`, and two minutes at most. A client
        that reads nothing of its response for `read_seconds` is disconnected.
        """
        self._runner = make_runner(
            app,
            _CANCEL_SECONDS,
            max_connections=max_connections,
            idle_seconds=min(_KEEPALIVE_SECONDS, read_seconds),
            stall_seconds=read_seconds,
        )
        self._socket = bound
        self._tls = tls
        self._stop_seconds = stop_seconds
        self._requests = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_stopping = False
        app.middlewares.insert(0, self._track)

    async def start(self) -> None:
        """Listen and serve. Raises ListenError when another socket has taken the port."""
        await self._runner.setup()
        try:
            await _Site(
                self._runner,
                self._socket,
                backlog=_BACKLOG,
                ssl_context=None if self._tls is None else self._tls.context,
            ).start()
        except OSError as exc:
            raise ListenError(f"cannot listen: {exc.strerror or exc}") from exc

    async def stop(self) -> None:
        """Accept no new connections, let requests in flight finish, then close the rest.

        This waits for requests itself, because aiohttp's shutdown discards what clients still send,
        and a write whose body is in transit would never be answered.
        """
        self._is_stopping = True
        for site in list(self._runner.sites):
            await site.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._stop_seconds):
                await self._is_idle.wait()
        await self._runner.cleanup()

    @web.middleware
    async def _track(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Counts the requests in flight; while stopping, each one ends its connection."""
        self._requests += 1
        self._is_idle.clear()
        try:
            response = await handler(request)
            if self._is_stopping:
                response.force_close()
            return response
        finally:
            self._requests -= 1
            if not self._requests:
                self._is_idle.set()
