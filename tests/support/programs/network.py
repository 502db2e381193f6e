"""A network between a service and its database that can be cut without a word."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class CuttableNetwork:
    """A TCP proxy. While it is cut it accepts and reads, and passes nothing on.

    What was open when it was cut stays dead afterwards, as behind a firewall that forgot it.
    """

    def __init__(self, target_url: str) -> None:
        """`target_url` is the address of the database behind it."""
        self._target = urlsplit(target_url)
        self.is_cut = False
        self._bytes_left: int | None = None
        self._loses_answers = False
        self._dead: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        listening.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._serve, sock=listening)

    @property
    def url(self) -> str:
        """The address of the database through this network."""
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        userinfo = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{userinfo}@127.0.0.1:{port}").geturl()

    def cut(self) -> None:
        """Pass nothing on from now on; nobody is told."""
        self.is_cut = True
        self._dead |= self._open

    def cut_after(self, n_bytes: int) -> None:
        """Cut once clients have sent so many bytes more."""
        self._bytes_left = n_bytes

    def lose_answers(self) -> None:
        """Pass on what clients send, and nothing that comes back."""
        self._loses_answers = True
        self._dead |= self._open

    def mend(self) -> None:
        """Pass on what new connections send; a cut that has not come yet does not come."""
        self.is_cut = self._loses_answers = False
        self._bytes_left = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        if self.is_cut:
            self._dead.add(writer)
        streams = [writer]
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
            streams.append(there[1])
            self._open.add(there[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, there[1], writer))
                group.create_task(self._pass_on(there[0], writer, writer))
        except (OSError, asyncio.CancelledError):
            return
        finally:
            for stream in streams:
                stream.transport.abort()
                self._open.discard(stream)
            self._tasks.discard(task)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        while data := await _read(reader):
            if client in self._dead and (writer is client or not self._loses_answers):
                # Neither read nor closed any more: the sender's buffer fills up.
                await asyncio.Event().wait()
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()
            if writer is not client and self._bytes_left is not None:
                self._bytes_left -= len(data)
                if self._bytes_left <= 0:
                    self._bytes_left = None
                    self.cut()
        if client not in self._dead:
            writer.close()

    async def stop(self) -> None:
        """Close everything."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The next bytes; none at the end, and where the connection was reset."""
    try:
        return await reader.read(1 << 16)
    except ConnectionError:
        return b""


@asynccontextmanager
async def cuttable_network(target_url: str) -> AsyncIterator[CuttableNetwork]:
    """A network to a database for as long as the block lasts."""
    network = CuttableNetwork(target_url)
    await network.start()
    try:
        yield network
    finally:
        await network.stop()
