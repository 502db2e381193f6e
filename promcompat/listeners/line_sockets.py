"""Receives lines on a UDP and a TCP port of one address, with bounded memory."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from promcompat.core.errors import PromcompatError
from promcompat.http.listening import listen_fault

_LOGGER = logging.getLogger(__name__)
_MAX_LINE_BYTES: Final = 1 << 16
_MAX_CONNECTIONS: Final = 1_000
_READ_BYTES: Final = 1 << 13
"""Others have their turn after so many: whoever gets the lines only keeps them."""

TakeLines = Callable[[Sequence[str]], None]
"""Gets the lines of a datagram or of a part of a connection; it must not block, nor read them."""


class ListenerError(PromcompatError):
    """The address of a listener cannot be used; the message says why."""


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, take: TakeLines) -> None:
        self._take = take

    def datagram_received(self, data: bytes, _address: object) -> None:
        self._take(_lines_of(data))


def _lines_of(data: bytes) -> list[str]:
    return data.decode(errors="replace").split("\n")


class _Connections:
    """Reads lines of TCP connections, up to a number of them at a time.

    One more connection replaces the one that has been silent longest: its sender may be gone.
    """

    def __init__(self, take: TakeLines, max_connections: int) -> None:
        self._take = take
        self._max_connections = max_connections
        self._open: dict[asyncio.StreamWriter, None] = {}
        """In the order of when they last sent something."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= self._max_connections:
            silent = next(iter(self._open))
            del self._open[silent]
            silent.transport.abort()
        self._open[writer] = None
        try:
            await self._read(reader, writer)
        except OSError as exc:
            _LOGGER.debug("a connection of a listener was lost", extra={"reason": str(exc)})
        finally:
            self._open.pop(writer, None)
            writer.close()

    def _note(self, writer: asyncio.StreamWriter) -> None:
        if writer in self._open:
            del self._open[writer]
            self._open[writer] = None

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        rest = b""
        while data := await reader.read(_READ_BYTES):
            self._note(writer)
            complete, end, rest = (rest + data).rpartition(b"\n")
            if end:
                self._take(_lines_of(complete))
            if len(rest) > _MAX_LINE_BYTES:
                _LOGGER.warning("a line is too long; its connection is closed")
                return
        if rest:
            self._take(_lines_of(rest))

    def close(self) -> None:
        for writer in self._open:
            writer.close()


@asynccontextmanager
async def listening_for_lines(
    host: str, port: int, take: TakeLines, max_connections: int = _MAX_CONNECTIONS
) -> AsyncIterator[int]:
    """Listen during the block, which gets the port (another one if 0 was asked for).

    Raises ListenerError when the address cannot be used.
    """
    connections = _Connections(take, max_connections)
    async with AsyncExitStack() as opened:
        try:
            server = await asyncio.start_server(connections.serve, host, port)
            opened.callback(connections.close)
            opened.callback(server.close)
            bound: int = server.sockets[0].getsockname()[1]
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _Datagrams(take), local_addr=(host, bound)
            )
            opened.callback(transport.close)
        except (OSError, UnicodeError) as exc:
            raise ListenerError(listen_fault(host, port, exc)) from exc
        yield bound
