"""A connection that stays, on which several requests are sent before the first is answered."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LIMIT_BYTES: Final = 1 << 22
_SHOWN_BYTES: Final = 1 << 16
_NO_BODY: Final = (204, 304)


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer as it came: the head, the beginning of the body, and how many seconds it took."""

    status: int
    head: bytes
    body: bytes
    seconds: float


class Channel:
    """Opens a connection when there is none; an answer may end it."""

    def __init__(self, host: str, port: int, answer_seconds: float) -> None:
        self._address = host, port
        self._answer_seconds = answer_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, requests: Sequence[tuple[bytes, bytes]]) -> list[Raw]:
        """The answers to requests, each a head and a body; fewer if the connection ended before.

        Raises TimeoutError when an answer does not come in time.
        """
        reader, writer = await self._open()
        answers = list[Raw]()
        try:
            writer.writelines(part for request in requests for part in request)
            for head, _ in requests:
                started = time.monotonic()
                async with asyncio.timeout(self._answer_seconds):
                    status, shown_head, ends = await _read_head(reader)
                    is_bare = head.startswith(b"HEAD ") or status in _NO_BODY
                    body = b"" if is_bare else await _read_body(reader, shown_head)
                answers.append(Raw(status, shown_head, body, time.monotonic() - started))
                if ends:
                    self.close()
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            self.close()
        except BaseException:
            self.close()
            raise
        return answers

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=_LIMIT_BYTES)
        return self._streams

    def close(self) -> None:
        """End the connection at once."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    """Status and head of an answer, and whether the connection ends with it."""
    status = 100
    while status < 200:
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
    lower = head.lower()
    ends = b"\r\nconnection: close" in lower or not head.startswith(b"HTTP/1.1")
    return status, head, ends or b"text/event-stream" in lower


async def _read_body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The beginning of the body; all of it is read, unless it never ends."""
    lower = head.lower()
    if b"text/event-stream" in lower:
        return b""
    if b"\r\ntransfer-encoding: chunked" in lower:
        return await _read_chunks(reader)
    _, found, length = lower.partition(b"\r\ncontent-length:")
    if found:
        return (await reader.readexactly(int(length.split(b"\r\n", 1)[0])))[:_SHOWN_BYTES]
    return (await reader.read())[:_SHOWN_BYTES]


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    shown = b""
    while n_bytes := int((await reader.readuntil(b"\r\n")).split(b";", 1)[0], 16):
        piece = await reader.readexactly(n_bytes + 2)
        shown += piece[: max(0, min(n_bytes, _SHOWN_BYTES - len(shown)))]
    await reader.readuntil(b"\r\n")
    return shown
